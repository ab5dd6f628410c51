"""Quantities of the whole data set: a range gives what local ROOT gives over all of it."""

from __future__ import annotations

import numpy as np
import pytest

from dask_root_lambda import RDataFrame
from tests.conftest import ROOT

LENGTHS = (300, 1, 0, 450, 120)


def write(path, *, entries, first=0, tree="Events", mode="RECREATE", rntuple=False):
    """Write ``x``, which counts from ``first``, in clusters of 50 entries."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fMode = mode
    if rntuple:
        options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    else:
        options.fAutoFlush = 50
    frame = ROOT.RDataFrame(entries).Define("x", f"{first} + double(rdfentry_)")
    frame.Snapshot(tree, str(path), ["x"], options)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data sets of files of several lengths, one of them empty; their ``x`` is the entry of the data set."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in ("tree", "rntuple"):
        first = 0
        for index, entries in enumerate(LENGTHS):
            write(folder / f"{kind}{index}.root", entries=entries, first=first, rntuple=kind == "rntuple")
            first += entries
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    """The user's directory is that of the data sets."""
    monkeypatch.chdir(folder)
    return folder


def names(kind="tree"):
    return [f"{kind}{index}.root" for index in range(len(LENGTHS))]


def specification(*, friends=False):
    spec = ROOT.RDF.Experimental.RDatasetSpec()
    spec.AddSample(("one", "Events", names()[:3])).AddSample(("two", "Events", names()[3:]))
    if friends:
        spec.WithGlobalFriends("Events", names(), "friend")
    return spec


def chain(*, friends=False):
    chain = ROOT.TChain("Events")
    for name in names():
        chain.Add(name)
    if friends:
        friend = ROOT.TChain("Events")
        for name in reversed(names()):
            friend.Add(name)
        chain.AddFriend(friend, "friend")
        chain.friend = friend
    return chain


SOURCES = {
    "files": lambda: ("Events", names()),
    "RNTuples": lambda: ("Events", names("rntuple")),
    "specification": lambda: (specification(),),
    "chain": lambda: (chain(),),
    "friends": lambda: (chain(friends=True),),
    "specification with friends": lambda: (specification(friends=True),),
    "a file twice": lambda: ("Events", [*names(), names()[0]]),
    "entries": lambda: (871,),
}


@pytest.fixture(params=SOURCES)
def source(request, here):
    """Makes the arguments of a constructor."""
    return SOURCES[request.param]


def results(actions):
    return [action.GetValue() for action in actions]


