"""Ranges of a dataset. What a mapper names has to be in the function too, so they are made here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ROOT._distrdf import Ranges

from dask_root_lambda.protocol.errors import ProtocolError
from dask_root_lambda.protocol.intervals import Interval


def entry_range(entries: int, index: int, interval: Interval) -> Any:
    """Make DistRDF's range of an interval of ``entries`` entries, whose bounds are rounded down."""
    _check(interval, entries)
    return Ranges.EmptySourceRange(None, index, int(interval.start), int(interval.stop))


def file_range(
    trees: Sequence[str],
    files: Sequence[str],
    friends: Any,
    samples: Mapping[str, Any] | None,
    index: int,
    interval: Interval,
) -> Any:
    """Make DistRDF's range of an interval of files.

    Parameters
    ----------
    trees, files
        The dataset, a tree in each file.
    friends
        ROOT's description of friend trees; None without. A range then gets all files, to align them.
    samples
        Of a dataset specification: DistRDF's samples by file and tree.
    index
        Number of the range.
    interval
        What it reads.
    """
    _check(interval, len(files))
    first, behind = math.floor(interval.start), math.ceil(interval.stop)
    given = slice(0, len(files)) if friends is not None else slice(first, behind)
    table = list(zip(trees[given], files[given], strict=True))
    return Ranges.TreeRangePerc(
        exec_id=None,
        id=index,
        treenames=[tree for tree, _ in table],
        filenames=[file for _, file in table],
        first_file_idx=first - given.start,
        last_file_idx=behind - given.start,
        first_tree_start_perc=interval.start - first,
        last_tree_end_perc=interval.stop - (behind - 1),
        friendinfo=friends,
        samples=samples and [samples[f"{file}/{tree}"] for tree, file in table],
    )


def _check(interval: Interval, length: int) -> None:
    if interval.stop > length:
        raise ProtocolError(f"there is no range {interval}: the dataset ends at {length}")
