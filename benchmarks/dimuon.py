"""The dimuon spectrum of 2,000,000 events in 32 ranges, against ROOT's own Dask backend.

Target: at most 0.90 of the wall time of ROOT's backend, everything warm.

Ours runs in two emulated execution environments; ROOT's on a LocalCluster of two worker processes of one
thread each, from the same process and on the same file. Each runs the analysis anew, from the constructor of
its frame to the values, in turns after a first time that is not counted; the ratio is the median of those
of the turns. The numbers of both are compared, every bin. Noise: what else runs on the machine slows both;
the ratio of one turn moves by a tenth.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import dask
import ROOT
from distributed import Client, LocalCluster

from benchmarks import datasets
from benchmarks.figures import Figure, run
from dask_root_lambda import LambdaCluster, RDataFrame

Analysis = Callable[[], list[float]]


def measure(*, events: int = 2_000_000, n_ranges: int = 32, repetitions: int = 7) -> list[Figure]:
    """Measure both, in turns.

    Parameters
    ----------
    events, n_ranges
        Size of the dataset, and the ranges it is divided into.
    repetitions
        Of which the median counts.
    """
    path = datasets.dimuon_file(events)
    with ExitStack() as stack:
        theirs = _on_root(stack, path, n_ranges)
        ours = _on_lambda(stack, path, n_ranges)
        assert ours() == theirs(), "the numbers differ"
        turns = [(_seconds(ours), _seconds(theirs)) for _ in range(repetitions)]
    what = f"{events:,} events, {n_ranges} ranges"
    ratio = statistics.median(mine / other for mine, other in turns)
    return [
        Figure("dimuon", f"{what}: wall time, ours / ROOT's Dask backend", ratio, at_most=0.90),
        Figure("dimuon", f"{what}: ours, emulated", statistics.median(mine for mine, _ in turns), "s"),
        Figure("dimuon", f"{what}: ROOT's", statistics.median(other for _, other in turns), "s"),
    ]


def _on_lambda(stack: ExitStack, path: Path, n_ranges: int) -> Analysis:
    cluster = stack.enter_context(LambdaCluster(execution="emulated", concurrency=2, progress=False))
    client = stack.enter_context(cluster.get_client())

    def analysis() -> list[float]:
        with client.as_current():
            booked = datasets.book(RDataFrame(datasets.TREE, str(path), npartitions=n_ranges))
            return datasets.values(dask.compute(*booked)[0])

    return analysis


def _on_root(stack: ExitStack, path: Path, n_ranges: int) -> Analysis:
    local = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = stack.enter_context(Client(stack.enter_context(local)))

    def analysis() -> list[float]:
        # ROOT's backend computes on Dask's current client, whichever it is given.
        with client.as_current(), warnings.catch_warnings():
            # ROOT's backend tells how many tasks suit the cluster.
            warnings.simplefilter("ignore")
            frame = ROOT.RDataFrame(datasets.TREE, str(path), executor=client, npartitions=n_ranges)
            histogram, _ = datasets.book(frame)
            return datasets.values(histogram.GetValue())

    return analysis


def _seconds(analysis: Analysis) -> float:
    began_s = time.perf_counter()
    analysis()
    return time.perf_counter() - began_s


if __name__ == "__main__":
    run(measure, __doc__)
