"""Every action of DistRDF, over five ranges, gives what local RDataFrame gives over the whole."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from dask_root_lambda import RDataFrame, distrdf
from tests.conftest import ROOT

RANGES = 5


def nd_model(kind):
    return getattr(ROOT.RDF, kind)("n", "", 2, [5, 4], [0.0, 0.0], [1000.0, 50.0])


def cells(histogram):
    return [histogram.GetBinContent(cell) for cell in range(histogram.GetNcells())], histogram.GetEntries()


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
    "Profile1D": (lambda f: f.Profile1D(("p", "", 7, 0, 1000), "x", "pt"), cells),
    "Profile2D": (lambda f: f.Profile2D(("p", "", 5, 0, 1000, 4, 0, 50), "x", "pt", "w"), cells),
    "Graph": (lambda f: f.Graph("x", "pt"), points),
    "GraphAsymmErrors": (lambda f: f.GraphAsymmErrors("x", "pt", "w", "w", "w", "w"), points),
    "Report": (lambda f: f.Filter("x > 9", "first").Filter("pt > 3", "second").Report(), cuts),
}  # fmt: skip
UNTESTED_HERE = {"AsNumpy", "Profile3D", "Snapshot", "VariationsFor"}
"""Profile3D has no local counterpart; the others have tests of their own."""


def prepared(frame):
    return frame.Define("w", "1. + (x % 2)")


@pytest.fixture(scope="module")
def computed(events_file):
    """All actions, booked on one frame and computed together."""
    frame = prepared(RDataFrame("Events", events_file, npartitions=RANGES))
    results = [book(frame) for book, _ in ACTIONS.values()]
    return dict(zip(ACTIONS, dask.compute(*results, scheduler="synchronous"), strict=True))


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_equal_local_ones(computed, events_file, name):
    """The merged result of the ranges is the result over the whole, bin by bin."""
    book, plain = ACTIONS[name]
    local = book(prepared(ROOT.RDataFrame("Events", events_file)))
    expected, found = (np.array(plain(value), dtype=object) for value in (local.GetValue(), computed[name]))
    assert expected.shape == found.shape
    for one, other in zip(expected.flat, found.flat, strict=True):
        assert other == (one if isinstance(one, str) else pytest.approx(one, rel=1e-12))


def test_every_action_is_tested():
    """A new ROOT that brings another action makes this fail."""
    booked = {name.split()[0] for name in ACTIONS} | UNTESTED_HERE
    transformations = {"Alias", "Define", "DefinePerSample", "DefaultValueFor", "Filter", "FilterAvailable"}
    transformations |= {"FilterMissing", "Redefine", "Vary"}
    assert set(distrdf.OPERATIONS) == booked | transformations
