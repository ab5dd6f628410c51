"""The first range of a new execution environment, against a plain Python process.

Target: at most 1.4 of the wall time of a process that imports ROOT and runs the same graph.

The environment is an emulated one without SnapStart: a process that starts, imports the runtime, registers
with the Runtime API, imports ROOT, and runs a range of a graph that it has not seen. What is timed is one
invocation, from the client's request to its answer; the emulator runs already. The plain process is timed
from its start to its end. Both run the dimuon graph over all of one file, in turns, after a first time
each that fills the page cache. Noise: starting processes suffers most from what else runs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import datasets
from benchmarks.figures import Figure, run
from dask_root_lambda import LambdaExecutor
from dask_root_lambda.execution.encoding import Call

_DEADLINE_S = 120.0

_PLAIN = """
import sys, ROOT
from benchmarks import datasets
booked = datasets.book(ROOT.RDataFrame(datasets.TREE, sys.argv[1]))
print(datasets.values(booked[0].GetValue())[0])
"""


def measure(*, events: int = 100_000, repetitions: int = 5) -> list[Figure]:
    """Measure both, in turns.

    Parameters
    ----------
    events
        Size of the range.
    repetitions
        Of which the median counts.
    """
    path = datasets.dimuon_file(events)
    turns = [(_new_environment(path), _plain_process(path)) for _ in range(1 + repetitions)][1:]
    ratio = statistics.median(cold / plain for cold, plain in turns)
    return [
        Figure("cold", "first range of a new environment / plain process", ratio, at_most=1.4),
        Figure("cold", "first range of a new environment", statistics.median(cold for cold, _ in turns), "s"),
        Figure("cold", "plain process", statistics.median(plain for _, plain in turns), "s"),
    ]


def _new_environment(path: Path) -> float:
    """Return the seconds of one range, the first of its environment."""
    mapper = datasets.packed([str(path)], 1)
    call = Call(f"range-{mapper.run}-0", mapper.ranges[0], [mapper])
    with LambdaExecutor(execution="emulated", concurrency=1) as executor:
        began_s = time.perf_counter()
        executor.submit_call(call).result(_DEADLINE_S)
        seconds = time.perf_counter() - began_s
        assert executor.report().total.cold_starts == 1
    return seconds


def _plain_process(path: Path) -> float:
    began_s = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", _PLAIN, str(path)]
    subprocess.run(command, check=True, timeout=_DEADLINE_S, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    run(measure, __doc__)
