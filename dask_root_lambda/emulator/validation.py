"""Parameters checked against the API's own model, as the service does before it looks at anything else.

Clients check little of it themselves: types, and what is required. The wording is that of the service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session

from dask_root_lambda.emulator.errors import ValidationError


def check_parameters(operation: str, parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that the model of an operation does not allow.

    Raises
    ------
    ValidationError
        Naming every one of them.
    """
    shape = _input_shape(operation)
    problems = [] if shape is None else list(_structure(shape, parameters, ""))
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: "
        raise ValidationError(count + "; ".join(problems))


@cache
def _input_shape(operation: str) -> Any:
    return botocore.session.get_session().get_service_model("lambda").operation_model(operation).input_shape


def _structure(shape: Any, value: Mapping[str, Any], path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    for name in shape.required_members:
        if value.get(name) is None:
            yield _problem("null", path + _lower(name), "Member must not be null", quoted=False)
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _value(member, value[name], path + _lower(name))


def _value(shape: Any, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    if kind == "structure":
        yield from _structure(shape, value, f"{path}.")
    elif kind == "list" and isinstance(value, list):
        yield from _length(shape, value, path)
        for number, each in enumerate(value, 1):
            yield from _value(shape.member, each, f"{path}.{number}.member")
    elif kind == "map" and isinstance(value, Mapping):
        for key, each in value.items():
            yield from _value(shape.key, key, path)
            yield from _value(shape.value, each, f"{path}.{key}.member")
    elif kind == "string" and isinstance(value, str):
        yield from _string(shape, value, path)


def _string(shape: Any, value: str, path: str) -> Iterator[str]:
    yield from _length(shape, value, path)
    if shape.enum and value not in shape.enum:
        yield _problem(value, path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    pattern = _pattern(shape.metadata.get("pattern", ""))
    if pattern is not None and not pattern.fullmatch(value):
        yield _problem(value, path, f"Member must satisfy regular expression pattern: {pattern.pattern}")


def _length(shape: Any, value: str | list[Any], path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max")
    if len(value) < low:
        yield _problem(value, path, f"Member must have length greater than or equal to {low}")
    if high is not None and len(value) > high:
        yield _problem(value, path, f"Member must have length less than or equal to {high}")


def _problem(value: Any, path: str, constraint: str, *, quoted: bool = True) -> str:
    shown = f"'{value}'" if quoted else value
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]


@cache
def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error:
        # A few patterns of the model are Java's alone.
        return None
