"""Results are as good as the objects they stand for: for ROOT's users, and for other libraries."""

from __future__ import annotations

import copy
import pickle

import boost_histogram
import dask
import hist
import matplotlib as mpl
import mplhep
import pytest
import uproot
from dask.distributed import Client

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import GraphError
from tests.conftest import ROOT

mpl.use("Agg")
LOCAL, OURS = "local", "ours"


@pytest.fixture
def frame(events_file, local):
    return RDataFrame("Events", events_file, npartitions=3)


@pytest.fixture
def histogram(frame):
    return frame.Histo1D(("h", "title", 4, 0, 1000), "x")


class TestRootsNames:
    """What ``RResultPtr`` has."""

    def test_is_ready(self, frame, local):
        """Asking computes nothing; what was computed beside it is ready, too."""
        count, total = frame.Count(), frame.Sum("x")
        assert not count.IsReady()
        assert local.report().total.ranges == 0
        count.GetValue()
        assert count.IsReady()
        assert total.IsReady()

    def test_a_persisted_one_is_ready(self, frame):
        """When it has arrived."""
        (count,) = dask.persist(frame.Count())
        assert count.GetValue() == 1000
        assert count.IsReady()

    def test_pointers(self, frame, histogram):
        """They are the value."""
        assert isinstance(histogram.GetPtr(), ROOT.TH1D)
        assert histogram.GetSharedPtr() is histogram.GetValue()
        total = ROOT.TH1D("sum", "", 4, 0, 1000)
        assert total.Add(histogram.GetPtr())
        assert frame.Count().GetPtr() == 1000

    def test_methods(self, histogram):
        """Those of the value."""
        assert (histogram.GetName(), histogram.GetTitle(), histogram.GetNbinsX()) == ("h", "title", 4)
        histogram.Scale(2)
        assert histogram.GetBinContent(1) == 500

    def test_iteration(self, frame):
        """A report is gone through, as a local one."""
        report = frame.Filter("x > 9", "first").Filter("pt > 3", "second").Report()
        assert [cut.GetName() for cut in report] == ["first", "second"]
        arrays = frame.AsNumpy(["x"], lazy=True)
        assert "x" in arrays
        assert arrays["x"].sum() == 499_500

    def test_partial_results(self, histogram, local):
        """Nobody has them; that is told at once."""
        with pytest.raises(GraphError, match="OnPartialResult is not possible"):
            histogram.OnPartialResult(10, print)
        assert local.report().total.ranges == 0


class TestOtherLibraries:
    """They take a result as the histogram."""

    def test_hist_and_boost_histogram(self, histogram):
        """Both make one of theirs."""
        for made in (hist.Hist(histogram), boost_histogram.Histogram(histogram)):
            assert made.values().tolist() == [250.0] * 4
            assert made.axes[0].edges.tolist() == [0.0, 250.0, 500.0, 750.0, 1000.0]

    def test_outside_of_the_axis(self, frame):
        """Underflow and overflow come along."""
        histogram = frame.Histo1D(("h", "", 4, 100, 500), "x")
        assert hist.Hist(histogram).values(flow=True).tolist() == [100.0, 100.0, 100.0, 100.0, 100.0, 500.0]

    def test_mplhep(self, frame, histogram):
        """It draws."""
        (drawn,) = mplhep.histplot(histogram, w2method="sqrt")
        assert drawn.stairs.get_data().values.tolist() == [250.0] * 4
        assert mplhep.hist2dplot(frame.Histo2D(("h", "", 2, 0, 1000, 2, 0, 50), "x", "pt"))

    def test_uproot(self, histogram, tmp_path):
        """It writes the value, like any object of ROOT's."""
        with uproot.recreate(tmp_path / "h.root") as file:
            file["h"] = histogram.GetValue()
        with uproot.open(tmp_path / "h.root") as file:
            assert file["h"].values().tolist() == [250.0] * 4


class TestCopies:
    """A result is one, however it is named."""

    def test_copies_are_itself(self, frame):
        """A copy that goes does not take the action along."""
        count = frame.Count()
        for duplicate in (copy.copy, copy.deepcopy):
            assert duplicate(count) is count
        assert count.GetValue() == 1000

    def test_pickling(self, frame, histogram):
        """It travels as its value, once there is one."""
        with pytest.raises(GraphError, match=r"<Result of Histo1D.*> has no value yet.*GetValue"):
            pickle.dumps(histogram)
        count = frame.Count()
        histogram.GetValue()
        assert pickle.loads(pickle.dumps(histogram)).GetEntries() == 1000
        assert pickle.loads(pickle.dumps({"n": count})) == {"n": 1000}
        (persisted,) = dask.persist(frame.Sum("x"))
        persisted.GetValue()
        assert pickle.loads(pickle.dumps(persisted)) == 499_500

    def test_pickled_variations(self, frame):
        """So do variations."""
        varied = frame.Vary("pt", "ROOT::RVecF{pt * 0.5f, pt * 2.f}", ["down", "up"]).Sum("pt")
        sums = ROOT.RDF.Experimental.VariationsFor(varied)
        sums.GetValue()
        arrived = pickle.loads(pickle.dumps(sums))
        assert [arrived[name] for name in arrived] == [24500.0, 12250.0, 49000.0]


