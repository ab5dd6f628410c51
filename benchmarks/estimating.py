"""What an estimate says that the dimuon spectrum costs and takes, against the bill and the wall time.

Target: the cost within 20 % in the median of five runs.

Each turn is a cluster of two emulated environments, which are cold, and a state directory in which nothing
is remembered: the estimate runs its samples, the run the rest, and the report has the bill of both. The
number of ranges is left to the estimate. Noise: emulated ranges take as long as the machine needs just then;
what else runs on it makes samples and rest differ.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask

from benchmarks import datasets
from benchmarks.figures import Figure, run
from dask_root_lambda import LambdaCluster, RDataFrame, estimate

_STATE = "XDG_STATE_HOME"


@dataclass(frozen=True)
class _Turn:
    """An estimate, as parts of what came of it."""

    cost: float
    wall: float
    within: bool
    """Whether the bill is in the interval that the estimate gave."""


def measure(*, events: int = 2_000_000, turns: int = 5) -> list[Figure]:
    """Estimate and run the spectrum of ``events`` events, ``turns`` times."""
    path = datasets.dimuon_file(events)
    found = [_turn(path) for _ in range(turns)]
    what = f"{events:,} events"
    off = statistics.median(abs(turn.cost - 1) for turn in found)
    cost, wall = (statistics.median(getattr(turn, name) for turn in found) for name in ("cost", "wall"))
    return [
        Figure("estimating", f"{what}: cost, off by", 100 * off, "%", at_most=20.0),
        Figure("estimating", f"{what}: cost, estimated / billed", cost),
        Figure("estimating", f"{what}: wall time, estimated / taken", wall),
        Figure("estimating", f"{what}: bills in the interval, of {turns}", sum(t.within for t in found)),
    ]


def _turn(path: Path) -> _Turn:
    with (
        _nothing_remembered(),
        LambdaCluster(execution="emulated", concurrency=2, progress=False, dashboard_address=None) as cluster,
        cluster.get_client(),
    ):
        booked = datasets.book(RDataFrame(datasets.TREE, str(path)))
        told = estimate(booked[0])
        began_s = time.monotonic()
        dask.compute(*booked)
        wall_s = time.monotonic() - began_s
        billed_usd = cluster.report().total.usd
    low, high = told.usd_range
    return _Turn(told.usd / billed_usd, told.wall_s / wall_s, low <= billed_usd <= high)


@contextmanager
def _nothing_remembered() -> Iterator[None]:
    """Give this process a new state directory for the block."""
    before = os.environ.get(_STATE)
    with tempfile.TemporaryDirectory() as directory:
        os.environ[_STATE] = directory
        try:
            yield
        finally:
            os.environ.pop(_STATE)
            if before is not None:
                os.environ[_STATE] = before


if __name__ == "__main__":
    run(measure, __doc__)
