"""Faults on order: what goes wrong, when, and how often.

A table of them tells, for every invocation and every request to S3, whether something happens to it. The
first entry that fits decides. Chance comes from a seed, so that what happened once can happen again.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import yaml

LAMBDA_KINDS = {
    "throttle": "429 TooManyRequestsException, nothing runs",
    "error-500": "500 ServiceException, nothing runs",
    "error-503": "503 ServiceUnavailableException, nothing runs",
    "reset": "the connection is reset, nothing runs",
    "delay": "the event waits delay_s before it runs",
    "slow-start": "a new environment starts delay_s later",
    "timeout": "the function is killed delay_s after its start, as if its time were over",
    "kill": "the function's process is killed delay_s after its start",
    "lost-answer": "the function runs, and the connection ends without the answer",
    "truncate": "the function runs, and the connection ends in the middle of the answer",
    "corrupt": "the function runs, and one byte of its answer is another",
    "duplicate": "the event is delivered twice",
}
# Those of them that happen to the request, before an event is accepted.
REQUEST_KINDS = frozenset({"throttle", "error-500", "error-503", "reset", "delay"})
S3_KINDS = {
    "slow-down": "503 SlowDown",
    "error-500": "500 InternalError",
    "slow": "the answer comes delay_s later",
    "truncate": "the connection ends in the middle of the answer",
    "missing": "404 NoSuchKey",
}


@dataclass(frozen=True)
class LambdaFault:
    """Something that happens to invocations."""

    kind: str
    """One of ``LAMBDA_KINDS``."""
    function: str = "*"
    """Pattern of the function's name (``fnmatch``)."""
    invocations: tuple[int, ...] = ()
    """Numbers of the function's invocations, from 1, retries included; empty for all."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the event and the values that they must have."""
    probability: float = 1.0
    """Of happening to an invocation that fits."""
    times: int | None = None
    """At most so often; None for no limit."""
    delay_s: float = 0.0
    """For the kinds that take time."""

    def __post_init__(self) -> None:
        _check(self, LAMBDA_KINDS)


@dataclass(frozen=True)
class S3Fault:
    """Something that happens to requests for objects."""

    kind: str
    """One of ``S3_KINDS``."""
    bucket: str = "*"
    """Pattern of the bucket's name."""
    key: str = "*"
    """Pattern of the object's key."""
    method: str = "*"
    """Pattern of the HTTP method: GET, PUT, HEAD, DELETE, POST."""
    requests: tuple[int, ...] = ()
    """Numbers of the bucket's requests, from 1; empty for all."""
    probability: float = 1.0
    """Of happening to a request that fits."""
    times: int | None = None
    """At most so often; None for no limit."""
    delay_s: float = 0.0
    """For the kinds that take time."""

    def __post_init__(self) -> None:
        _check(self, S3_KINDS)


@dataclass(frozen=True)
class Faults:
    """A table of faults."""

    invocations: tuple[LambdaFault, ...] = ()
    """The first that fits an invocation happens to it."""
    objects: tuple[S3Fault, ...] = ()
    """The first that fits a request to S3 happens to it."""


class FaultsError(ValueError):
    """A table of faults that cannot be read."""


def read_faults(document: Any) -> Faults:
    """Make a table from ``{"lambda": [{"kind": ...}], "s3": [...]}``.

    Raises
    ------
    FaultsError
        Naming the entry that is wrong.
    """
    if not isinstance(document, dict) or set(document) - {"lambda", "s3"}:
        raise FaultsError(
            f"a table of faults is a mapping with the keys lambda and s3, not {document!r:.200}"
        )
    return Faults(
        tuple(_read(LambdaFault, entry) for entry in _entries(document, "lambda")),
        tuple(_read(S3Fault, entry) for entry in _entries(document, "s3")),
    )


def load_faults(path: Path) -> Faults:
    """Read a table from a YAML or JSON file.

    Raises
    ------
    FaultsError
        Naming the file and what is wrong in it.
    """
    try:
        return read_faults(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, FaultsError) as error:
        raise FaultsError(f"{path}: {error}") from error


