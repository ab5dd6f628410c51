"""Intervals of a dataset: which part of it a range reads, and a partial result has seen.

A dataset of files is a line on which each file has length 1, whatever its size: the interval from 1/2 to 2 is
the second half of the first file, and the second file. So a client names ranges without opening a file.
A dataset of entries without files is a line on which each entry has length 1.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction

from dask_root_lambda.protocol.errors import IncompleteResultError

# More digits than any range has: numbers without end, or powers of ten, would take hours.
_NAME = re.compile(r"(\d{1,99}(?:_\d{1,99})?)-(\d{1,99}(?:_\d{1,99})?)", re.ASCII)


@dataclass(frozen=True, order=True)
class Interval:
    """A half-open part of a dataset."""

    start: Fraction
    stop: Fraction

    def __str__(self) -> str:
        """Return its name, such as ``1_2-2``: in keys of stores, ``/`` means something else."""
        return f"{self.start}-{self.stop}".replace("/", "_")

    @property
    def halves(self) -> tuple[Interval, Interval]:
        """The interval as two."""
        middle = (self.start + self.stop) / 2
        return Interval(self.start, middle), Interval(middle, self.stop)

    @classmethod
    def parse(cls, name: str) -> Interval:
        """Read what `str` wrote; `ValueError` for anything else."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(f"{name[:99]!r} is no interval")
        try:
            start, stop = (Fraction(text.replace("_", "/")) for text in found.groups())
        except ZeroDivisionError:
            raise ValueError(f"{name} is no interval") from None
        if start > stop:
            raise ValueError(f"{name} is no interval")
        return cls(start, stop)


Division = tuple[Interval, ...]
"""A dataset as disjoint intervals, in order, without gaps."""


def divided(length: Fraction | int, n_parts: int) -> Division:
    """Divide a dataset of files, or the first part of one, into equal parts, which may end within a file.

    In fractions: ROOT's DistRDF reckons where range ``i`` begins as ``files / n_ranges * i``, in floats, by
    which the last one ends beyond the last file, or before its last cluster.
    """
    bounds = (Fraction(length * index, n_parts) for index in range(n_parts + 1))
    return tuple(Interval(start, stop) for start, stop in itertools.pairwise(bounds))


def joined(
    division: Iterable[Interval], is_empty: Callable[[Interval], bool], kept: Collection[Interval] = ()
) -> Division:
    """Join the intervals that nothing is read in with their neighbours, so that none of them is a range.

    Parameters
    ----------
    division
        Intervals in order, without gaps.
    is_empty
        Tells whether nothing is read in an interval.
    kept
        Intervals that stay as they are.

    Returns
    -------
    Division
        The same part of the dataset. Where nothing is read at all, it is one interval.
    """
    result: list[Interval] = []
    last_is_empty = False
    for interval in division:
        empty = interval not in kept and is_empty(interval)
        open_ended = bool(result) and interval not in kept and result[-1] not in kept
        if open_ended and (empty or last_is_empty):
            result[-1] = Interval(result[-1].start, interval.stop)
            last_is_empty = last_is_empty and empty
        else:
            result.append(interval)
            last_is_empty = empty
    return tuple(result)


def divided_entries(entries: int, n_parts: int) -> Division:
    """Divide a number of entries, as evenly as whole entries allow; none at all are one part."""
    n_parts = max(1, min(n_parts, entries))
    bounds = [Fraction(entries * index // n_parts) for index in range(n_parts + 1)]
    return tuple(Interval(start, stop) for start, stop in itertools.pairwise(bounds))


def union(parts: Iterable[Interval]) -> tuple[Interval, ...]:
    """Unite disjoint intervals; those that touch become one.

    Raises
    ------
    IncompleteResultError
        Two of them overlap, or are the same: something would count twice.
    """
    united: list[Interval] = []
    for part in sorted(parts):
        last = united[-1] if united else None
        if last is not None and (part.start < last.stop or part == last):
            raise IncompleteResultError(
                f"partial results of {last} and of {part} overlap: what is in both would count twice. Please "
                "report this, with the analysis"
            )
        if last is not None and part.start == last.stop:
            united[-1] = Interval(last.start, part.stop)
        else:
            united.append(part)
    return tuple(united)
