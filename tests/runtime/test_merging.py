"""Merging the partial results of two ranges gives the result of the whole, whatever either has seen."""

from __future__ import annotations

import pytest
from ROOT._distrdf.Backends import Utils

from lambda_runtime import merging
from tests.conftest import ROOT

WEIGHTS = {"none": "1.", "in the first range": "first ? 0.5 : 1.", "in the second range": "first ? 1. : 0.5"}
PROFILES = {
    "Profile1D": (("p", "", 4, 0, 100), "x", "y", "w"),
    "Profile2D": (("p", "", 4, 0, 100, 2, 0, 10), "x", "y", "y", "w"),
}


def profile(action, weight, cut, *, varied):
    frame = ROOT.RDataFrame(100).Define("x", "double(rdfentry_)").Define("y", "x * x / 1000")
    frame = frame.Define("first", "int(x) % 50 < 30").Define("w", WEIGHTS[weight]).Filter(cut)
    if varied:
        frame = frame.Vary("y", "ROOT::RVecD{y / 2, y * 2}", 2)
    booked = getattr(frame, action)(*PROFILES[action])
    return ROOT.RDF.Experimental.VariationsFor(booked) if varied else booked


def errors(profile):
    return [profile.GetBinError(cell) for cell in range(profile.GetNcells())]


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("action", PROFILES)
def test_errors_of_weighted_profiles(action, weight, varied):
    """The squares of weights are kept where one range has weights of 1 only, or nothing."""
    whole = profile(action, weight, "true", varied=varied)
    cuts = "x < 0", "first", "!first", "x > 100"
    parts = [profile(action, weight, cut, varied=varied) for cut in cuts]
    merged, *others = [Utils.get_mergeablevalue(part) for part in parts]
    for other in others:
        merged = merging.merged(merged, other)
    if varied:
        for name in ("nominal", "y:0", "y:1"):
            assert errors(merged.GetVariation(name)) == pytest.approx(errors(whole[name]), rel=1e-12)
    else:
        assert errors(merged.GetValue()) == pytest.approx(errors(whole.GetValue()), rel=1e-12)