class TestEntryNumbers:
    """``rdfentry_`` and ``tdfentry_`` are the numbers of entries in the data set."""

    @staticmethod
    def book(frame):
        defined = frame.Define("w", "double(tdfentry_)")
        again = frame.Redefine("rdfentry_", "rdfentry_ * 2")
        varied = frame.Vary("rdfentry_", "ROOT::RVec<ULong64_t>{rdfentry_ + 7}", 1)
        histogram = frame.Histo1D(("h", "", 9, 0, 900), "rdfentry_")
        return [
            frame.Filter("rdfentry_ < 310").Count(),
            defined.Sum("w"),
            defined.Filter("w > 299 && w < 305").Max("rdfentry_"),
            again.Sum("rdfentry_"),
            varied.Max("rdfentry_"),
            frame.Alias("n", "rdfentry_").Mean("n"),
            frame.Sum("tdfentry_"),
        ], histogram

    @pytest.mark.parametrize("npartitions", [1, 3, 7])
    def test_numbers(self, local, source, npartitions):
        """Wherever they are named, of whichever data set, in however many ranges."""
        ours, histogram = self.book(RDataFrame(*source(), npartitions=npartitions))
        roots, expected = self.book(ROOT.RDataFrame(*source()))
        assert results(ours) == results(roots)
        assert list(histogram.GetValue()) == list(expected.GetValue())

    def test_columns(self, local, here):
        """What is written and read as columns."""
        frame = RDataFrame("Events", names(), npartitions=4)
        columns = frame.AsNumpy(["rdfentry_", "x"])
        assert np.array_equal(columns["rdfentry_"], columns["x"])
        copied = frame.Define("n", "rdfentry_").Snapshot("Copy", str(here / "copy.root"), ["n", "x"])
        assert copied.Filter("n != x").Count().GetValue() == 0

    def test_graphs_side_by_side(self, local, here):
        """Ranges of several graphs and threads in one process, whose compiled graphs are used again."""
        frames = [RDataFrame("Events", names()[index:], npartitions=6) for index in (0, 1, 3)]
        offsets = [sum(LENGTHS[:index]) for index in (0, 1, 3)]
        for _ in range(2):
            wrong = [
                frame.Filter(f"rdfentry_ + {offset} != x").Count()
                for frame, offset in zip(frames, offsets, strict=True)
            ]
            assert ROOT.RDF.RunGraphs(wrong) == 3
            assert results(wrong) == [0, 0, 0]

    def test_in_environments(self, emulated, here):
        """Where ranges run in other processes, with compiled graphs that are used again."""
        with emulated.get_client():
            for kind in ("tree", "rntuple"):
                frame = RDataFrame("Events", names(kind), npartitions=6)
                assert frame.Filter("rdfentry_ != x").Count().GetValue() == 0

    def test_files_are_counted_only_where_it_is_named(self, local, here, monkeypatch):
        """Nobody opens files for other graphs."""
        monkeypatch.setattr("dask_root_lambda.rdf.whole.entries", None)
        frame = RDataFrame("Events", names(), npartitions=4)
        assert frame.Define("rdfentry_x", "x").Sum("rdfentry_x").GetValue() == sum(range(871))


class TestSampleInformation:
    """``rdfsampleinfo_`` tells what it tells in local ROOT, of whole files, under the user's names."""

    EXPRESSIONS = (
        'rdfsampleinfo_.Contains("whole") ? 1. : 0.',
        'rdfsampleinfo_.AsString() == "tree0.root/Events" ? 1. : 0.',
        'if (rdfsampleinfo_.Contains("tree3")) return 3.; return 0.;',
        "double(rdfsampleinfo_.NEntries())",
        "double(rdfsampleinfo_.NEntriesTotal())",
        "double(rdfsampleinfo_.EntryRange().second)",
        "double(rdfsampleinfo_.AsString().size()) // with a comment",
        "rdfsampleinfo_.Empty() ? 1. : 0.",
    )

    @classmethod
    def book(cls, frame):
        return [frame.DefinePerSample("k", expression).Sum("k") for expression in cls.EXPRESSIONS]

    @pytest.mark.parametrize("npartitions", [1, 4])
    def test_information(self, local, source, npartitions):
        """Names, and lengths, of files of whichever data set."""
        ours = results(self.book(RDataFrame(*source(), npartitions=npartitions)))
        roots = results(self.book(ROOT.RDataFrame(*source())))
        if source is SOURCES["RNTuples"]:
            # Local ROOT takes the length of the first file for that of the others.
            roots[4] = float(sum(length**2 for length in LENGTHS))
        assert ours == roots

    @pytest.mark.parametrize(
        "name", ["./tree0.root", "$WHOLE/tree0.root", "~/tree0.root", "tree[0-1].root", "./tree*.root"]
    )
    def test_names(self, local, here, monkeypatch, name):
        """However the user writes them: expanded as ROOT does it, and not otherwise."""
        monkeypatch.setenv("WHOLE", ".")
        monkeypatch.setenv("HOME", str(here))
        expression = "double(std::hash<std::string>()(rdfsampleinfo_.AsString()) % 1000)"
        ours, roots = (
            make("Events", name).DefinePerSample("k", expression).Sum("k").GetValue()
            for make in (RDataFrame, ROOT.RDataFrame)
        )
        assert ours == roots

    def test_in_environments(self, emulated, here):
        """Where ranges run in other processes, in other directories."""
        with emulated.get_client():
            assert results(self.book(RDataFrame("Events", names(), npartitions=4))) == results(
                self.book(ROOT.RDataFrame("Events", names()))
            )
