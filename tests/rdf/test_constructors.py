"""RDataFrame takes every constructor that DistRDF accepts, and what reads nothing or little is right."""

from __future__ import annotations

import dask
import pytest

from dask_root_lambda import RDataFrame
from tests.conftest import ROOT, write_events

SUM = 499500.0


def test_lists_patterns_chains_trees_and_directories(tmp_path, local):
    """Files by name, list, pattern, TChain, TTree and TDirectory give the same entries."""
    files = [write_events(tmp_path / f"part{index}.root", entries=200) for index in range(2)]
    chain = ROOT.TChain("Events")
    for file in files:
        chain.Add(file)
    opened = ROOT.TFile(files[0])
    frames = [
        RDataFrame("Events", files),
        RDataFrame("Events", str(tmp_path / "part*.root")),
        RDataFrame("Events", ROOT.std.vector["std::string"](files)),
        RDataFrame(chain),
        RDataFrame("Events", opened),
        RDataFrame(opened.Get("Events")),
    ]
    assert dask.compute(*(frame.Count() for frame in frames)) == (400, 400, 400, 400, 200, 200)


def test_trees_in_directories_of_a_file(tmp_path, local):
    """A tree, its directory, and its path, with a slash before it or not, give what local ROOT gives."""
    path = str(tmp_path / "directory.root")
    with ROOT.TFile.Open(path, "RECREATE") as file:
        file.mkdir("sub").cd()
        tree = ROOT.TTree("Events", "")
        for _ in range(10):
            tree.Fill()
        tree.Write()
    opened = ROOT.TFile.Open(path)
    for source in (
        (opened.Get("sub/Events"),),
        ("Events", opened.Get("sub")),
        ("sub/Events", path),
        ("/sub/Events", path),
    ):
        frame = RDataFrame(*source, npartitions=2)
        assert frame.Count().GetValue() == ROOT.RDataFrame(*source).Count().GetValue() == 10


def test_friends(tmp_path, local):
    """A chain with a friend reads both side by side, whatever the ranges."""
    main = write_events(tmp_path / "main.root")
    friend = write_events(tmp_path / "friend.root", value="int(rdfentry_) * 10", tree="Other")
    chain, other = ROOT.TChain("Events"), ROOT.TChain("Other")
    chain.Add(main)
    other.Add(friend)
    chain.AddFriend(other, "other")
    frame = RDataFrame(chain, npartitions=3)
    assert frame.Define("both", "x + other.x").Sum("both").GetValue() == SUM * 11


def test_specifications(tmp_path, events_file, local):
    """A dataset specification, with metadata per sample, as an object and as JSON."""
    import json

    spec = {"samples": {"data": {"trees": ["Events"], "files": [events_file], "metadata": {"lumi": 2.5}}}}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    frame = RDataFrame.from_spec(str(path), npartitions=3)
    weighted = frame.DefinePerSample("lumi", 'rdfsampleinfo_.GetD("lumi")').Sum("lumi")
    assert dask.compute(weighted, frame.Count()) == (2500.0, 1000)


def test_rntuple(tmp_path, local):
    """An RNTuple is read by its clusters."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    path = str(tmp_path / "ntuple.root")
    ROOT.RDataFrame(500).Define("x", "int(rdfentry_)").Snapshot("Events", path, ["x"], options)
    assert (
        dask.compute(*(RDataFrame("Events", path, npartitions=n).Sum("x") for n in (1, 3))) == (124750.0,) * 2
    )


@pytest.mark.parametrize("sizes", [(5, 0), (0, 5, 0, 3, 0)])
def test_rntuples_without_entries(tmp_path, local, sizes):
    """Beside others they change nothing; ROOT ends the process when it is asked for their clusters."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    files = [str(tmp_path / f"{place}.root") for place in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        ROOT.RDataFrame(size).Define("x", "int(rdfentry_)").Snapshot("Events", file, ["x"], options)
    whole = ROOT.RDataFrame("Events", files)
    expected = whole.Count().GetValue(), whole.Sum("x").GetValue()
    for npartitions in (1, 2, 7):
        frame = RDataFrame("Events", files, npartitions=npartitions)
        assert dask.compute(frame.Count(), frame.Sum("x")) == expected


def test_only_rntuples_without_entries(tmp_path, local):
    """They have their (empty) results; local ROOT crashes."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    path = str(tmp_path / "none.root")
    ROOT.RDataFrame(0).Define("x", "int(rdfentry_)").Snapshot("Events", path, ["x"], options)
    assert RDataFrame("Events", path, npartitions=2).Count().GetValue() == 0


@pytest.mark.parametrize("entries", [0, 1, 2, 7])
def test_numbers_of_entries(entries, local):
    """No entries, one, and fewer than partitions are all right."""
    frame = RDataFrame(entries, npartitions=3).Define("x", "double(rdfentry_)")
    assert dask.compute(frame.Count(), frame.Sum("x")) == (entries, sum(range(entries)))


def test_no_entries_give_what_root_gives(tmp_path, local):
    """Trees without entries have local ROOT's empty results; beside others they change nothing."""
    empty = write_events(tmp_path / "empty.root", entries=0)
    full = write_events(tmp_path / "full.root", entries=100)
    reference = ROOT.RDataFrame("Events", empty)
    frame = RDataFrame("Events", empty, npartitions=3)
    histogram, *numbers = dask.compute(
        frame.Histo1D(("h", "", 5, 0, 1), "x"),
        frame.Count(),
        frame.Mean("x"),
        frame.Min("x"),
        frame.Max("x"),
    )
    assert histogram.GetEntries() == 0
    actions = (("Count",), ("Mean", "x"), ("Min", "x"), ("Max", "x"))
    assert numbers == [getattr(reference, name)(*args).GetValue() for name, *args in actions]
    mixed = RDataFrame("Events", [empty, full, empty], npartitions=5)
    assert dask.compute(mixed.Count(), mixed.Mean("x"), mixed.Min("x")) == (100, 49.5, 0.0)


def test_one_entry(tmp_path, local):
    """A single entry in more partitions than entries."""
    one = write_events(tmp_path / "one.root", entries=1)
    frame = RDataFrame("Events", one, npartitions=4)
    assert dask.compute(frame.Count(), frame.Sum("x")) == (1, 0.0)


def test_fewer_clusters_than_ranges(events_file, local):
    """There are as many ranges as clusters; the result is right, and the report says why."""
    assert RDataFrame("Events", events_file, npartitions=25).Sum("x").GetValue() == SUM
    assert (local.report().total.ranges, local.report().total.empty) == (10, 0)
    assert "10 ranges and not 25, as asked for" in str(local.report())


def test_the_same_file_twice(events_file, local):
    """A file that is listed twice counts twice."""
    frame = RDataFrame("Events", [events_file, events_file], npartitions=3)
    assert dask.compute(frame.Count(), frame.Sum("x")) == (2000, 2 * SUM)


def test_the_default_number_of_ranges(events_file, tmp_path, local):
    """As many ranges as run at once, but no more than there are clusters."""
    assert RDataFrame("Events", events_file).Count().GetValue() == 1000
    assert local.report().total.ranges == 2
    small = write_events(tmp_path / "small.root", entries=50)
    assert RDataFrame("Events", small).Count().GetValue() == 50
    assert local.report().total.ranges == 3
