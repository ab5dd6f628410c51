"""What is known of a graph while it is drawn: its columns, and what can be chosen among."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

from fuzz.sources import ENTRIES

T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """A column that can be used."""

    name: str
    bound: float = 1.0
    """What its magnitude does not exceed."""
    exact: bool = True
    """Whether sums of it are exact, in whatever order."""
    vector: bool = False


COLUMNS = {
    column.name: column
    for column in (
        Column("x", ENTRIES),
        Column("k", 5),
        Column("w", 2),
        Column("f", ENTRIES),
        Column("r", exact=False),
        Column("v", ENTRIES, vector=True),
        Column("other.x", ENTRIES),
        Column("other.k", 5),
    )
}
"""Those of sources that programs calculate with."""


@dataclass(frozen=True)
class Node:
    """What can be used of a node."""

    columns: tuple[Column, ...]
    varied: bool = False

    def with_column(self, column: Column) -> Node:
        """Return the node after a definition."""
        return Node((*self.columns, column), self.varied)


@dataclass(frozen=True)
class Place:
    """Where something is booked."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    """hypothesis's."""
    node: Node
    number: int
    """Number of the step or action."""
    source: str

    def one_of(self, choices: Sequence[T]) -> T:
        """Draw one of some."""
        drawn: T = self.draw(st.sampled_from(choices))
        return drawn

    def mostly(self, often: Sequence[T], seldom: Sequence[T]) -> T:
        """Draw one of some, and seldom one of others."""
        return self.one_of(seldom if self.draw(st.integers(0, 15)) == 15 else often)

    def column(self) -> Column:
        """Draw a column."""
        return self.one_of(self.node.columns)

    def scalar(self) -> Column:
        """Draw a column of numbers."""
        return self.one_of([column for column in self.node.columns if not column.vector])

    def columns(self) -> list[str]:
        """Draw names of one or two columns."""
        few = st.lists(st.sampled_from(self.node.columns), min_size=1, max_size=2, unique=True)
        return [column.name for column in self.draw(few)]