def nd_model(kind):
    return getattr(ROOT.RDF, kind)("n", "", 2, [5, 4], [0.0, 0.0], [1000.0, 50.0])


VARIED = {
    "Histo1D": lambda f: f.Histo1D(("h", "title", 4, 0, 1000), "v"),
    "Histo2D": lambda f: f.Histo2D(("h", "title", 4, 0, 1000, 3, 0, 50), "v", "pt"),
    "Histo3D": lambda f: f.Histo3D(("h", "title", 4, 0, 1000, 3, 0, 50, 2, 0, 5), "v", "pt", "w"),
    "HistoND": lambda f: f.HistoND(nd_model("THnDModel"), ["v", "pt"]),
    "HistoNSparseD": lambda f: f.HistoNSparseD(nd_model("THnSparseDModel"), ["v", "pt"]),
    "Profile1D": lambda f: f.Profile1D(("p", "title", 4, 0, 1000), "v", "pt"),
    "Profile2D": lambda f: f.Profile2D(("p", "title", 4, 0, 1000, 3, 0, 50), "v", "pt", "w"),
    "Graph": lambda f: f.Graph("v", "pt"),
    "GraphAsymmErrors": lambda f: f.GraphAsymmErrors("v", "pt", "w", "w", "w", "w"),
    "Stats": lambda f: f.Stats("v"),
    "Count": lambda f: f.Filter("v > 500").Count(),
    "Sum": lambda f: f.Sum("v"),
}


def booked(frame):
    prepared = frame.Define("v", "1. * x").Define("w", "2.")
    varied = prepared.Vary(["v"], "ROOT::RVec<ROOT::RVecD>{{v * 0.5, v * 2}}", ["down", "up"], "jes")
    return {name: book(varied) for name, book in VARIED.items()}


def plain(value):
    """Return the name and the content of a result."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, ROOT.TGraph):
        content = sorted(zip(list(value.GetX()), list(value.GetY()), strict=True))
    elif isinstance(value, ROOT.TStatistic):
        content = [value.GetN(), value.GetMean()]
    else:
        flat = value.Projection(1, 0) if isinstance(value, ROOT.THnBase) else value
        content = [flat.GetBinContent(cell) for cell in range(flat.GetNcells())] + [value.GetEntries()]
    return value.GetName(), value.GetTitle(), content


@pytest.fixture(scope="module")
def expected(events_file):
    """Local ROOT's."""
    results = booked(ROOT.RDataFrame("Events", events_file))
    varied = {name: ROOT.RDF.Experimental.VariationsFor(result) for name, result in results.items()}
    return {name: {str(key): plain(each[key]) for key in each.GetKeys()} for name, each in varied.items()}


class TestVariations:
    """From both doors, of what is computed and what is not."""

    @pytest.mark.parametrize(
        ("door", "namespace", "before"),
        [("ours", "Distributed", False), ("ours", "Experimental", True), ("ROOT's", "Experimental", True)],
    )
    def test_names_and_contents(self, local, events_file, expected, door, namespace, before):
        """Keys, names, titles and contents are those of local ROOT, of each action."""
        if door == "ours":
            frame = RDataFrame("Events", events_file, npartitions=4)
        else:
            frame = ROOT.RDataFrame("Events", events_file, npartitions=4, executor=Client.current())
        nominal = booked(frame)
        if before:
            nominal["Sum"].GetValue()
        found = {name: getattr(ROOT.RDF, namespace).VariationsFor(each) for name, each in nominal.items()}
        for name, variations in found.items():
            assert variations.GetValue().GetKeys() == ["nominal", "jes:down", "jes:up"]
            for key in variations:
                assert plain(variations[key]) == expected[name][key], name

    def test_run_graphs_of_what_is_computed(self, frame, local):
        """It is not computed again, and none is no error."""
        count = frame.Count()
        assert count.GetValue() == 1000
        ranges = local.report().total.ranges
        assert ROOT.RDF.RunGraphs([count]) == 0
        assert local.report().total.ranges == ranges
        assert ROOT.RDF.RunGraphs([count, frame.Sum("x")]) == 1
        assert local.report().total.ranges == 2 * ranges

    def test_variations_of_what_has_none(self, frame, tmp_path):
        """Told at the user's line; local ROOT crashes for a cut-flow report."""
        lazy = ROOT.RDF.RSnapshotOptions()
        lazy.fLazy = True
        varied = ROOT.RDF.Experimental.VariationsFor(frame.Vary("x", "ROOT::RVecI{x, x}", 2).Sum("x"))
        written = frame.Snapshot("t", str(tmp_path / "t.root"), ["x"], lazy)
        report = frame.Filter("x > 3", "cut").Report()
        for result in (frame.AsNumpy(["x"], lazy=True), written, varied, report):
            with pytest.raises(GraphError, match="has no variations"):
                ROOT.RDF.Experimental.VariationsFor(result)
