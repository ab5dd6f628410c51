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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ROOT
from ROOT._distrdf import DataFrame, HeadNode

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.intervals import divided
from dask_root_lambda.protocol.task import DataFile, Mapper, Program
from lambda_runtime import storage
from lambda_runtime.ranges import file_range
from lambda_runtime.runner import Runner

_TREE = "Events"


def prepare() -> None:
    """Register the hooks in an environment with SnapStart; elsewhere compile nothing ahead."""
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    register_before_snapshot(warm_up)
    register_after_restore(reseed)


def warm_up() -> None:
    """Run a graph of the usual operations as ranges are run, so that all of it that is compiled once is."""
    runner = Runner(shared=False)
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "warm-up.root")
        write_events(path)
        blob = wire.dumps(_mapper(path))
        # The second range is given to the compiled graph of the first.
        parts = [
            runner.map(wire.digest(blob), lambda: blob, *numbered)[0] for numbered in enumerate(divided(1, 2))
        ]
        runner.finish(runner.merge(parts), n_files=1, entries=None)


def reseed() -> None:
    """Seed every random generator afresh: environments of one snapshot must not draw the same numbers."""
    seed = int.from_bytes(os.urandom(4), "big")
    ROOT.gRandom.SetSeed(seed or 1)
    random.seed(seed)
    np.random.seed(seed)


def _mapper(path: str) -> Mapper:
    """Make a mapper of two ranges, the second empty, as clients make them."""
    head = HeadNode.get_headnode(None, 2, _TREE, path)
    booked = book(DataFrame.RDataFrame(head))
    program = Program(
        initialize=dict,
        range=partial(file_range, [_TREE], [path], None, None),
        build=head._generate_rdf_creator(),
        nodes=head._generate_graph_dict(),
    )
    assert booked  # dropped before, they would not be part of the graph
    table = (DataFile(path, _TREE, storage.identify(path)),)
    return Mapper(wire.dumps(program), "warm-up", table)


def write_events(path: str) -> None:
    """Write a file of a few events with columns of the usual types."""
    columns = {"n": "2u", "charge": "ROOT::RVecI{1, -1}", "pt": "ROOT::RVecF{30, 40}", "flag": "true"}
    frame = ROOT.RDataFrame(4)
    for name, expression in columns.items():
        frame = frame.Define(name, expression)
    frame.Snapshot(_TREE, path, list(columns))


def book(frame: Any) -> list[Any]:
    """Book the operations of the warm-up on a frame."""
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
