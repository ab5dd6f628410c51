"""Before and after a SnapStart snapshot.

With SnapStart, AWS starts an environment once, takes a snapshot, and restores every other environment
from it. What is done before the snapshot is paid for once: so ROOT's common templates are compiled there.
What must differ between environments has to be made anew after the restore: the random generators.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ROOT
from ROOT._distrdf.Backends import Utils

from dask_root_lambda.protocol import wire


def prepare() -> None:
    """Register the hooks in an environment with SnapStart; elsewhere compile nothing ahead."""
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    register_before_snapshot(warm_up)
    register_after_restore(reseed)


def warm_up() -> None:
    """Run a graph of the usual operations, so that ROOT's templates for them are compiled."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "warm-up.root")
        _write_events(path)
        for result in _book(ROOT.RDataFrame("Events", path)):
            value = wire.dumps(Utils.get_mergeablevalue(result))
            Utils.merge_values(wire.loads(value), wire.loads(value))


def reseed() -> None:
    """Seed every random generator afresh: environments of one snapshot must not draw the same numbers."""
    seed = int.from_bytes(os.urandom(4), "big")
    ROOT.gRandom.SetSeed(seed or 1)
    random.seed(seed)
    np.random.seed(seed)


def _write_events(path: str) -> None:
    columns = {"n": "2u", "charge": "ROOT::RVecI{1, -1}", "pt": "ROOT::RVecF{30, 40}", "flag": "true"}
    frame = ROOT.RDataFrame(4)
    for name, expression in columns.items():
        frame = frame.Define(name, expression)
    frame.Snapshot("Events", path, list(columns))


def _book(frame: Any) -> list[Any]:
    selected = frame.Filter("n == 2", "two").Filter("charge[0] != charge[1] && flag")
    derived = selected.Define("mass", "ROOT::VecOps::InvariantMass(pt, pt, pt, pt)").Define("sum", "Sum(pt)")
    return [
        derived.Histo1D(("mass", "", 100, 0.0, 100.0), "mass"),
        derived.Histo1D(("sum", "", 100, 0.0, 100.0), "sum", "mass"),
        derived.Histo1D(("pt", "", 100, 0.0, 100.0), "pt"),
        derived.Histo2D(("both", "", 10, 0.0, 100.0, 10, 0.0, 100.0), "mass", "sum"),
        derived.Profile1D(("profile", "", 10, 0.0, 100.0), "mass", "sum"),
        *(getattr(derived, action)("mass") for action in ("Sum", "Mean", "Min", "Max", "StdDev", "Stats")),
        derived.Count(),
        derived.Report(),
    ]
