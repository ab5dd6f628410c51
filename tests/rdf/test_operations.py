"""Every action of DistRDF, over five ranges, gives what local RDataFrame gives over the whole.

However the entries that a cut keeps fall on the ranges: in all, in some, in one, in none.
"""

from __future__ import annotations

import dask
import numpy as np
import pytest

from dask_root_lambda import RDataFrame
from dask_root_lambda.rdf import operations
from tests.conftest import ROOT

RANGES = 5


def nd_model(kind):
    return getattr(ROOT.RDF, kind)("n", "", 2, [5, 4], [0.0, 0.0], [1000.0, 50.0])


def cells(histogram):
    bins = range(histogram.GetNcells())
    values = [histogram.GetBinContent(cell) for cell in bins]
    return [*values, *(histogram.GetBinError(cell) for cell in bins), histogram.GetEntries()]


def projected(histogram):
    return cells(histogram.Projection(1, 0))


def points(graph):
    return sorted((graph.GetPointX(index), graph.GetPointY(index)) for index in range(graph.GetN()))


def moments(stats):
    return stats.GetN(), stats.GetMean(), stats.GetRMS(), stats.GetMin(), stats.GetMax()


def cuts(report):
    return [(cut.GetName(), cut.GetPass(), cut.GetAll()) for cut in report]


ACTIONS = {
    "Count": (lambda f: f.Count(), int),
    "Sum": (lambda f: f.Sum("x"), float),
    "Mean": (lambda f: f.Mean("x"), float),
    "Min": (lambda f: f.Min("x"), float),
    "Max": (lambda f: f.Max("x"), float),
    "StdDev": (lambda f: f.StdDev("x"), float),
    "Stats": (lambda f: f.Stats("x"), moments),
    "Stats weighted": (lambda f: f.Stats("x", "w"), moments),
    "Histo1D": (lambda f: f.Histo1D(("h", "", 7, 0, 1000), "x"), cells),
    "Histo1D weighted": (lambda f: f.Histo1D(("h", "", 7, 0, 1000), "x", "w"), cells),
    "Histo2D": (lambda f: f.Histo2D(("h", "", 5, 0, 1000, 4, 0, 50), "x", "pt"), cells),
    "Histo3D": (lambda f: f.Histo3D(("h", "", 5, 0, 1000, 4, 0, 50, 3, 0, 2), "x", "pt", "w"), cells),
    "HistoND": (lambda f: f.HistoND(nd_model("THnDModel"), ["x", "pt"]), projected),
    "HistoNSparseD": (lambda f: f.HistoNSparseD(nd_model("THnSparseDModel"), ["x", "pt"]), projected),
    "HistoNSparseD weighted": (
        lambda f: f.HistoNSparseD(nd_model("THnSparseDModel"), ["x", "pt", "w"]), projected
    ),
    "Profile1D": (lambda f: f.Profile1D(("p", "", 7, 0, 1000), "x", "pt"), cells),
    "Profile1D weighted": (lambda f: f.Profile1D(("p", "", 7, 0, 1000), "x", "pt", "u"), cells),
    "Profile2D weighted": (
        lambda f: f.Profile2D(("p", "", 5, 0, 1000, 4, 0, 50), "x", "pt", "pt", "u"), cells
    ),
    "Profile2D": (lambda f: f.Profile2D(("p", "", 5, 0, 1000, 4, 0, 50), "x", "pt", "w"), cells),
    "Graph": (lambda f: f.Graph("x", "pt"), points),
    "GraphAsymmErrors": (lambda f: f.GraphAsymmErrors("x", "pt", "w", "w", "w", "w"), points),
    "Report": (lambda f: f.Filter("x > 9", "first").Filter("pt > 3", "second").Report(), cuts),
}  # fmt: skip
UNTESTED_HERE = {"AsNumpy", "Display", "Snapshot", "Take"}
"""They have tests of their own."""


CUTS = {
    "everything": "x >= 0",
    "the first range only": "x < 10",
    "the last range only": "x >= 990",
    "all but the first range": "x >= 210",
    "one entry": "x == 500",
    "an entry at each end": "x == 1 || x == 999",
    "nothing": "x < 0",
}


