"""Members of a JSON object that somebody else wrote: of the type and size that they have to have.

Everything here raises `KeyError`, `TypeError` or `ValueError`, of which the reader of a record makes an error
of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(data: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a text that can be written anywhere: without halves of characters."""
    value = data[name] if default is None else data.get(name, default)
    if not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}, not a text")
    value.encode()
    return value


def whole(data: Mapping[str, Any], name: str, default: int | None = None, low: int = 0) -> int:
    """Return a whole number from ``low`` to the largest one of 64 bits."""
    value = data[name] if default is None else data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 1 << 63:
        raise ValueError(f"{name} is not a whole number from {low}")
    return value


def items(data: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list."""
    value = data[name]
    if not isinstance(value, list):
        raise TypeError(f"{name} is a {type(value).__name__}, not a list")
    return value
