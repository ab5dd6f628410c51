"""Ten thousand ranges through two hundred environments, with one cluster: nothing grows.

Targets: after the last of ten runs the client has at most 5% more memory than after the second, and no more
file descriptors or threads.

A frame of a thousand ranges is computed ten times, by Dask, executor and merges as always; the functions are
stubs that take a second (`benchmarks.environments`). Memory is the resident set after a garbage collection,
of the client with ROOT in it; the stub is a process of its own. The first run compiles and opens what lasts.
Noise: little; Python and malloc keep some MB that they may use again.
"""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import dask

from benchmarks import memory
from benchmarks.environments import Timing
from benchmarks.figures import Figure, run
from benchmarks.scaling import booked, cluster_of, write_values
from benchmarks.stub import serving


@dataclass(frozen=True)
class _State:
    """What the process has."""

    memory_mb: float
    descriptors: int
    threads: int


def measure(
    *, runs: int = 10, n_ranges: int = 1000, functions: int = 200, seconds: float = 1.0
) -> list[Figure]:
    """Compute a frame several times.

    Parameters
    ----------
    runs, n_ranges
        How often, and its ranges.
    functions
        Environments.
    seconds
        What a range takes.
    """
    timing = Timing(seconds=seconds, cold_s=1.0, slow=(), limit=functions)
    with tempfile.TemporaryDirectory() as directory:
        values = write_values(Path(directory))
        state = mock.patch.dict(os.environ, {"XDG_STATE_HOME": directory})
        with (
            state,
            serving(timing=timing, values=values) as server,
            cluster_of(functions, server.endpoint) as cluster,
            cluster.get_client(),
        ):
            states = [_computed(n_ranges) for _ in range(runs)]
            seen, total = server.statistics(), cluster.report().total
    assert total.failures == 0, total
    assert seen.invocations >= runs * n_ranges, seen
    return _figures(states, f"{runs * n_ranges:,} ranges, {seen.new_environments:,} environments")


def _figures(states: list[_State], what: str) -> list[Figure]:
    first, last = states[1], states[-1]
    growth = last.memory_mb / first.memory_mb
    return [
        Figure("soak", f"{what}: memory after the last run / after the second", growth, at_most=1.05),
        Figure("soak", "memory after the last run", last.memory_mb, "MB"),
        Figure("soak", "more descriptors", last.descriptors - first.descriptors, at_most=0),
        Figure("soak", "descriptors after the last run", last.descriptors),
        Figure("soak", "more threads", last.threads - first.threads, at_most=0),
        Figure("soak", "threads after the last run", last.threads),
    ]


def _computed(n_ranges: int) -> _State:
    """Compute a frame, and return what the process has then."""
    _, histogram = booked(n_ranges)
    dask.compute(histogram)
    del histogram
    gc.collect()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return _State(memory.now_mb(), descriptors, threading.active_count())


if __name__ == "__main__":
    run(measure, __doc__)
