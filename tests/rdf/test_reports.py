"""Reports of the frame itself list what local ROOT lists, whatever leads to an action."""

from __future__ import annotations

import gc

import dask
import pytest
from distributed import Client

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import GraphError
from tests.conftest import ROOT, write_events


def tutorial(df, _):
    """As ROOT's tutorial df004_cutFlowReport: named cuts of one branch and of another, one without a name."""
    first = df.Filter("x > 250", "first")
    second = first.Filter("pt < 25", "second")
    augmented = second.Define("b", "x * 2")
    third = augmented.Filter("b < 1500", "third")
    return [df.Report(), third.Report()], [first, second, third]


def without_actions(df, _):
    """Cuts that lead to nothing, behind one without a name too, and one that nobody holds."""
    kept = [df.Filter("x < 20", "A"), df.Filter("x > 900").Filter("pt > 10", "B")]
    df.Filter("x < 3", "dropped")
    return [df.Report(), df.Count()], kept


def booked_later(df, _):
    """What is booked after the report, and before it runs; or is dropped before that."""
    report = df.Report()
    kept, dropped = df.Filter("x < 20", "A"), df.Filter("x < 30", "B")
    del dropped
    gc.collect()
    return [report], [kept, df.Filter("x < 40", "C")]


def after_a_run(df, _):
    """A second report lists what there is then; what has computed results is there while they are held."""
    kept = df.Filter("x < 20", "A")
    first = df.Report()
    first.GetValue()
    count, other = kept.Filter("x < 5", "B").Count(), df.Filter("x < 6", "C").Count()
    count.GetValue()
    del other
    return [first, df.Report(), count], [kept]


def varied(df, variations):
    """The cuts of variations come when they are asked for, and are listed though they are computed."""
    node = df.Vary("x", "ROOT::RVecI{x - 200, x + 200}", 2)
    cut = node.Filter("x < 300", "V")
    count = cut.Filter("x > 50", "W").Count()
    first = variations(count)
    later = node.Filter("x < 500", "later")
    report = df.Report()
    report.GetValue()
    last = variations(later.Sum("x"))
    return [report, node.Report(), later.Report()], [cut, first, last]


def defined(df, _):
    """What defines a column is no frame to ROOT, and has no cuts."""
    kept = df.Filter("x < 20", "A")
    return [df.Define("y", "x").Report(), df.Alias("z", "x").Report(), kept.Report()], [kept]


def outlived(df, _):
    """Arrays and histograms keep the cuts that they were made behind; numbers do not."""
    arrays = df.Filter("x < 20", "A").AsNumpy(["x"])
    histogram = df.Filter("x < 30", "B").Histo1D(("h", "", 5, 0.0, 50.0), "x").GetValue()
    df.Filter("x < 40", "C").Count().GetValue()
    df.Filter("x < 50", "D").AsNumpy(["x"])
    gc.collect()
    return [df.Report()], [arrays, histogram]


GRAPHS = (tutorial, without_actions, booked_later, after_a_run, varied, defined, outlived)


def listed(report):
    return [(str(cut.GetName()), cut.GetPass(), cut.GetAll()) for cut in report], str(report.AsString())


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("door", ["ours", "root"])
def test_they_are_those_of_local_root(local, tmp_path_factory, graph, door):
    """Same cuts, same order, same numbers, same text; of several files, in more ranges than threads."""
    folder = tmp_path_factory.mktemp("reports")
    files = [write_events(folder / f"{n}.root", value=f"int(rdfentry_) - {n}") for n in range(2)]
    expected, _ = graph(ROOT.RDataFrame("Events", files), ROOT.RDF.Experimental.VariationsFor)
    wanted = [listed(each) if hasattr(each, "AsString") else each.GetValue() for each in expected]
    if door == "ours":
        frame = RDataFrame("Events", files, npartitions=7)
    else:
        frame = ROOT.RDataFrame("Events", files, npartitions=7, executor=Client.current())
    found, _ = graph(frame, ROOT.RDF.Distributed.VariationsFor)
    assert [listed(each) if hasattr(each, "AsString") else each.GetValue() for each in found] == wanted


@pytest.mark.parametrize("entries", [0, 10])
def test_frames_without_files(local, entries):
    """Nothing is read, nothing passes."""
    frame = RDataFrame(entries, npartitions=3)
    kept = frame.Filter("rdfentry_ % 2 == 0", "even")
    (report,) = dask.compute(frame.Report())
    assert listed(report)[0] == [("even", entries // 2, entries)]
    del kept


def test_cuts_of_variations_that_are_held_no_more(local, events_file):
    """Local ROOT keeps them with the cut that they vary; refused, and right once that is gone too."""
    frame = RDataFrame("Events", events_file, npartitions=3)
    cut = frame.Vary("x", "ROOT::RVecI{x, x + 1}", 2).Filter("x < 10", "A")
    ROOT.RDF.Distributed.VariationsFor(cut.Count())["nominal"]
    report = frame.Report()
    with pytest.raises(GraphError, match=r"cuts of variations .* keep what VariationsFor returned"):
        report.GetValue()
    del cut
    assert listed(report)[0] == []
