"""Clusters of RNTuples, for DistRDF: asked for those of a file without entries, ROOT ends the process."""

from __future__ import annotations

import ROOT
from ROOT._distrdf import Ranges


def clusters_and_entries(name: str, url: str) -> tuple[list[int], int]:
    """Return where the clusters of an RNTuple begin and the last one ends, and the number of entries.

    Parameters
    ----------
    name, url
        The RNTuple and its file.
    """
    reader = ROOT.RNTupleReader.Open(name, url)
    clusters = reader.GetDescriptor().GetClusterIterable()
    ends = sorted(int(cluster.GetFirstEntryIndex() + cluster.GetNEntries()) for cluster in clusters)
    return [0, *(ends or [0])], int(reader.GetNEntries())


def install() -> None:
    """Let DistRDF look up clusters of RNTuples by `clusters_and_entries`."""
    Ranges.get_rntuple_clusters_and_entries = clusters_and_entries
