"""Systematic variations of a result, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ROOT


class Variations(Mapping[str, Any]):
    """The nominal result and its systematic variations, by name.

    Parameters
    ----------
    mergeable
        ROOT's merged variations.
    """

    def __init__(self, mergeable: Any) -> None:
        self._mergeable = mergeable
        for name in self.GetKeys():
            _name(mergeable.GetVariation(name), name)

    def GetKeys(self) -> list[str]:  # noqa: N802  (ROOT's name)
        """Return the names, ``nominal`` among them."""
        return [str(name) for name in self._mergeable.GetKeys()]

    def __getitem__(self, name: str) -> Any:
        if name not in self.GetKeys():
            raise KeyError(f"no variation {name!r}; there are {', '.join(self.GetKeys())}")
        return self._mergeable.GetVariation(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.GetKeys())

    def __len__(self) -> int:
        return len(self.GetKeys())


def _name(value: Any, variation: str) -> None:
    """Name a varied histogram or graph as ROOT does, which forgets it for ranges after the first."""
    if variation != "nominal" and isinstance(value, ROOT.TH1 | ROOT.THnBase | ROOT.TGraph):
        ending = f"_{variation.replace(':', '_')}"
        value.SetName(f"{str(value.GetName()).removesuffix(ending)}{ending}")


@dataclass(frozen=True)
class Unvaried:
    """Stands for ROOT's merged variations of what nothing varies."""

    nominal: Any

    def GetKeys(self) -> list[str]:  # noqa: N802  (ROOT's name)
        """Return the one name that there is."""
        return ["nominal"]

    def GetVariation(self, _: str) -> Any:  # noqa: N802  (ROOT's name)
        """Return the nominal result."""
        return self.nominal
