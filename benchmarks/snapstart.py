"""The first range of an environment that SnapStart restored, emulated.

Targets: at most 1.3 s for a graph that the snapshot has not seen, 0.2 s for one that it has.

The emulator forks environments from a process in which the runtime's warm-up ran
(`lambda_runtime.snapstart`). The graph that was not seen is the dimuon one; the other is that of the
warm-up, over a file with the same columns. What is timed is one invocation, from the client's request to
its answer: fork, hooks after restore, compiling what is new, and the range. Environments that are there
already are kept busy by calls that sleep, so that the range needs a new one; the report's cold starts
show that it had one. Noise: compiling takes a core; the median moves by a fifth.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import wait
from pathlib import Path

import dask.config

from benchmarks import datasets
from benchmarks.figures import Figure, run
from dask_root_lambda import LambdaExecutor, RDataFrame
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.plan.steps import PackedMapper
from dask_root_lambda.rdf import packing
from lambda_runtime import snapstart

_DEADLINE_S = 120.0
_BUSY_S = 4.0
"""How long an environment that is there is kept busy: longer than the range takes."""
_TAKEN_S = 0.5
"""After which the calls that keep environments busy have reached them."""


def measure(*, events: int = 100_000, repetitions: int = 5) -> list[Figure]:
    """Measure both graphs, in turns, each time in a new environment.

    Parameters
    ----------
    events
        Size of the range of the dimuon graph.
    repetitions
        Of which the median counts.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        dask.config.set({"dask-root-lambda.emulated.snapstart": True}),
    ):
        mappers = {
            "unseen": datasets.packed([str(datasets.dimuon_file(events))], 1),
            "known": _known(Path(directory)),
        }
        with LambdaExecutor(execution="emulated", concurrency=2 * repetitions + 1) as executor:
            turns = [
                {
                    name: _in_a_new_environment(executor, mapper, 2 * turn + place)
                    for place, (name, mapper) in enumerate(mappers.items())
                }
                for turn in range(repetitions)
            ]
    median_s = {name: statistics.median(turn[name] for turn in turns) for name in mappers}
    what = "first range of a restored environment, graph"
    return [
        Figure("snapstart", f"{what} not seen before", median_s["unseen"], "s", at_most=1.3),
        Figure("snapstart", f"{what} known to the snapshot", median_s["known"], "s", at_most=0.2),
    ]


def _known(directory: Path) -> PackedMapper:
    """Pack the graph of the warm-up, over a file like that of the warm-up."""
    path = str(directory / "warm-up.root")
    snapstart.write_events(path)
    frame = RDataFrame(datasets.TREE, path, npartitions=1)
    packed = packing.pack(frame._headnode, [result.node for result in snapstart.book(frame)], 1)
    return datasets.unkept(packed.mapper)


def _in_a_new_environment(executor: LambdaExecutor, mapper: PackedMapper, environments: int) -> float:
    """Return the seconds of a range that ``environments`` busy ones cannot take."""
    busy = [executor.submit(time.sleep, _BUSY_S) for _ in range(environments)]
    time.sleep(_TAKEN_S)
    before = executor.report().total.cold_starts
    began_s = time.perf_counter()
    executor.submit_call(Call(f"range-{mapper.run}-0", mapper.ranges[0], [mapper])).result(_DEADLINE_S)
    seconds = time.perf_counter() - began_s
    assert executor.report().total.cold_starts == before + 1
    wait(busy)
    return seconds


if __name__ == "__main__":
    run(measure, __doc__)
