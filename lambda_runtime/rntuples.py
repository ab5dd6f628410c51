"""RNTuples without entries, with which ROOT 6.40 ends the process.

It does when it looks for the clusters of one, and when an RDataFrame over nothing else runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ROOT
from ROOT._distrdf import Ranges


def clusters_and_entries(name: str, url: str) -> tuple[list[int], int]:
    """Return the boundaries of an RNTuple's clusters, the 0 before the first included, and its entries."""
    descriptor = ROOT.RNTupleReader.Open(name, url).GetDescriptor()
    clusters = descriptor.GetClusterIterable()
    ends = sorted(cluster.GetFirstEntryIndex() + cluster.GetNEntries() for cluster in clusters)
    return [0, *ends], int(descriptor.GetNEntries())


def frame_without_entries(name: str, urls: Sequence[str]) -> Any:
    """Return an RDataFrame with the columns of RNTuples, over no entries."""
    like = ROOT.RDataFrame(name, list(urls))
    frame = ROOT.RDataFrame(0)
    for column in map(str, like.GetColumnNames()):
        if "." not in column:
            frame = frame.Define(column, f"{like.GetColumnType(column)} none{{}}; return none;")
    return frame


# DistRDF looks it up in its module.
Ranges.get_rntuple_clusters_and_entries = clusters_and_entries
