"""A run of a thousand ranges with the page "Lambda" open, against the same without.

Target: at most 2 % more wall time.

A `LambdaCluster` invokes a stub server over TLS, which answers each range after a second with its partial
result, made before: a number, and a histogram that the page draws as it fills. A process of its own opens the
page and takes what it is sent, as a browser does, without drawing it. Runs with and without take turns, each
after one that is not counted; the ratio is the median of those of the turns. Noise: what else the machine
does; the ratio of two runs without the page is measured as well, and says how large it is. So the CPU of an
open page is measured as well, when the ranges are done: nothing else is at work then, and the page is told,
and drawn, as often as in the run, but for the histogram. It is to be at most 2 % of the time, too.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, run
from benchmarks.stub import serving
from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.rdf import packing

_STOP_TIMEOUT_S = 10.0
_SETTLED_S = 7.0
"""Seconds until nobody looks at the feed any more."""


@dataclass(frozen=True)
class _Timing:
    """What one run took."""

    wall_s: float
    received: int = 0
    """Bytes that the page was sent."""


def measure(
    *,
    n_ranges: int = 1000,
    seconds: float = 1.0,
    concurrency: int = 50,
    turns: int = 5,
    looked_at_s: float = 20.0,
) -> list[Figure]:
    """Run ``n_ranges`` ranges, ``concurrency`` at once, of a function that takes ``seconds``.

    The CPU of the page is measured for ``looked_at_s``.
    """
    with tempfile.TemporaryDirectory() as directory:
        _write(Path(directory), n_ranges)
        with (
            serving(delay_s=seconds, partials=Path(directory)) as server,
            LambdaCluster(
                execution="lambda", concurrency=concurrency, function="f", endpoint_url=server.endpoint
            ) as cluster,
            cluster.get_client(),
        ):
            timed = [
                {"without": _run(n_ranges), "again": _run(n_ranges), "with": _watched(cluster, n_ranges)}
                for _ in range(turns + 1)
            ][1:]
            cpu = _cpu_of_page(cluster, looked_at_s)
    return [*_figures(timed, n_ranges), Figure("page", "CPU of an open page", 100 * cpu, "%", at_most=2.0)]


def _figures(timed: list[dict[str, _Timing]], n_ranges: int) -> list[Figure]:
    def wall(name: str) -> float:
        return statistics.median(turn[name].wall_s / turn["without"].wall_s for turn in timed)

    what = f"{n_ranges:,} ranges"
    wall_s = statistics.median(turn["without"].wall_s for turn in timed)
    rate = statistics.median(turn["with"].received / turn["with"].wall_s for turn in timed)
    return [
        Figure("page", f"{what}: wall time with the page / without", wall("with"), at_most=1.02),
        Figure("page", "the same of two runs without", wall("again")),
        Figure("page", f"{what}: wall time without", wall_s, "s"),
        Figure("page", "sent to the page", rate / 1e3, "kB/s"),
    ]


def _booked(n_ranges: int) -> tuple[RDataFrame, Any, Any]:
    """Book a number, and a histogram that the page draws as it fills."""
    frame = RDataFrame(n_ranges, npartitions=n_ranges)
    drawn = frame.Define("x", "double(rdfentry_)").Histo1D(("filling", "", 1000, 0.0, float(n_ranges)), "x")
    return frame, frame.Count(), drawn


def _write(directory: Path, n_ranges: int) -> None:
    """Write the partial result of each range."""
    frame, *results = _booked(n_ranges)
    mapper = packing.pack(frame._headnode, [result.node for result in results], n_ranges).mapper
    for step in mapper.ranges:
        (directory / str(step.index)).write_bytes(step(mapper).fetch(mapper.space.key))


def _run(n_ranges: int) -> _Timing:
    began_s = time.monotonic()
    _, count, drawn = _booked(n_ranges)
    assert count.GetValue() == drawn.GetEntries() == n_ranges
    return _Timing(time.monotonic() - began_s)


def _watched(cluster: LambdaCluster, n_ranges: int) -> _Timing:
    received: list[int] = []
    with _watching(cluster, received):
        timing = _run(n_ranges)
    return _Timing(timing.wall_s, received[0])


def _cpu_of_page(cluster: LambdaCluster, looked_at_s: float) -> float:
    """Return the CPU seconds of this process that an open page takes in a second, when no range runs."""
    without = _cpu_share(looked_at_s)
    with _watching(cluster, []):
        return _cpu_share(looked_at_s) - without


def _cpu_share(looked_at_s: float) -> float:
    time.sleep(_SETTLED_S)
    began_s = time.process_time()
    time.sleep(looked_at_s)
    return (time.process_time() - began_s) / looked_at_s


@contextlib.contextmanager
def _watching(cluster: LambdaCluster, received: list[int]) -> Iterator[None]:
    url = f"{cluster.dashboard_link.rpartition('/')[0]}/lambda"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.watching", url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "open\n", "the page could not be opened"
        yield
        answer, _ = process.communicate(timeout=_STOP_TIMEOUT_S)
        received.append(json.loads(answer)["bytes"])
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    run(measure, __doc__)
