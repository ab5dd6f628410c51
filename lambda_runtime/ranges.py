"""Ranges of a dataset. What a mapper names has to be in the function too, so they are made here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ROOT._distrdf import Ranges


@dataclass(frozen=True)
class Share:
    """A part of a list of files: from a point within the first of its files to one within the last."""

    files: slice
    """Which files it has to do with; they have a start and a stop."""
    start: Fraction
    """Where it starts in the first of them, as a part of that file: 0 is the file's start."""
    stop: Fraction
    """Where it ends in the last of them: 1 is the file's end."""


def shares(n_files: int, n_ranges: int) -> Iterator[Share]:
    """Divide files into equal shares, as a list: files count alike, whatever their size.

    In fractions: ROOT's DistRDF reckons where range ``i`` begins as ``files / n_ranges * i``, in floats, by
    which the last one ends beyond the last file, or before its last cluster.
    """
    for start, stop in itertools.pairwise(
        Fraction(n_files * index, n_ranges) for index in range(n_ranges + 1)
    ):
        first, behind = math.floor(start), math.ceil(stop)
        yield Share(slice(first, behind), start - first, stop - (behind - 1))


def entry_ranges(entries: int, n_ranges: int, *, exec_id: Any) -> list[Any]:
    """Divide a number of entries; none at all are one range."""
    if entries == 0:
        return [Ranges.EmptySourceRange(exec_id, 0, 0, 0)]
    balanced: list[Any] = Ranges.get_balanced_ranges(entries, n_ranges, exec_id)
    return balanced


def file_ranges(
    trees: Sequence[str],
    files: Sequence[str],
    n_ranges: int,
    *,
    friends: Any,
    samples: Mapping[str, Any] | None,
    exec_id: Any,
) -> list[Any]:
    """Divide files into equal shares; a range may end within a file.

    Parameters
    ----------
    trees, files
        The dataset, a tree in each file.
    n_ranges
        Ranges to divide it into.
    friends
        ROOT's description of friend trees; None without. Each range then gets all files, to align them.
    samples
        Of a dataset specification: DistRDF's samples by file and tree.
    exec_id
        DistRDF's identifier of the execution.
    """
    table = list(zip(trees, files, strict=True))
    ranges = []
    for index, share in enumerate(shares(len(files), n_ranges)):
        given = slice(0, len(files)) if friends is not None else share.files
        ranges.append(
            Ranges.TreeRangePerc(
                exec_id=exec_id,
                id=index,
                treenames=list(trees[given]),
                filenames=list(files[given]),
                first_file_idx=share.files.start - given.start,
                last_file_idx=share.files.stop - given.start,
                first_tree_start_perc=share.start,
                last_tree_end_perc=share.stop,
                friendinfo=friends,
                samples=samples and [samples[f"{file}/{tree}"] for tree, file in table[given]],
            )
        )
    return ranges
