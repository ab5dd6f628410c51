"""Results that need the first entries of a data set only, and how many.

``Range`` of a frame chooses entries by their number, so it is a cut to ranges of the data set, each of which
knows the numbers of its own. Behind a cut it would choose by how many passed before, which no range knows.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.protocol.errors import GraphError

FIRST_SEARCH = 65_536
"""Entries in which rows behind a cut are looked for first."""
SEARCH_GROWTH = 16
"""How many times as many are looked at where these had too few."""

_NAMES = ("begin", "end", "stride")
_CUTS = ("Filter", "FilterAvailable", "FilterMissing")


@dataclass(frozen=True)
class EntryRange:
    """Entries of a data set: every ``stride``-th of those from ``begin`` up to ``end``."""

    begin: int
    end: int
    """0 for the last."""
    stride: int = 1

    @property
    def expression(self) -> str:
        """The cut that keeps them."""
        parts = [f"rdfentry_ >= {self.begin}ULL"] if self.begin else []
        if self.end:
            parts.append(f"rdfentry_ < {self.end}ULL")
        if self.stride > 1:
            parts.append(f"(rdfentry_ - {self.begin}ULL) % {self.stride}ULL == 0")
        return " && ".join(parts) or "true"


def entry_range(parent: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> EntryRange:
    """Read the arguments of a ``Range`` that is booked on a node of DistRDF.

    Raises
    ------
    GraphError
        It takes no such arguments, or is behind a cut.
    """
    if any(_is_cut(node) for node in _chain(parent)):
        raise GraphError(
            "Range behind a cut, or behind another Range, is not possible over ranges: none knows how many "
            "entries passed before its own. Use Display, which shows the first that pass, or AsNumpy and a "
            "slice of its arrays; or book the Range on the frame, before the cuts"
        )
    if any(node.operation is not None and "rdfentry_" in node.operation.args[:1] for node in _chain(parent)):
        raise GraphError("Range goes by rdfentry_, which is redefined here: book it before")
    places = ("end",) if len(args) == 1 and not kwargs else _NAMES
    given = {**dict(zip(places, args, strict=False)), **kwargs}
    numbers = {name: operator.index(item) for name, item in given.items() if hasattr(item, "__index__")}
    if len(args) > len(_NAMES) or numbers.keys() != given.keys() or not {"end"} <= given.keys() <= {*_NAMES}:
        raise GraphError(f"Range{tuple(args)!r}: no such arguments; they are (end) or (begin, end, stride=1)")
    found = EntryRange(numbers.get("begin", 0), numbers["end"], numbers.get("stride", 1))
    if min(found.begin, found.end) < 0 or found.stride < 1 or 0 < found.end < found.begin:
        raise GraphError(f"Range{tuple(args)!r}: end has to be greater than begin, or 0; stride at least 1")
    return found


def needed(node: Any) -> int | None:
    """Return how many of the first entries a result needs at most; None for all."""
    bounds = [each.entry_range.end for each in _chain(node) if _range_of(each) is not None]
    ends = [end for end in bounds if end]
    if not ends and is_display(node) and not any(_is_cut(each) for each in _chain(node)):
        return int(node.operation.args[1])
    return min(ends, default=None)


def needed_by_all(nodes: Sequence[Any]) -> int | None:
    """Return how many of the first entries results need together; None for all."""
    bounds = [needed(node) for node in nodes]
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None


def is_search(node: Any) -> bool:
    """Tell whether a result shows the first entries that pass a cut, of which nobody knows where they are."""
    return is_display(node) and needed(node) is None


def alike(node: Any, other: Any) -> bool:
    """Tell whether two results may be computed in one pass without one needing more entries for the other."""
    if is_search(node) or is_search(other):
        return node is other
    return (needed(node) is None) == (needed(other) is None)


def is_display(node: Any) -> bool:
    """Tell whether a node of DistRDF shows the first entries that pass."""
    return node.operation is not None and node.operation.name == "Display"


def _is_cut(node: Any) -> bool:
    return node.operation is not None and node.operation.name in _CUTS


def _range_of(node: Any) -> EntryRange | None:
    found: EntryRange | None = vars(node).get("entry_range")
    return found


def _chain(node: Any) -> Iterator[Any]:
    while node is not None:
        yield node
        node = node.parent
