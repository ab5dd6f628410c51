"""Weak scaling: twelve ranges of 10 s for each function, from 32 to 1,000 of them; and a slow tail.

Targets, with SnapStart: an efficiency of at least 90% from 32 to 512 functions, of 85% at 1,000. It is range
seconds over functions times wall time, from ``dask.compute`` to its result: cold starts, the ramp, the merges
and the slow tail are in it. And: a run of 8 waves takes at most 1.15 of its time without the tail.

A frame of as many ranges is computed by the road that any takes: Dask, executor, policies, merges. Only the
functions are stubs, which answer when AWS's would: `benchmarks.environments` has the latencies, cold starts,
refusals and the tail, and says where they are from. The values of all partial results are those of one
histogram. Noise: of the client a thousand functions of 10 s
want about 100 invocations per second, a third of a core; a machine that is busy besides shows.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import dask

from benchmarks.environments import Timing
from benchmarks.figures import Figure, run
from benchmarks.stub import Statistics, serving
from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.plan.steps import MapRange
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.task import PartialResult
from dask_root_lambda.rdf import packing

AWS = Timing()
_RANGES_EACH = 12
_WAVES = 8
_COLD_S = 5.0


@dataclass(frozen=True)
class _Run:
    """One run of a frame."""

    n_ranges: int
    wall_s: float
    seen: Statistics
    second_tries: int


def measure(
    *, functions: Sequence[int] = (32, 128, 512, 1000), timing: Timing = AWS, tail: int = 128
) -> list[Figure]:
    """Measure the efficiency for each number of functions, and what the slow tail takes.

    Parameters
    ----------
    functions
        Numbers of functions.
    timing
        How long what takes.
    tail
        Number of functions with which the slow tail is compared with none, and SnapStart; 0 for neither.
    """
    figures = [Figure("scaling", "time scale: seconds of AWS's in one of ours", timing.speed)]
    for n in functions:
        figures += _efficiency(_compute(n, _RANGES_EACH * n, timing), n, timing)
    if tail:
        figures += [_without_snapstart(tail, timing), *_tail(tail, timing)]
    return figures


def _efficiency(done: _Run, n: int, timing: Timing) -> list[Figure]:
    target = 0.90 if n <= 512 else 0.85
    what = f"{n:,} functions"
    return [
        Figure("scaling", f"efficiency, {what}", _range_s(done, timing) / (n * done.wall_s), at_least=target),
        Figure("scaling", f"wall time, {what}", done.wall_s, "s"),
        Figure("scaling", f"invocations per range, {what}", done.seen.invocations / done.n_ranges),
        Figure("scaling", f"second tries, {what}", done.second_tries),
        Figure("scaling", f"refused, {what}", done.seen.refused),
    ]


def _without_snapstart(n: int, timing: Timing) -> Figure:
    done = _compute(n, _RANGES_EACH * n, replace(timing, cold_s=_COLD_S))
    what = f"efficiency, {n:,} functions without SnapStart, cold starts of {_COLD_S:g} s"
    return Figure("scaling", what, _range_s(done, timing) / (n * done.wall_s))


def _tail(n: int, timing: Timing) -> list[Figure]:
    n_ranges = _WAVES * n
    without, slow = (_compute(n, n_ranges, each) for each in (replace(timing, slow=()), timing))
    what = f"{_WAVES} waves of {n} functions"
    ratio = slow.wall_s / without.wall_s
    return [
        Figure("scaling", f"{what}: wall time with the slow tail / without", ratio, at_most=1.15),
        Figure("scaling", "the same, invocations per range", slow.seen.invocations / n_ranges),
    ]


def _range_s(done: _Run, timing: Timing) -> float:
    """Return the seconds that the ranges of a run take where nothing is slow, here."""
    return done.n_ranges * timing.seconds / timing.speed


def _compute(functions: int, n_ranges: int, timing: Timing) -> _Run:
    """Compute a frame on so many functions."""
    with tempfile.TemporaryDirectory() as directory:
        values = write_values(Path(directory))
        state = mock.patch.dict(os.environ, {"XDG_STATE_HOME": directory})
        with (
            state,
            serving(timing=replace(timing, limit=functions), values=values) as server,
            cluster_of(functions, server.endpoint) as cluster,
            cluster.get_client(),
        ):
            _, histogram = booked(n_ranges)
            began_s = time.monotonic()
            dask.compute(histogram)
            wall_s = time.monotonic() - began_s
            return _Run(n_ranges, wall_s, server.statistics(), cluster.report().total.second_tries)


def cluster_of(functions: int, endpoint: str) -> LambdaCluster:
    """Make a cluster of so many stub functions."""
    return LambdaCluster(
        execution="lambda",
        concurrency=functions,
        function="f",
        endpoint_url=endpoint,
        progress=False,
        dashboard_address=None,
    )


def booked(n_ranges: int) -> tuple[Any, Any]:
    """Return a frame of so many ranges, of which stubs can answer each part, and a histogram of it."""
    frame = RDataFrame(n_ranges * AWS.entries, npartitions=n_ranges)
    return frame, frame.Define("x", "double(rdfentry_ % 1000)").Histo1D(("x", "", 1000, 0, 1000), "x")


def write_values(directory: Path) -> Path:
    """Run one range here; write the values of its partial result, and return the file."""
    frame, histogram = booked(1)
    mapper = packing.pack(frame._headnode, [histogram.node], 1).mapper
    result = wire.loads_as(PartialResult, MapRange(0, mapper.division[0])(mapper).fetch(b""))
    path = directory / "values"
    path.write_bytes(pickle.dumps(result.values))
    return path


if __name__ == "__main__":
    run(measure, __doc__)
