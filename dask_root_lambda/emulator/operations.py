"""What operations of the API have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dask_root_lambda.emulator.errors import (
    InvalidParameterError,
    PreconditionFailedError,
    ValidationError,
)

Parameters: TypeAlias = dict[str, Any]
Operation: TypeAlias = Callable[[Parameters], Parameters]


def check_range(name: str, value: int | None, allowed: range) -> None:
    """Refuse a number out of its range; None is a parameter that was not given.

    Raises
    ------
    ValidationError
        Naming the bound.
    """
    if value is None or value in allowed:
        return
    low = value < allowed.start
    bound = (
        f"greater than or equal to {allowed.start}" if low else f"less than or equal to {allowed.stop - 1}"
    )
    raise ValidationError(
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
        f"Member must have value {bound}"
    )


def check_revision(parameters: Parameters, revision: str) -> None:
    """Refuse a call that was meant for another revision of its resource.

    Raises
    ------
    PreconditionFailedError
        If the parameter RevisionId is there, and another.
    """
    if parameters.get("RevisionId", revision) != revision:
        raise PreconditionFailedError(
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
        )


def is_empty(value: Any) -> bool:
    """Tell whether a setting says nothing: clients send empty ones to take away what was there."""
    return not value or (isinstance(value, Mapping) and all(map(is_empty, value.values())))


def _number(name: str, text: str, allowed: range) -> int:
    if not re.fullmatch("-?[0-9]{1,9}", str(text)):
        raise InvalidParameterError(f"{name} is no number that this service has given: {text!r}")
    check_range(name, int(text), allowed)
    return int(text)


def page(items: list[Parameters], name: str, parameters: Parameters) -> Parameters:
    """Cut one page out of a list; the marker is the position of the next one."""
    start = _number("marker", parameters.get("Marker") or "0", range(1 << 31))
    stop = start + _number("maxItems", parameters.get("MaxItems", "50"), range(1, 10_001))
    answer: Parameters = {name: items[start:stop]}
    if stop < len(items):
        answer["NextMarker"] = str(stop)
    return answer
