"""A user's script that books many histograms, with ROOT alone or with this package: a process of `booking`.

With ROOT alone it says when it has booked them. With this package it goes on and computes them, until it is
ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import ROOT


def book(
    new_frame: Callable[[], Any], variations: Callable[[Any], Any], frames: int, histograms: int
) -> list[Any]:
    """Book histograms of a column that varies, with their variations, on each of several frames."""
    results = []
    for _ in range(frames):
        varied = new_frame().Vary("x", "ROOT::RVecD{x - 1, x + 1}", ["down", "up"])
        results += [
            variations(varied.Histo1D((f"h{index}", "", 100, 0, 1000), "x")) for index in range(histograms)
        ]
    return results


def with_root(path: str, frames: int, histograms: int) -> None:
    """Book on local frames, and say so."""
    results = book(
        lambda: ROOT.RDataFrame("Events", path), ROOT.RDF.Experimental.VariationsFor, frames, histograms
    )
    print(len(results), flush=True)


def with_lambda(path: str, frames: int, histograms: int, endpoint: str) -> None:
    """Book on our frames, and compute on a function behind an endpoint."""
    import dask

    from dask_root_lambda import LambdaCluster, RDataFrame

    options: dict[str, Any] = {"function": "f", "endpoint_url": endpoint, "progress": False}
    with LambdaCluster(execution="lambda", concurrency=2, **options) as cluster, cluster.get_client():
        results = book(
            lambda: RDataFrame("Events", path, npartitions=2),
            ROOT.RDF.Experimental.VariationsFor,
            frames,
            histograms,
        )
        dask.compute(*results)


if __name__ == "__main__":
    _, file, n_frames, n_histograms, *server = sys.argv
    if server:
        with_lambda(file, int(n_frames), int(n_histograms), server[0])
    else:
        with_root(file, int(n_frames), int(n_histograms))
