"""Ranges of a dataset without files. What a mapper names has to be in the function too, so it is here."""

from __future__ import annotations

from typing import Any

from ROOT._distrdf import Ranges


def entry_ranges(entries: int, n_ranges: int, *, exec_id: Any) -> list[Any]:
    """Divide a number of entries; none at all are one range."""
    if entries == 0:
        return [Ranges.EmptySourceRange(exec_id, 0, 0, 0)]
    balanced: list[Any] = Ranges.get_balanced_ranges(entries, n_ranges, exec_id)
    return balanced
