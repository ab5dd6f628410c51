"""What a head node reads: its files, how they are divided, and what a range of them has to know."""

from __future__ import annotations

import functools
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal

from ROOT._distrdf import HeadNode
from ROOT._distrdf.Node import Node

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import GraphError
from dask_root_lambda.protocol.intervals import Division, Interval, divided, divided_entries, joined
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.protocol.task import DataFile
from dask_root_lambda.rdf import inputs, whole
from lambda_runtime.datasets import Sample, boundaries, entries, over_rntuples, over_samples
from lambda_runtime.datasets import friends as friends_of
from lambda_runtime.ranges import Alignment, entry_range, file_range

logger = logging.getLogger(__name__)

Source = Literal["tree", "rntuple", "spec", "entries"]
_SOURCES: tuple[tuple[type[Any], Source], ...] = (
    (HeadNode.TreeHeadNode, "tree"),
    (HeadNode.RNTupleHeadNode, "rntuple"),
    (HeadNode.RDatasetSpecHeadNode, "spec"),
    (HeadNode.EmptySourceHeadNode, "entries"),
)


_MOST_LOOKED_AT = 64
"""Files whose clusters are looked up before a run."""


@dataclass(frozen=True)
class Dataset:
    """What a head node reads."""

    source: Source
    range: Callable[[int, Interval], Any]
    """See `dask_root_lambda.protocol.task.Program`."""
    build: Callable[[Any], Any]
    """See `dask_root_lambda.protocol.task.Program`."""
    identity: tuple[Any, ...]
    """Content of the files, of friends too."""
    shape: tuple[Any, ...]
    """What a compiled graph depends on."""
    files: tuple[DataFile, ...] = ()
    friends: tuple[DataFile, ...] = ()
    entries: int | None = None
    """Entries of a frame without files."""
    counts: tuple[int, ...] = ()
    """See ``entries`` of `dask_root_lambda.protocol.task.Mapper`."""
    names: tuple[str, ...] = ()
    """See `dask_root_lambda.protocol.task.Mapper`."""
    stop: Fraction | None = None
    """End of the part that is wanted, on the line; None for the end of all."""
    share: float = 1.0
    """Length of the part that is wanted, as a share of all, from 0 to 1."""

    @property
    def length(self) -> int:
        """Of the line that it is; see `dask_root_lambda.protocol.intervals`."""
        return len(self.files) if self.entries is None else self.entries

    def size(self, interval: Interval) -> float:
        """Return how much of it an interval is: bytes of files, or entries where there are none."""
        if self.entries is not None:
            return float(interval.stop - interval.start)
        first, behind = math.floor(interval.start), math.ceil(interval.stop)
        places = (Interval(Fraction(index), Fraction(index + 1)) for index in range(first, behind))
        parts = (_common(interval, place) for place in places)
        sizes = (file.identity.size for file in self.files[first:behind])
        return float(sum(part * size for part, size in zip(parts, sizes, strict=True)))

    @property
    def end(self) -> Fraction:
        """End of the part that is wanted."""
        return self.stop or Fraction(self.length)

    @property
    def whole_size(self) -> float:
        """Size of the part that is wanted."""
        return self.size(Interval(Fraction(), self.end))

    def divided(self, n_ranges: int) -> Division:
        """Divide it into as many ranges as ``n_ranges`` of the whole are, without those that read nothing."""
        if self.entries is not None:
            return divided_entries(self.entries, n_ranges)
        return self.joined(divided(self.stop or len(self.files), math.ceil(n_ranges * self.share)))

    def joined(self, division: Division, kept: Collection[Interval] = ()) -> Division:
        """Join ranges in which no cluster begins with their neighbours, as far as that is known."""
        if self.entries is not None or len(division) == 1:
            return division
        looked_at = self._looked_at(division)
        return joined(division, lambda interval: self._is_empty(interval, looked_at), kept)

    def _looked_at(self, division: Division) -> frozenset[int]:
        """Choose the files whose clusters are looked up: those that several ranges read.

        A file elsewhere is opened for that only if there are more ranges in a file than the first file has
        clusters: to open it takes as long as to start some of its ranges.
        """
        bounds = Counter(math.floor(interval.start) for interval in division)
        parts = [index for index, n_parts in bounds.items() if n_parts > 1][:_MOST_LOOKED_AT]
        if not parts:
            return frozenset()
        of_first = self._boundaries(0)
        crowded = of_first is not None and max(bounds.values()) >= len(of_first)
        local = (rootfile.local_path(self.files[index].url) is not None for index in parts)
        return frozenset(index for index, is_local in zip(parts, local, strict=True) if is_local or crowded)

    def _is_empty(self, interval: Interval, looked_at: Collection[int]) -> bool:
        first, behind = math.floor(interval.start), math.ceil(interval.stop)
        return all(
            index in looked_at
            and (found := self._boundaries(index)) is not None
            and not entries(found, *_within(interval, index))
            for index in range(first, behind)
        )

    def _boundaries(self, index: int) -> tuple[int, ...] | None:
        return _boundaries(self.source, self.files[index])


def of(head: Any, nodes: Mapping[int, Node], n_ranges: int | None, wanted: int | None = None) -> Dataset:
    """Describe what a head node reads, for a graph.

    Parameters
    ----------
    head
        DistRDF's head node.
    nodes
        The graph.
    n_ranges
        Ranges that were asked for, if any.
    wanted
        How many of its first entries are needed; None for all.

    Raises
    ------
    InputError
        A file cannot be read, or changed since the head node was made.
    """
    source = next(name for kind, name in _SOURCES if isinstance(head, kind))
    if source == "entries":
        return _of_entries(head, nodes, wanted)
    return _of_files(head, source, nodes, n_ranges, wanted)


