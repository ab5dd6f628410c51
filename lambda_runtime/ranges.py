"""Ranges of a dataset. What a mapper names has to be in the function too, so they are made here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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


def file_range(
    trees: Sequence[str], files: Sequence[str], friends: Any, from_first: bool, index: int, interval: Interval
) -> FileRange:
    """Make a range of an interval of files.

    Parameters
    ----------
    trees, files
        The dataset, a tree in each file.
    friends
        ROOT's description of friend trees; None without. With them, a range gets all files, to align them.
    from_first
        Whether the range gets the files before its own as well, to know columns that its own do not have.
    index
        Number of the range.
    interval
        What it reads.
    """
    _check(interval, len(files))
    first, behind = math.floor(interval.start), math.ceil(interval.stop)
    given = slice(0 if from_first else first, behind)
    if friends is not None:
        given = slice(0, len(files))
    wider = partial(file_range, trees, files, friends, True, index, interval) if given.start > 0 else None
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
        from_first=wider,
    )


def _check(interval: Interval, length: int) -> None:
    if interval.stop > length:
        raise ProtocolError(f"there is no range {interval}: the dataset ends at {length}")
