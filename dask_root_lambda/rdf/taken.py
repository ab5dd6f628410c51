"""``Take``: the values of a column as a C++ collection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ROOT

from dask_root_lambda.protocol.errors import GraphError


@dataclass(frozen=True)
class Taken:
    """Which collection of which column."""

    column: str
    type_name: str
    """Type of the values, as the user wrote it."""
    collection: str = ""
    """Type of the collection; empty for ROOT's default, a vector."""

    @property
    def kind(self) -> Any:
        """The class of the collection."""
        return getattr(ROOT, self.collection) if self.collection else ROOT.std.vector[self.type_name]

    @property
    def _row(self) -> str | None:
        """Type of the elements of the values, where these are vectors."""
        found = re.fullmatch(r"\s*(?:std\s*::\s*)?vector\s*<(.+)>\s*", self.type_name)
        return found and found[1]

    def check(self, column_type: str, *, stored: bool) -> None:
        """Raise `GraphError` where values of the column cannot be put into the collection.

        A collection that is read from a file, and not defined, can be had as a vector as well as an RVec.
        """
        wanted = f"Take[{self.type_name!r}]({self.column!r})"
        names = [self.type_name, *([f"ROOT::VecOps::RVec<{self._row}>"] if stored and self._row else [])]
        if not any(ROOT.std.vector[name] is ROOT.std.vector[column_type] for name in names):
            raise GraphError(f"{wanted}: the column's type is {column_type}: name that")
        if not all(hasattr(self.kind, name) for name in ("push_back", "size")):
            raise GraphError(
                f"{wanted}: a collection has to be a vector or an RVec, given: {self.collection}"
            )

    def of(self, arrays: Mapping[str, Any]) -> Any:
        """Make the collection of what ``AsNumpy`` gives."""
        values = arrays[self.column]
        made = self.kind()
        if values.dtype == object:
            row = ROOT.std.vector[self._row] if self._row else None
            for value in values:
                made.push_back(value if row is None or isinstance(value, row) else _copy(value, row))
        elif values.dtype == bool:
            for value in values:
                made.push_back(bool(value))
        elif len(values):
            made.resize(len(values))
            np.asarray(made)[:] = values
        return made


@dataclass(frozen=True)
class TakeProxy:
    """What ``frame.Take`` is: the types are given in brackets, as in PyROOT."""

    book: Callable[[Taken], Any]

    def __getitem__(self, types: str | type | tuple[Any, ...]) -> Callable[[str], Any]:
        """Choose the type of the values, and the collection."""
        names = [_name(each) for each in (types if isinstance(types, tuple) else (types,))]
        if not 1 <= len(names) <= 2:
            raise GraphError(f"Take takes a type and a collection in brackets, given: {types!r}")
        return lambda column: self.book(Taken(str(column), *names))

    def __call__(self, *_: Any) -> Any:
        """Refuse, as PyROOT does: the type is not known."""
        raise GraphError('Take needs the type of the column in brackets: Take["double"]("x")')


def _copy(values: Any, vector: Any) -> Any:
    """Make a vector of an array, or of an RVec of what arrays cannot have."""
    if isinstance(values, np.ndarray):
        return vector(values)
    made = vector()
    for value in values:
        made.push_back(value)
    return made


def _name(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    return str(getattr(kind, "__cpp_name__", "std::string" if kind is str else kind.__name__))
