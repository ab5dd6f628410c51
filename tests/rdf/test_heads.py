"""The first entries of a data set, as local ROOT gives them, read from the first ranges only."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client

import dask_root_lambda
from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import GraphError
from tests.conftest import ROOT, write_events

N_FILES = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files of 1,000 entries, 100 in a cluster."""
    folder = tmp_path_factory.mktemp("heads")
    return [write_events(folder / f"{n}.root", value=f"int(rdfentry_) + {1000 * n}") for n in range(N_FILES)]


def frame_of(door, files, npartitions):
    if door == "ours":
        return RDataFrame("Events", files, npartitions=npartitions)
    return ROOT.RDataFrame("Events", files, npartitions=npartitions, executor=Client.current())


def vectors(df):
    return df.Define("v", "ROOT::RVecI(x % 3 + 1, x)").Define("s", 'std::string("e") + std::to_string(x)')


DISPLAYS = {
    "all columns": lambda df: df.Display(),
    "collections and texts": lambda df: vectors(df).Display(["x", "v", "s"], 7),
    "long collections": lambda df: df.Define("w", "ROOT::RVecD(12, pt)").Display(["w"], 2, 4),
    "by a pattern": lambda df: df.Display("x|pt", 3),
    "behind a cut": lambda df: vectors(df).Filter("x % 700 == 600").Display(["x", "v"], 4),
    "behind a cut, fewer than asked for": lambda df: df.Filter("x > 2995").Display(["x"], 40),
    "nothing passes": lambda df: df.Filter("x < 0").Display(["x"], 5),
    "no rows": lambda df: df.Display(["x"], 0),
    "of a Range": lambda df: df.Range(995, 2010, 3).Display(["x", "pt"], 9),
    "an entry's number": lambda df: df.Range(1500, 0).Define("e", "rdfentry_").Display(["e"], 3),
}


@pytest.mark.parametrize("name", DISPLAYS)
@pytest.mark.parametrize("how", ["touch", "compute"])
def test_display(local, files, name, how):
    """The same text, in full and shortened, whatever the division."""
    book = DISPLAYS[name]
    expected = book(ROOT.RDataFrame("Events", files)).GetValue()
    result = book(frame_of("ours", files, 7))
    value = result.GetValue() if how == "touch" else dask.compute(result)[0]
    assert str(value.AsString()) == str(expected.AsString())
    html = ROOT.RDF.RDisplay.RPrintOptions()
    html.fFormat = ROOT.RDF.RDisplay.EPrintFormat.kHtml
    assert str(value.AsString(html)) == str(expected.AsString(html))


def test_display_prints_as_root_does(local, files, capfd):
    """Shortened, where collections are long."""
    book = DISPLAYS["long collections"]
    book(ROOT.RDataFrame("Events", files)).Print()
    expected = capfd.readouterr().out
    book(frame_of("root", files, 5)).Print()
    assert capfd.readouterr().out == expected != ""


RANGES = [(10,), (0, 10), (15, 0), (15, 0, 3), (95, 1205, 7), (2990, 5000), (0, 0), (1000, 1000)]


@pytest.mark.parametrize("given", RANGES)
@pytest.mark.parametrize("door", ["ours", "root"])
def test_ranges(local, files, given, door):
    """Values, their order, sums, histograms and cut flows of chosen entries."""

    def book(df):
        chosen = df.Define("y", "x * 2").Range(*given)
        passed = chosen.Filter("x % 2 == 0", "even")
        histogram = chosen.Histo1D(("h", "", 30, 0.0, 6000.0), "y")
        return [chosen.Count(), passed.Sum("x"), histogram, passed.Report(), chosen.Take["int"]("x")]

    def plain(results):
        count, total, histogram, report, values = (result.GetValue() for result in results)
        cells = [histogram.GetBinContent(cell) for cell in range(32)]
        cuts = [(str(cut.GetName()), cut.GetPass(), cut.GetAll()) for cut in report]
        return [count, total, histogram.GetEntries(), cells, cuts, list(values)]

    expected = plain(book(ROOT.RDataFrame("Events", files)))
    assert plain(book(frame_of(door, files, 7))) == expected


