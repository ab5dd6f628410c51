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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ROOT
from ROOT._distrdf import DataFrame, HeadNode

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.intervals import Division, Interval, divided, divided_entries
from dask_root_lambda.protocol.task import DataFile, Mapper, Program
from lambda_runtime import storage
from lambda_runtime.datasets import Sample, over_samples
from lambda_runtime.ranges import entry_range, file_range
from lambda_runtime.runner import Runner

_TREE = "Events"
_ENTRIES = 4


def prepare() -> None:
    """Register the hooks in an environment with SnapStart; elsewhere compile nothing ahead."""
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    register_before_snapshot(warm_up)
    register_after_restore(reseed)


def warm_up() -> None:
    """Run graphs of the usual operations as ranges are run, so that all of it that is compiled once is."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "warm-up.root")
        write_events(path)
        _run(_mapper_of_files(path), divided(1, 2), n_files=1, entries=None)
    _run(_mapper_of_entries(), divided_entries(_ENTRIES, 2), n_files=0, entries=_ENTRIES)


def _run(mapper: Mapper, division: Division, *, n_files: int, entries: int | None) -> None:
    """Run a mapper; its second range is given to the compiled graph of the first."""
    runner, blob = Runner(shared=False), wire.dumps(mapper)
    parts = [runner.map(wire.digest(blob), lambda: blob, *numbered)[0] for numbered in enumerate(division)]
    runner.finish(runner.merge(parts), n_files=n_files, entries=entries)


def reseed() -> None:
    """Seed every random generator afresh: environments of one snapshot must not draw the same numbers."""
    seed = int.from_bytes(os.urandom(4), "big")
    ROOT.gRandom.SetSeed(seed or 1)
    random.seed(seed)
    np.random.seed(seed)


def _mapper_of_files(path: str) -> Mapper:
    """Make a mapper as clients make them."""
    head = HeadNode.get_headnode(None, 2, _TREE, path)
    table = (DataFile(path, _TREE, storage.identify(path)),)
    build = partial(over_samples, [Sample("", "", 1)])
    return _mapper(head, book, partial(file_range, [_TREE], [path], None, False), build, "tree", table)


def _mapper_of_entries() -> Mapper:
    head = HeadNode.get_headnode(None, 2, _ENTRIES)
    build = head._generate_rdf_creator()
    return _mapper(head, book_of_entries, partial(entry_range, _ENTRIES), build, "entries", ())


def _mapper(
    head: Any,
    book: Callable[[Any], list[Any]],
    make_range: Callable[[int, Interval], Any],
    build: Callable[[Any], Any],
    source: Literal["tree", "entries"],
    table: tuple[DataFile, ...],
) -> Mapper:
    booked = book(DataFrame.RDataFrame(head))
    program = Program(
        initialize=dict,
        range=make_range,
        build=build,
        nodes=head._generate_graph_dict(),
    )
    assert booked  # dropped before, they would not be part of the graph
    return Mapper(wire.dumps(program), f"warm-up-{source}", table, source=source)


def write_events(path: str) -> None:
    """Write a file of a few events with columns of the usual types."""
    columns = {
        "n": "2u",
        "id": "3",
        "flag": "true",
        "met": "20.f",
        "weight": "0.5",
        "event": "ULong64_t(7)",
        "charge": "ROOT::RVecI{1, -1}",
        "pt": "ROOT::RVecF{30, 40}",
        "tight": "ROOT::RVecB{true, false}",
        "scale": "ROOT::RVecD{1, 2}",
    }
    frame = ROOT.RDataFrame(_ENTRIES)
    for name, expression in columns.items():
        frame = frame.Define(name, expression)
    frame.Snapshot(_TREE, path, list(columns))


def book(frame: Any) -> list[Any]:
    """Book the operations of the warm-up on a frame of such events.

    Python's side of each is compiled for each class of nodes: for frames with and without a filter.
    """
    derived = (
        frame.Define("mass", "ROOT::VecOps::InvariantMass(pt, pt, pt, pt)")
        .Define("sum", "Sum(pt)")
        .Define("x", "2. * sum * weight + id + event")
        .Define("selected", "pt[pt > 20 && abs(charge) == 1 && tight && scale > 0]")
    )
    filtered = derived.Filter("n == 2", "two").Filter("charge[0] != charge[1] && flag && met > 10")
    filtered = filtered.Define("after", "Sum(selected)")
    return [
        *(result for node in (derived, filtered) for result in _actions(node, "mass", "x", "selected")),
        filtered.Histo1D(("sum", "", 100, 0.0, 100.0), "sum", "mass"),
        filtered.Histo1D(("pt", "", 100, 0.0, 100.0), "pt", "weight"),
        filtered.Histo1D(("id", "", 100, 0.0, 100.0), "id", "weight"),
        filtered.Histo1D(("n", "", 100, 0.0, 100.0), "n"),
        filtered.Histo1D(("after", "", 100, 0.0, 100.0), "after"),
        filtered.Histo2D(("both", "", 10, 0.0, 100.0, 10, 0.0, 100.0), "mass", "sum"),
        filtered.Profile1D(("profile", "", 10, 0.0, 100.0), "mass", "sum"),
        filtered.Report(),
    ]


def book_of_entries(frame: Any) -> list[Any]:
    """Book the operations of the warm-up on a frame of entries without files."""
    derived = (
        frame.Define("x", "double(rdfentry_)")
        .Define("single", "float(x)")
        .Define("vector", "ROOT::RVecD{x, x}")
        .Define("entry", "rdfentry_ % 10")
        .Define("integer", "int(x)")
    )
    filtered = derived.Filter("x >= 0 && entry < 10").Define("after", "2 * x")
    return [
        *(result for node in (derived, filtered) for result in _actions(node, "single", "x", "vector")),
        *(filtered.Sum(column) for column in ("entry", "integer", "after")),
        *(filtered.Histo1D((column, "", 10, 0.0, 10.0), column) for column in ("entry", "integer")),
    ]


def _actions(node: Any, single: str, double: str, vector: str) -> list[Any]:
    """Book what most analyses do with columns of three types."""
    return [
        node.Histo1D(("single", "", 100, 0.0, 100.0), single),
        node.Histo1D(("double", "", 100, 0.0, 100.0), double),
        node.Histo1D(("weighted", "", 100, 0.0, 100.0), double, double),
        node.Histo1D(("vector", "", 100, 0.0, 100.0), vector),
        node.Histo1D(("vector_weighted", "", 100, 0.0, 100.0), vector, double),
        node.Count(),
        *(getattr(node, action)(single) for action in ("Sum", "Mean", "Min", "Max", "StdDev", "Stats")),
        *(getattr(node, action)(double) for action in ("Sum", "Mean", "Min", "Max")),
    ]
