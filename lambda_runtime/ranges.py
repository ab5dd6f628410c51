"""Ranges of a dataset. What a mapper names has to be in the function too, so they are made here."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Any

from ROOT._distrdf import Ranges

from dask_root_lambda.protocol.errors import ProtocolError
from dask_root_lambda.protocol.intervals import Interval


def entry_range(entries: int, index: int, interval: Interval) -> Any:
    """Make DistRDF's range of an interval of ``entries`` entries, whose bounds are rounded down."""
    _check(interval, entries)
    return Ranges.EmptySourceRange(None, index, int(interval.start), int(interval.stop))


@dataclass
class FileRange(Ranges.TreeRangePerc):  # type: ignore[misc]  # ROOT has no types
    """DistRDF's range of a dataset of files, which knows where in the dataset it is."""

    first_file: int
    """Place of the first of its files in the file table."""
    from_first: Callable[[], FileRange] | None
    """Makes the same range with the files before its own as well; None where it has all that it needs."""
    friend_files: tuple[slice, ...]
    """Files of each friend that it reads."""
    boundaries: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Tree and file -> where its clusters begin, and the end of the last, as far as it has been looked up."""

    def friend_urls(self) -> list[str]:
        """Return the files of friends that it reads."""
        groups = () if self.friendinfo is None else self.friendinfo.fFriendFileNames
        return [
            str(url) for group, own in zip(groups, self.friend_files, strict=True) for url in [*group][own]
        ]


@dataclass(frozen=True)
class Alignment:
    """Where the files of a dataset and of its friends begin, in entries; the end comes last."""

    own: tuple[int, ...]
    friends: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, entries: Sequence[int], friends: Sequence[Sequence[int]]) -> Alignment:
        """Make it of the entries of each file."""
        return cls(_starts(entries), tuple(map(_starts, friends)))

    def needed(self, first: int, behind: int) -> tuple[int, tuple[slice, ...]]:
        """Return what a range of the files ``first`` to ``behind`` needs to read friends beside them.

        Returns
        -------
        start, friends
            The first file that it needs: the last up to its own where files of all friends begin as well.
            Of each friend, the files from there to its end; ROOT complains of a friend that ends before.
        """
        begins = [set(friend[:-1]) for friend in self.friends]
        start = next(
            place
            for place in range(first, -1, -1)
            if place == 0 or all(self.own[place] in begin for begin in begins)
        )
        return start, tuple(_between(friend, self.own[start], self.own[behind]) for friend in self.friends)


def _starts(entries: Sequence[int]) -> tuple[int, ...]:
    return tuple(accumulate(entries, initial=0))


def _between(starts: Sequence[int], start: int, stop: int) -> slice:
    """Return the files that hold the entries from ``start`` to ``stop``; at least one."""
    first = bisect_right(starts, start, hi=len(starts) - 1) - 1
    return slice(first, max(first + 1, bisect_left(starts, stop, hi=len(starts) - 1)))


def file_range(
    trees: Sequence[str],
    files: Sequence[str],
    friends: Any,
    from_first: bool,
    index: int,
    interval: Interval,
    *,
    alignment: Alignment | None = None,
) -> FileRange:
    """Make a range of an interval of files.

    Parameters
    ----------
    trees, files
        The dataset, a tree in each file.
    friends
        ROOT's description of friend trees; None without.
    from_first
        Whether the range gets the files before its own as well, to know columns that its own do not have.
    index
        Number of the range.
    interval
        What it reads.
    alignment
        Which files of friends belong to which of the dataset; without it, a range with friends gets all.
    """
    _check(interval, len(files))
    first, behind = math.floor(interval.start), math.ceil(interval.stop)
    given = slice(0 if from_first else first, behind)
    befriended: tuple[slice, ...] = ()
    if friends is not None and alignment is None:
        given, befriended = slice(0, len(files)), (slice(None),) * len(friends.fFriendFileNames)
    elif alignment is not None:
        start, befriended = alignment.needed(given.start, behind)
        given = slice(start, behind)
    wide = partial(file_range, trees, files, friends, True, index, interval, alignment=alignment)
    return FileRange(
        exec_id=None,
        id=index,
        treenames=list(trees[given]),
        filenames=list(files[given]),
        first_file_idx=first - given.start,
        last_file_idx=behind - given.start,
        first_tree_start_perc=interval.start - first,
        last_tree_end_perc=interval.stop - (behind - 1),
        friendinfo=friends,
        samples=None,
        first_file=given.start,
        from_first=wide if given.start > 0 else None,
        friend_files=befriended,
    )


def _check(interval: Interval, length: int) -> None:
    if interval.stop > length:
        raise ProtocolError(f"there is no range {interval}: the dataset ends at {length}")