def test_ranges_of_frames_without_files(local):
    """Entries are counted from the first of all."""
    values = RDataFrame(1000, npartitions=4).Define("x", "int(rdfentry_)").Range(3, 900, 100).Take["int"]("x")
    assert list(values.GetValue()) == list(range(3, 900, 100))


def test_only_the_first_ranges_are_read(local, files):
    """Two of many ranges, and no file that they do not need; other results are computed apart."""
    frame = frame_of("ours", files, 30)
    few, count = frame.Range(150).AsNumpy(["x"], lazy=True), frame.Count()
    assert list(few.GetValue()["x"]) == list(range(150))
    assert not count.computed
    read = local.report().total
    assert (read.ranges, read.entries) == (2, 200)
    assert "150" in str(frame.Range(149, 151).Display(["x"]).AsString())
    assert local.report().total.ranges == 4
    assert count.GetValue() == 3000


def test_rows_behind_a_cut_are_looked_for_among_more_and_more_entries(local, files, monkeypatch, capfd):
    """Where the first entries have too few of them."""
    monkeypatch.setattr("dask_root_lambda.rdf.heads.FIRST_SEARCH", 100)
    monkeypatch.setattr("dask_root_lambda.rdf.heads.SEARCH_GROWTH", 3)
    display = frame_of("ours", files, 30).Filter("x >= 250").Display(["x"], 2)
    expected = ROOT.RDataFrame("Events", files).Filter("x >= 250").Display(["x"], 2)
    assert str(display.AsString()) == str(expected.AsString())
    assert [run.ranges for run in local.report().runs] == [1, 3]
    assert "stopped processing" not in capfd.readouterr().err


def test_an_estimate_of_them_is_refused(local, files):
    """It would run as much as they do."""
    frame = frame_of("ours", files, 30)
    for result in (frame.Range(10).Count(), frame.Display(["x"]), frame.Filter("x > 3").Display(["x"])):
        with pytest.raises(GraphError, match="the first entries only"):
            dask_root_lambda.estimate(result)


def test_where_files_are_left_out(local, files, tmp_path, monkeypatch):
    """Rows are looked for in those that can be read; Range is refused."""
    (tmp_path / "damaged.root").write_bytes(Path(files[0]).read_bytes()[:5000])
    given = [str(tmp_path / "damaged.root"), *files]
    frame = RDataFrame("Events", given, npartitions=4, skip_unreadable=True)
    monkeypatch.setattr("dask_root_lambda.rdf.heads.FIRST_SEARCH", 100)
    display = frame.Filter("x > 1500").Display(["x"], 2)
    assert "1501" in str(display.AsString())
    with pytest.raises(GraphError, match="do without skip_unreadable"):
        frame.Range(10)


TAKES = {
    "numbers": lambda df: df.Take["int"]("x"),
    "an alias of the type": lambda df: df.Take["Int_t"]("x"),
    "another collection": lambda df: df.Take["int", "ROOT::RVec<int>"]("x"),
    "truth values": lambda df: df.Define("b", "x > 5").Take["bool"]("b"),
    "texts": lambda df: vectors(df).Take["std::string"]("s"),
    "vectors of vectors": lambda df: df.Define("n", "std::vector<std::vector<int>>{{1, 2}, {3, x}}").Take[
        "std::vector<std::vector<int>>"
    ]("n"),
    "vectors": lambda df: vectors(df).Take["ROOT::VecOps::RVec<int>"]("v"),
    "nothing": lambda df: df.Filter("x < 0").Take["float"]("pt"),
    "a Python type": lambda df: df.Take[float]("pt"),
}


@pytest.mark.parametrize("name", TAKES)
def test_take(local, files, name):
    """The same collection, in the order of the entries, touched and computed."""
    book = TAKES[name]
    expected = book(ROOT.RDataFrame("Events", files)).GetValue()
    result = book(frame_of("ours", files, 7))
    for value in (result.GetValue(), dask.compute(result)[0], dask.persist(result)[0].GetValue()):
        assert type(value) is type(expected)
        assert value.size() == expected.size()
        assert all(np.array_equal(one, other) for one, other in zip(value, expected, strict=True))


