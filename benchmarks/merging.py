"""The process of `benchmarks.merge`: partial results from files are merged, by the tree or by ROOT alone."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ROOT
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import Task
from dask.typing import Key
from distributed import Client, wait
from ROOT._distrdf.Backends import Utils

from benchmarks import memory
from dask_root_lambda import LambdaCluster
from dask_root_lambda.plan import graph
from dask_root_lambda.plan.graph import RunGraph
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Finish, Merge, PackedMapper
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.intervals import divided_entries
from dask_root_lambda.protocol.task import Body, PartialResult

_SPACE = RunSpace("benchmark", b"", "session")
_AT_ONCE = 4
"""Partial results read at once."""


@dataclass(frozen=True)
class Outcome:
    """What the process measured."""

    wall_s: float
    memory_mb: float
    """Peak of the resident set, above that before the first partial result."""
    integral: float
    """Sum of all bins of all histograms, to compare."""


@dataclass(frozen=True)
class _Read:
    """In the place of a range: its partial result, from a file."""

    path: Path

    def __call__(self, mapper: PackedMapper) -> Body:
        return Body.of(self.path.read_bytes())


def _graph(directory: Path, n_ranges: int, fan_in: int) -> RunGraph:
    """Return the graph of a run, with files in the place of ranges."""
    division = divided_entries(n_ranges, n_ranges)
    mapper, finish = PackedMapper(_SPACE, b"", "", division), Finish(_SPACE, 0, n_ranges)
    built = graph.build(mapper, finish, fan_in=fan_in)
    read = {
        key: Task(key, _Read(directory / str(key[1])), *task.args) for key, task in _ranges(built).items()
    }
    return _replaced(built, read)


def _ranges(built: RunGraph) -> dict[Key, Task]:
    return {
        key: task
        for key, task in built.graph.items()
        if isinstance(key, tuple) and str(key[0]).startswith(f"{graph.PREFIX}range-")
    }


def _replaced(built: RunGraph, tasks: Mapping[Key, Any]) -> RunGraph:
    """Return a graph with other tasks in the place of some."""
    layer = MaterializedLayer({**built.graph, **tasks})
    return replace(built, graph=HighLevelGraph({"run": layer}, {"run": set()}))


def _by_tree(client: Client, built: RunGraph) -> PartialResult:
    merged: PartialResult = wire.loads(client.get(built.graph, built.merged).fetch(_SPACE.key))
    return merged


def _hold(client: Client, built: RunGraph) -> RunGraph:
    """Read the partial results into the cluster's memory; return the graph that merges them."""
    ranges = list(_ranges(built))
    futures = dict(zip(ranges, client.get(built.graph, ranges, sync=False), strict=True))
    wait(list(futures.values()))
    return _replaced(built, futures)


def _by_root(directory: Path, n_ranges: int) -> PartialResult:
    merged: PartialResult = wire.loads((directory / "0").read_bytes())
    assert merged.values is not None
    for index in range(1, n_ranges):
        other = wire.loads((directory / str(index)).read_bytes())
        for value, increment in zip(merged.values, other.values, strict=True):
            Utils.merge_values(value, increment)
    return merged


def _measured(merge: Callable[[], PartialResult]) -> Outcome:
    before_mb = memory.forget_peak()
    began_s = time.perf_counter()
    merged = merge()
    wall_s = time.perf_counter() - began_s
    assert merged.values is not None
    integral = sum(value.GetValue().Integral() for value in merged.values)
    return Outcome(wall_s, memory.peak_mb() - before_mb, integral)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("n_ranges", type=int)
    parser.add_argument("--fan-in", type=int)
    parser.add_argument(
        "--hold", action="store_true", help="read all partial results before the clock starts"
    )
    parser.add_argument("--as-shipped", action="store_true", help="without what we speed up in ROOT")
    args = parser.parse_args()
    # What ROOT compiles or loads once does not count, for either.
    two = [Body.of((args.directory / str(index)).read_bytes()) for index in range(2)]
    Merge(_SPACE, divided_entries(1, 1)[0])(two)
    _by_root(args.directory, 2)
    if args.as_shipped:
        # `lambda_runtime.runner` keeps namespaces that ROOT looks up at every merge.
        for name in ("Detail", "Internal", "RDF"):
            del vars(ROOT)[name]
    if args.fan_in is None:
        outcome = _measured(lambda: _by_root(args.directory, args.n_ranges))
    else:
        built = _graph(args.directory, args.n_ranges, args.fan_in)
        local = LambdaCluster("local", concurrency=_AT_ONCE, progress=False, dashboard_address=None)
        with local as cluster, cluster.get_client() as client:
            held = _hold(client, built) if args.hold else built
            outcome = _measured(lambda: _by_tree(client, held))
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    _main()
