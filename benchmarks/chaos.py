"""The dimuon spectrum of 2,000,000 events in 64 ranges, while a fifth of the invocations fails.

Target: the histogram of every run is exact; in the median at most 1.6 times the invocations, and 2.5 times
the wall time, of a run without faults.

Faults are drawn from the whole of the emulator's table, each kind as often as any other: refusals, errors of
the service, connections that break before or after, answers that are cut off or changed, environments that
are killed or out of time, slow starts, events delivered twice; and of a store that fails as well. Each seed
is a cluster of its own, with two environments, which begins cold; so does the run without faults.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dask
import yaml

from benchmarks import datasets
from benchmarks.figures import Figure, run
from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.emulator.faults import LAMBDA_KINDS, S3_KINDS

_SHARE = 0.2
_DELAYS_S = {"delay": 0.5, "slow-start": 1.0, "timeout": 0.05, "kill": 0.05, "slow": 0.5}


@dataclass(frozen=True)
class _Run:
    """One run of the analysis."""

    values: list[float]
    invocations: int
    wall_s: float


def measure(*, events: int = 2_000_000, n_ranges: int = 64, seeds: int = 20) -> list[Figure]:
    """Measure a run without faults, and one for each seed.

    Parameters
    ----------
    events, n_ranges
        Size of the dataset, and the ranges it is divided into.
    seeds
        Runs with faults.
    """
    path = datasets.dimuon_file(events)
    with tempfile.TemporaryDirectory() as directory:
        plain = _analysis(path, n_ranges, None)
        faults = _faults(Path(directory))
        runs = [_analysis(path, n_ranges, faults, seed) for seed in range(seeds)]
    exact = sum(each.values == plain.values for each in runs)
    what = f"{events:,} events, {n_ranges} ranges, {_SHARE:.0%} of invocations fail"
    invocations = [each.invocations / plain.invocations for each in runs]
    walls = [each.wall_s / plain.wall_s for each in runs]
    return [
        Figure("chaos", f"{what}: exact histograms of {seeds}", exact, at_least=seeds),
        Figure("chaos", "invocations / without faults", statistics.median(invocations), at_most=1.6),
        Figure("chaos", "the same, largest", max(invocations)),
        Figure("chaos", "wall time / without faults", statistics.median(walls), at_most=2.5),
        Figure("chaos", "the same, largest", max(walls)),
    ]


def _analysis(path: Path, n_ranges: int, faults: str | None, seed: int = 0) -> _Run:
    with (
        dask.config.set({"dask-root-lambda.emulated.faults": faults, "dask-root-lambda.emulated.seed": seed}),
        LambdaCluster(execution="emulated", concurrency=2, progress=False) as cluster,
        cluster.get_client(),
    ):
        began_s = time.monotonic()
        booked = datasets.book(RDataFrame(datasets.TREE, str(path), npartitions=n_ranges))
        values = datasets.values(dask.compute(*booked)[0])
        return _Run(values, cluster.report().total.invocations, time.monotonic() - began_s)


def _faults(directory: Path) -> str:
    """Write a table of faults; return its file."""
    path = directory / "faults.yaml"
    table = {"lambda": _entries(sorted(LAMBDA_KINDS)), "s3": _entries(sorted(S3_KINDS))}
    path.write_text(yaml.safe_dump(table))
    return str(path)


def _entries(kinds: Sequence[str]) -> list[dict[str, object]]:
    """Make entries that happen equally often; the first that fits decides, so the later ones need more."""
    each = _SHARE / len(kinds)
    return [
        {"kind": kind, "probability": each / (1 - index * each), "delay_s": _DELAYS_S.get(kind, 0.0)}
        for index, kind in enumerate(kinds)
    ]


if __name__ == "__main__":
    run(measure, __doc__)