def prepared(frame, cut):
    return frame.Define("w", "1. + (x % 2)").Define("u", "x < 600 ? 1. : w").Filter(cut)


@pytest.fixture(scope="module")
def computed(events_file):
    """All actions after each cut, booked on one frame and computed together."""
    frame = RDataFrame("Events", events_file, npartitions=RANGES)
    results = {
        (cut, name): book(prepared(frame, CUTS[cut])) for cut in CUTS for name, (book, _) in ACTIONS.items()
    }
    values = dask.compute(*results.values(), scheduler="synchronous")
    return dict(zip(results, values, strict=True))


@pytest.fixture(scope="module")
def expected(events_file):
    """The same by local RDataFrame."""
    frame = ROOT.RDataFrame("Events", events_file)
    return {
        (cut, name): book(prepared(frame, CUTS[cut])) for cut in CUTS for name, (book, _) in ACTIONS.items()
    }


def check(expected, found):
    """Compare the plain values of two results, number by number."""
    expected, found = (np.array(value, dtype=object) for value in (expected, found))
    assert expected.shape == found.shape
    for one, other in zip(expected.flat, found.flat, strict=True):
        assert other == (one if isinstance(one, str) else pytest.approx(one, rel=1e-12))


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("cut", CUTS)
def test_actions_equal_local_ones(computed, expected, cut, name):
    """The merged result of the ranges is the result over the whole, bin by bin."""
    _, plain = ACTIONS[name]
    check(plain(expected[cut, name].GetValue()), plain(computed[cut, name]))


VARIED = ("Sum", "Mean", "StdDev", "Min", "Max")
"""Actions whose result is a number."""
PROFILE = ("p", "", 7, 0, 1000)


@pytest.mark.parametrize("cut", CUTS)
def test_variations_equal_local_ones(events_file, cut):
    """So are variations, of which some may keep entries in ranges where the nominal cut keeps none."""

    def booked(frame):
        varied = frame.Define("v", "double(x)").Vary("v", "ROOT::RVecD{v - 990., v + 5., -1.}", 3)
        selected = varied.Filter(CUTS[cut].replace("x", "v"))
        return [getattr(selected, name)("v") for name in VARIED]

    local = [
        ROOT.RDF.Experimental.VariationsFor(result)
        for result in booked(ROOT.RDataFrame("Events", events_file))
    ]
    frame = RDataFrame("Events", events_file, npartitions=RANGES)
    results = [ROOT.RDF.Distributed.VariationsFor(result) for result in booked(frame)]
    for one, other in zip(local, dask.compute(*results, scheduler="synchronous"), strict=True):
        names = [str(name) for name in one.GetKeys()]
        assert other.GetKeys() == names == ["nominal", "v:0", "v:1", "v:2"]
        check([one[name] for name in names], [other[name] for name in names])


def test_variations_of_weighted_profiles(events_file):
    """Also where the weights of a range are all 1, so that ROOT has no squares of them there."""

    def booked(frame):
        varied = frame.Define("u", "x < 600 ? 1. : 1. + (x % 2)").Vary("pt", "ROOT::RVecF{pt / 2, pt * 2}", 2)
        return varied.Profile1D(PROFILE, "x", "pt", "u")

    local = ROOT.RDF.Experimental.VariationsFor(booked(ROOT.RDataFrame("Events", events_file)))
    result = ROOT.RDF.Distributed.VariationsFor(booked(RDataFrame("Events", events_file, npartitions=RANGES)))
    (found,) = dask.compute(result, scheduler="synchronous")
    for name in found.GetKeys():
        check(cells(local[name]), cells(found[name]))


def test_every_action_is_tested():
    """A new ROOT that brings another action makes this fail."""
    booked = {name.split()[0] for name in ACTIONS} | UNTESTED_HERE
    transformations = {"Alias", "Define", "DefinePerSample", "DefaultValueFor", "Filter", "FilterAvailable"}
    transformations |= {"FilterMissing", "Range", "Redefine", "Vary"}
    assert set(operations.OPERATIONS) == booked | transformations
