"""AsNumpy's arrays: those of the ranges put together, and elements that ROOT does not pickle right.

Of an ``RVec`` whose type has no dictionary, such as ``RVec<RVec<float>>``, ROOT writes a stand-in, and
crashes when it reads that. Its elements travel instead, one by one.
"""

from __future__ import annotations

import copyreg
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import ROOT

_RVEC = "ROOT::VecOps::RVec<"
_reading = threading.Lock()
"""Held to read arrays out: of a C++ class that two threads use first at once, ROOT makes two Python classes,
and elements of one of them are no arrays."""


def read_out(result: Any) -> Arrays:
    """Return the arrays of one range, of what ``AsNumpy`` returned."""
    with _reading:
        return Arrays(result.GetValue())


class Arrays:
    """The arrays of some ranges, by column; a mergeable object, as DistRDF calls it.

    Parameters
    ----------
    arrays
        Those of one range, as ``AsNumpy`` returns them.
    """

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._parts = {column: [array] for column, array in arrays.items()}
        _prepare_pickling(arrays)

    def Merge(self, other: Arrays) -> None:  # noqa: N802  (DistRDF's name)
        """Append the arrays of the ranges that follow."""
        for column, parts in self._parts.items():
            parts.extend(other._parts[column])

    def GetValue(self) -> dict[str, Any]:  # noqa: N802  (DistRDF's name)
        """Return the arrays."""
        arrays = {column: np.concatenate(parts) for column, parts in self._parts.items()}
        _prepare_pickling(arrays)
        return arrays


def _prepare_pickling(arrays: dict[str, Any]) -> None:
    for array in arrays.values():
        if array.dtype == object:
            _pickle_by_element(array)


def _pickle_by_element(elements: Sequence[Any]) -> None:
    """Let elements that are vectors without a dictionary be pickled by their own elements."""
    for kind in {type(element) for element in elements}:
        name = getattr(kind, "__cpp_name__", "")
        if name.startswith(_RVEC) and not ROOT.TClass.GetClass(name).HasDictionary():
            copyreg.pickle(kind, _reduce)


def _reduce(vector: Any) -> tuple[Any, ...]:
    elements = list(vector)
    _pickle_by_element(elements)
    return _vector, (type(vector).__cpp_name__, elements)


def _vector(name: str, elements: list[Any]) -> Any:
    vector = ROOT.VecOps.RVec[name[len(_RVEC) : -1].strip()]()
    for element in elements:
        vector.push_back(element)
    return vector