@pytest.mark.parametrize("kind", ["std::vector<{}>", "vector<{}>", "ROOT::VecOps::RVec<{}>"])
@pytest.mark.parametrize(("column", "element"), [("v", "float"), ("w", "int"), ("s", "std::string")])
def test_take_of_collections_in_files(local, tmp_path, column, element, kind):
    """They can be had as a vector as well as an RVec, as in local ROOT."""
    path = str(tmp_path / "collections.root")
    written = ROOT.RDataFrame(7).Define("v", "ROOT::RVecF(rdfentry_ % 3, 0.5f * rdfentry_)")
    written = written.Define("w", "std::vector<int>(rdfentry_ % 3, rdfentry_)")
    written = written.Define("s", "std::vector<std::string>(rdfentry_ % 2, std::to_string(rdfentry_))")
    written.Snapshot("t", path)
    expected = ROOT.RDataFrame("t", path).Take[kind.format(element)](column).GetValue()
    value = RDataFrame("t", path, npartitions=3).Take[kind.format(element)](column).GetValue()
    assert type(value) is type(expected)
    assert [list(row) for row in value] == [list(row) for row in expected]


def test_describe(local, files):
    """What local ROOT says before it has run; nothing runs here either."""
    expected = ROOT.RDataFrame("Events", files).Define("y", "x * 2").Describe().AsString()
    frame = frame_of("ours", files, 7).Define("y", "x * 2")
    assert str(frame.Describe().AsString()) == str(expected)
    assert local.report().total.invocations == 0


def test_save_graph(local, files, tmp_path):
    """Frames, nodes and results, drawn as ROOT draws them; into a file too; nothing runs."""

    def draw(df, variations):
        cut = df.Define("y", "x * 2").Vary("x", "ROOT::RVecI{x, x + 1}", 2).Filter("x > 3", "A")
        lazy = ROOT.RDF.RSnapshotOptions()
        lazy.fLazy = True
        results = [cut.Count(), df.Histo1D(("h", "", 5, 0, 1), "x"), cut.AsNumpy(["x", "y"], lazy=True)]
        results += [variations(results[0]), df.Range(5).Display(["x"]), cut.Report()]
        results.append(cut.Snapshot("t", str(tmp_path / "out.root"), ["x"], lazy))
        ROOT.RDF.SaveGraph(df, str(tmp_path / "graph.dot"))
        drawn = [ROOT.RDF.SaveGraph(each) for each in (df, cut, results[0])]
        return [*map(str, drawn), (tmp_path / "graph.dot").read_text()]

    expected = draw(ROOT.RDataFrame("Events", files), ROOT.RDF.Experimental.VariationsFor)
    assert draw(frame_of("ours", files, 3), ROOT.RDF.Distributed.VariationsFor) == expected
    assert local.report().total.invocations == 0


@pytest.mark.parametrize(
    ("book", "message"),
    [
        (lambda df: df.Filter("x > 3").Range(5), r"Range behind a cut.*Use Display"),
        (lambda df: df.Range(5).Range(3), r"Range behind a cut, or behind another Range"),
        (lambda df: df.Range(5, 2), "end has to be greater than begin"),
        (lambda df: df.Range(1, 2, 0), "stride at least 1"),
        (lambda df: df.Range("x"), r"no such arguments"),
        (lambda df: df.Range(), r"no such arguments"),
        (lambda df: df.Redefine("rdfentry_", "rdfentry_ + 1").Range(5), "rdfentry_, which is redefined"),
        (lambda df: df.Display(["z"]), "no column 'z'"),
        (lambda df: df.Display("z.*"), "Display: "),
        (lambda df: df.Display(["x"], -1), "Display takes columns, nRows"),
        (lambda df: df.Take["double"]("x"), r"Take\['double'\]\('x'\): the column's type is Int_t"),
        (
            lambda df: vectors(df).Take["std::vector<int>"]("v"),
            r"the column's type is ROOT::VecOps::RVec",
        ),
        (lambda df: df.Take("x"), r"Take needs the type"),
        (lambda df: df.Take["int", "std::set<int>"]("x"), "has to be a vector or an RVec"),
        (lambda df: df.Take["int"]("z"), "no column 'z'"),
    ],
)
def test_what_cannot_be_is_told_where_it_is_booked(files, book, message):
    """With what to do instead."""
    with pytest.raises(GraphError, match=message):
        book(frame_of("ours", files, 3))
