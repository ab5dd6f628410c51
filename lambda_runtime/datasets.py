"""RDataFrames over a range of a data set of files, with the samples of its specification."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import ROOT
from ROOT._distrdf import Ranges, _graph_cache
from ROOT._distrdf.HeadNode import TaskObjects

from lambda_runtime.ranges import FileRange


@dataclass(frozen=True)
class Sample:
    """A sample of a dataset specification: some files of the data set, one after the other."""

    name: str
    metadata: str
    """What the specification says of it, in JSON, as ROOT exports that."""
    n_files: int
    """Rows of the file table that belong to it."""


def over_samples(samples: Sequence[Sample], data_range: FileRange) -> Any:
    """Make an RDataFrame over a range, or give the one that DistRDF keeps under its identifier the range.

    ROOT's DistRDF pairs files and trees of a sample by two separate counts, which mismatch where a file has
    several trees, takes samples of one name for one, and numbers the samples of each range anew.

    Parameters
    ----------
    samples
        All samples of the data set; trees without a specification are one, without a name.
    data_range
        The range.

    Returns
    -------
    ROOT._distrdf.HeadNode.TaskObjects
        The frame, None if the range is empty; and the entries of its own trees.
    """
    return _over(data_range, tree_boundaries, partial(_tree_frame, samples))


def over_rntuples(data_range: FileRange) -> Any:
    """Make an RDataFrame over a range of RNTuples."""
    return _over(data_range, rntuple_boundaries, _rntuple_frame)


def rntuple_entries(name: str, url: str) -> int:
    """Return how many entries an RNTuple has."""
    return int(ROOT.RNTupleReader.Open(name, url).GetNEntries())


def tree_boundaries(tree: str, url: str) -> list[int]:
    """Return where the clusters of a tree begin, and the end of the last."""
    boundaries, entries = Ranges.get_clusters_and_entries("", tree, url)
    return list(boundaries) if entries else [0]


def rntuple_boundaries(name: str, url: str) -> list[int]:
    """Return where the clusters of an RNTuple begin, and the end of the last."""
    # ROOT 6.40 ends the process where it is asked for the clusters of an RNTuple without entries.
    return Ranges.get_rntuple_clusters_and_entries(name, url)[0] if rntuple_entries(name, url) else [0]


def _over(
    data_range: FileRange,
    boundaries_of: Callable[[str, str], list[int]],
    frame_of: Callable[[FileRange, int, int], Any],
) -> Any:
    start, stop, lengths = extent(data_range, boundaries_of)
    own = slice(data_range.first_file_idx, data_range.last_file_idx)
    rows = zip(data_range.treenames[own], data_range.filenames[own], lengths[own], strict=True)
    by_tree = {f"{url}/{tree}": length for tree, url, length in rows}
    frame = frame_of(data_range, start, stop) if start < stop else None
    return TaskObjects(frame, Ranges.TaskTreeEntries(stop - start, by_tree))


def extent(
    data_range: FileRange, boundaries_of: Callable[[str, str], list[int]]
) -> tuple[int, int, list[int]]:
    """Return which entries a range reads.

    Returns
    -------
    start, stop, lengths
        Half-open bounds among the entries of all its files, those before its own included; and how many
        entries each of these files has.
    """
    names = list(zip(data_range.treenames, data_range.filenames, strict=True))
    known = data_range.boundaries
    for each in set(names) - known.keys():
        known[each] = boundaries_of(*each)
    boundaries = [known[each] for each in names]
    lengths = [each[-1] for each in boundaries]
    first, last = data_range.first_file_idx, data_range.last_file_idx - 1
    start = sum(lengths[:first]) + _boundary(boundaries[first], data_range.first_tree_start_perc)
    stop = sum(lengths[:last]) + _boundary(boundaries[last], data_range.last_tree_end_perc)
    return start, stop, lengths


def entries_of(data_range: Any) -> Iterator[tuple[str, str, int, int]]:
    """Yield the files that a range reads, and which entries of each: URL, tree, and half-open bounds.

    Parameters
    ----------
    data_range
        DistRDF's range; one of entries without files has no URL.
    """
    if isinstance(data_range, Ranges.EmptySourceRange):
        yield "", "", data_range.start, data_range.end
        return
    first, behind = data_range.first_file_idx, data_range.last_file_idx
    for place in range(first, behind):
        url, tree = data_range.filenames[place], data_range.treenames[place]
        boundaries = _boundaries_of(tree, url)
        start = data_range.first_tree_start_perc if place == first else Fraction(0)
        stop = data_range.last_tree_end_perc if place == behind - 1 else Fraction(1)
        yield url, tree, _boundary(boundaries, start), _boundary(boundaries, stop)


def _boundaries_of(tree: str, url: str) -> list[int]:
    with ROOT.TFile.Open(url) as file:
        is_tree = isinstance(file.Get(tree), ROOT.TTree)
    return tree_boundaries(tree, url) if is_tree else rntuple_boundaries(tree, url)


def boundaries(source: str, tree: str, url: str) -> list[int]:
    """Return where the clusters of a file of a data set begin, and the end of the last.

    Parameters
    ----------
    source
        See `dask_root_lambda.protocol.task.Mapper`.
    tree, url
        Name of the tree or RNTuple, and the file.
    """
    return rntuple_boundaries(tree, url) if source == "rntuple" else tree_boundaries(tree, url)


def entries(boundaries: Sequence[int], start: Fraction, stop: Fraction) -> int:
    """Return how many entries a part of a file has, given by the shares where it starts and stops."""
    return _boundary(boundaries, stop) - _boundary(boundaries, start)


def _boundary(boundaries: Sequence[int], part: Fraction) -> int:
    """Return where the first cluster behind a part of a file begins: ranges read whole clusters."""
    return boundaries[bisect_left(boundaries, int(part * boundaries[-1]))]


def _rntuple_frame(data_range: FileRange, start: int, stop: int) -> Any:
    return ROOT.Internal.RDF.FromRNTuple(data_range.treenames[0], data_range.filenames, (start, stop))


def _tree_frame(samples: Sequence[Sample], data_range: FileRange, start: int, stop: int) -> Any:
    # Named types: to find out what a tuple stands for takes PyROOT a third of the time that all this takes.
    experimental = ROOT.RDF.Experimental
    spec = experimental.RDatasetSpec()
    for sample, own in _own_files(samples, data_range):
        trees, files = data_range.treenames[own], data_range.filenames[own]
        # A sample without files here is added as well: its number in the data set is its place.
        spec.AddSample(experimental.RSample(sample.name, trees, files, _metadata(sample)))
    spec.WithGlobalRange(experimental.RDatasetSpec.REntryRange(start, stop))
    for trees, files, alias in _friends(data_range):
        spec.WithGlobalFriends(trees, files, alias)
    frames = _graph_cache._RDF_REGISTER
    if data_range.exec_id not in frames:
        frames[data_range.exec_id] = ROOT.RDataFrame(spec)
    else:
        ROOT.Internal.RDF.ChangeSpec(ROOT.RDF.AsRNode(frames[data_range.exec_id]), ROOT.std.move(spec))
    return frames[data_range.exec_id]


def _own_files(samples: Sequence[Sample], data_range: FileRange) -> Iterator[tuple[Sample, slice]]:
    """Yield the samples, with which of a range's files are theirs."""
    n_files, behind = len(data_range.filenames), -data_range.first_file
    for sample in samples:
        start, behind = behind, behind + sample.n_files
        first = min(max(start, 0), n_files)
        yield sample, slice(first, min(max(behind, first), n_files))


def _metadata(sample: Sample) -> Any:
    metadata = ROOT.RDF.Experimental.RMetaData()
    if sample.metadata:
        ROOT.Internal.RDF.ImportJSON(metadata, sample.metadata)
    return metadata


def _friends(data_range: FileRange) -> Iterator[tuple[Any, Any, Any]]:
    """Yield trees, files and alias of each friend, as far as a range reads it."""
    for (trees, files, alias), own in zip(
        friends(data_range.friendinfo), data_range.friend_files, strict=True
    ):
        yield trees[own], files[own], alias


def friends(described: Any) -> Iterator[tuple[list[str], list[str], str]]:
    """Yield trees, files and alias of each friend. A friend that is no chain has no names of trees."""
    if described is None:
        return
    rows = zip(
        described.fFriendNames, described.fFriendFileNames, described.fFriendChainSubNames, strict=True
    )
    for (name, alias), files, trees in rows:
        named = [str(tree) for tree in trees] or [str(name)] * len(files)
        yield named, [str(file) for file in files], str(alias)