class FaultTable:
    """Decides what happens, and remembers what has.

    Parameters
    ----------
    faults
        The table.
    chance
        For faults that happen with a probability.
    """

    def __init__(self, faults: Faults, chance: random.Random) -> None:
        self._faults = faults
        self._chance = chance
        self._numbers: Counter[str] = Counter()
        self._happened: Counter[int] = Counter()

    def replace(self, faults: Faults) -> None:
        """Take another table, and count from 1 again."""
        self._faults = faults
        self._numbers.clear()
        self._happened.clear()

    def of_invocation(self, function: str, payload: bytes) -> LambdaFault | None:
        """Decide what happens to the next invocation of a function."""
        if not self._faults.invocations:
            return None
        self._numbers[f"lambda {function}"] += 1
        number = self._numbers[f"lambda {function}"]
        for position, fault in enumerate(self._faults.invocations):
            fits = (
                fnmatchcase(function, fault.function)
                and (not fault.invocations or number in fault.invocations)
                and _has(payload, fault.payload)
            )
            if fits and self._happens(position, fault.probability, fault.times):
                return fault
        return None

    def of_request(self, method: str, bucket: str, key: str) -> S3Fault | None:
        """Decide what happens to the next request for an object."""
        if not self._faults.objects or not key:
            return None
        self._numbers[f"s3 {bucket}"] += 1
        number = self._numbers[f"s3 {bucket}"]
        for position, fault in enumerate(self._faults.objects):
            fits = (
                fnmatchcase(bucket, fault.bucket)
                and fnmatchcase(key, fault.key)
                and fnmatchcase(method, fault.method)
                and (not fault.requests or number in fault.requests)
            )
            # Negative numbers, so that the two tables count apart.
            if fits and self._happens(-1 - position, fault.probability, fault.times):
                return fault
        return None

    def _happens(self, position: int, probability: float, times: int | None) -> bool:
        if times is not None and self._happened[position] >= times:
            return False
        if probability < 1.0 and self._chance.random() >= probability:
            return False
        self._happened[position] += 1
        return True


Entry = TypeVar("Entry", LambdaFault, S3Fault)


def _entries(document: Mapping[str, Any], name: str) -> list[Any]:
    entries = document.get(name) or []
    if not isinstance(entries, list):
        raise FaultsError(f"{name} is {entries!r:.200}; it must be a list of faults")
    return entries


def _read(kind: type[Entry], entry: Any) -> Entry:
    known = {each.name for each in fields(kind)}
    if not isinstance(entry, dict) or set(entry) - known:
        raise FaultsError(f"a fault is a mapping with some of {', '.join(sorted(known))}, not {entry!r}")
    # Lists of a file become the tuples of a frozen value.
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()
    }
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise FaultsError(f"{entry}: {error}") from None


def _check(fault: LambdaFault | S3Fault, kinds: Mapping[str, str]) -> None:
    """Refuse what would fail in the middle of an invocation, where nobody sees why."""
    for each in fields(fault):
        value, (fits, form) = getattr(fault, each.name), _FORMS[each.name]
        if not fits(value):
            raise ValueError(f"{each.name} is {value!r}; it must be {form}")
    if fault.kind not in kinds:
        raise ValueError(f"kind {fault.kind!r} is none of {', '.join(kinds)}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int) and value >= 1


def _are_counts(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_count, value))


_TEXT = (_is_text, "a text")
_COUNTS = (_are_counts, "a list of numbers, from 1")

# Of each field: what tells whether a value will do, and its words.
_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("kind", "function", "bucket", "key", "method"), _TEXT),
    **dict.fromkeys(("invocations", "requests"), _COUNTS),
    "payload": (lambda value: isinstance(value, Mapping), "a mapping of keys to values"),
    "probability": (lambda value: _is_number(value) and 0 <= value <= 1, "a number between 0 and 1"),
    "times": (lambda value: value in (None, 0) or _is_count(value), "a number, or nothing for no limit"),
    "delay_s": (lambda value: _is_number(value) and 0 <= value < math.inf, "a number of seconds, from 0"),
}


def _has(payload: bytes, wanted: Mapping[str, Any]) -> bool:
    if not wanted:
        return True
    event = json.loads(payload)
    return isinstance(event, dict) and all(
        key in event and event[key] == value for key, value in wanted.items()
    )