def _of_entries(head: Any, nodes: Mapping[int, Node], wanted: int | None) -> Dataset:
    entries = int(head.nentries)
    read = entries if wanted is None else min(entries, wanted)
    return Dataset(
        source="entries",
        range=partial(entry_range, entries),
        build=head._generate_rdf_creator(),
        identity=(entries, read),
        shape=("entries", entries, _columns(head)),
        entries=read,
        counts=(entries,),
        names=(f"Empty source, range: {{0, {entries}}}",) if whole.names_samples(nodes) else (),
    )


def _of_files(
    head: Any, source: Source, nodes: Mapping[int, Node], n_ranges: int | None, wanted: int | None
) -> Dataset:
    trees = head.subnames if source == "rntuple" else head.subtreenames
    friendinfo = None if source == "rntuple" else head.friendinfo
    found = inputs.identities(head)
    own, others = found[: len(head.inputfiles)], found[len(head.inputfiles) :]
    files = tuple(DataFile(*row) for row in zip(head.inputfiles, trees, own, strict=True))
    friends = tuple(
        DataFile(url, "", identity) for url, identity in zip(inputs.friends(head), others, strict=True)
    )
    samples = head.samples or (Sample("", "", len(files)),)
    n_all, stop = len(files), None if wanted is None else whole.place(head, files, wanted)
    files = files if stop is None else files[: math.ceil(stop)]
    from_first = whole.names_missing(nodes)
    described = _friends(friendinfo)
    # Where a range has the files before its own, ROOT counts from the first of the dataset by itself.
    counted = n_ranges == 1 or len(files) == 1 or from_first
    counts = whole.entries(head, files) if whole.names_entries(nodes) and not counted else ()
    return Dataset(
        source=source,
        range=partial(
            file_range,
            list(trees),
            list(head.inputfiles),
            friendinfo,
            from_first,
            alignment=_alignment(head, files, others) if friendinfo is not None and n_ranges != 1 else None,
        ),
        build=over_rntuples if source == "rntuple" else partial(over_samples, samples),
        # As text: Dask takes half a second to name two thousand records.
        identity=(repr(files), repr(friends), described, samples, stop),
        shape=(source, _columns(head), described, bool(counts)),
        files=files,
        friends=friends,
        counts=counts,
        names=_names(head, trees) if whole.names_samples(nodes) else (),
        stop=stop,
        share=1.0 if stop is None else float(stop / n_all),
    )


def _alignment(head: Any, files: Sequence[DataFile], identities: Sequence[FileIdentity]) -> Alignment | None:
    """Find out which files of friends belong to which of a data set, where that has several."""
    if len(files) == 1:
        return None
    rest, groups = iter(identities), []
    for trees, urls, _ in friends_of(head.friendinfo):
        groups.append([DataFile(url, tree, next(rest)) for url, tree in zip(urls, trees, strict=True)])
    counted = [whole.entries(head, group) for group in (files, *groups)]
    return Alignment.of(counted[0], counted[1:])


def renamed(head: Any) -> bool:
    """Tell whether sources have other names in ranges than in local ROOT."""
    return isinstance(head, HeadNode.EmptySourceHeadNode) or head.names != head.inputfiles


def _names(head: Any, trees: Any) -> tuple[str, ...]:
    """Return what local ROOT calls the files."""
    called: dict[tuple[str, str], str] = {}
    for url, tree, name in zip(head.inputfiles, trees, head.names, strict=True):
        other = called.setdefault((url, tree), name)
        if other != name:
            raise GraphError(
                f"{url} is named twice, as {other} and as {name}, and the graph names sample information, in "
                "which a range cannot tell one from the other: name it in one way"
            )
    return tuple(head.names)


def clusters(head: Any) -> int:
    """Return how many clusters a dataset has, about; of one without files, how many entries. At least 1.

    They are reckoned from the first file: the others are opened where they run.
    """
    if isinstance(head, HeadNode.EmptySourceHeadNode):
        return max(1, int(head.nentries))
    rntuple = isinstance(head, HeadNode.RNTupleHeadNode)
    trees = head.subnames if rntuple else head.subtreenames
    found = boundaries("rntuple" if rntuple else "tree", trees[0], head.inputfiles[0])
    return max(1, (len(found) - 1) * len(head.inputfiles))


@functools.lru_cache(maxsize=1024)
def _boundaries(source: Source, file: DataFile) -> tuple[int, ...] | None:
    """Return where the clusters of a file begin, and the end of the last; its content is part of its name.

    None where they cannot be read: the ranges of the file tell why, or it is skipped on request.
    """
    try:
        return tuple(boundaries(source, file.tree, file.url))
    except Exception as error:  # whatever ROOT raises
        logger.debug("the clusters of %s are not known: %r", file.url, error)
        return None


def _within(interval: Interval, index: int) -> tuple[Fraction, Fraction]:
    """Return which part of a file an interval has, as shares of it."""
    return max(interval.start - index, Fraction()), min(interval.stop - index, Fraction(1))


def _common(one: Interval, other: Interval) -> Fraction:
    return min(one.stop, other.stop) - max(one.start, other.start)


def _friends(described: Any) -> list[Any]:
    """Return names, aliases and trees of the friends of a dataset, as plain values."""
    if described is None:
        return []
    names = [(str(name), str(alias)) for name, alias in described.fFriendNames]
    return [names, [[str(name) for name in names] for names in described.fFriendChainSubNames]]


def _columns(head: Any) -> list[tuple[str, str]]:
    """Names and types of the dataset's columns."""
    frame = head.rdf_node
    return [(str(name), str(frame.GetColumnType(name))) for name in frame.GetColumnNames()]
