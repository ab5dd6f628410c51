"""Ranges of a dataset. What a mapper names has to be in the function too, so they are made here."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ROOT._distrdf import Ranges


class _ExactDivisor(int):
    """A number by which other numbers divide into fractions, without rounding."""

    def __rtruediv__(self, other: int) -> Fraction:  # type: ignore[misc, override]
        return Fraction(other, int(self))


def entry_ranges(entries: int, n_ranges: int, *, exec_id: Any) -> list[Any]:
    """Divide a number of entries; none at all are one range."""
    if entries == 0:
        return [Ranges.EmptySourceRange(exec_id, 0, 0, 0)]
    balanced: list[Any] = Ranges.get_balanced_ranges(entries, n_ranges, exec_id)
    return balanced


def file_ranges(
    trees: list[str], files: list[str], n_ranges: int, *, friends: Any, samples: Any, exec_id: Any
) -> list[Any]:
    """Divide files into equal shares; a range may end within a file.

    DistRDF reckons where range ``i`` begins as ``files / n_ranges * i``, in floats, by which the last one
    ends beyond the last file, or before its last cluster.
    """
    shares: list[Any] = Ranges.get_percentage_ranges(
        trees, files, _ExactDivisor(n_ranges), friends, exec_id, samples
    )
    return shares
