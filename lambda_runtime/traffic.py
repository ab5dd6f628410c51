"""What this process reads besides its ranges: of the client all, of a function what no range asked for.

Ranges have tallies of their own (`lambda_runtime.tallies`). The SDK's requests, which list, look and copy,
are counted here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from dask_root_lambda.protocol.traffic import Traffic, of_source, summed

_KINDS = {
    "Get": "gets",
    "Head": "heads",
    "List": "lists",
    "Put": "puts",
    "Create": "puts",
    "Upload": "puts",
    "Complete": "puts",
    "Copy": "puts",
}
"""How names of S3's operations begin, and as what they are counted. Deleting costs nothing."""

Reader = Callable[[bool], Iterable[Traffic]]
"""Gives what was counted elsewhere; told True, forgets it."""

_lock = threading.Lock()
_found: list[Traffic] = []
_readers: list[Reader] = []


def own(*, forget: bool = False) -> tuple[Traffic, ...]:
    """Return what was counted in this process, besides its ranges.

    Parameters
    ----------
    forget
        Begin anew.
    """
    with _lock:
        parts = list(_found)
        for read in _readers:
            parts.extend(read(forget))
        _found[:] = [] if forget else summed(_found)
    return summed(parts)


def include(read: Reader) -> None:
    """Add what is counted elsewhere to what `own` returns."""
    with _lock:
        _readers.append(read)


def add(found: Traffic) -> None:
    """Count what this process knows of by itself."""
    with _lock:
        _found[:] = summed([*_found, found])


def watch(client: Any, endpoint: str) -> None:
    """Count the requests of an SDK's client, each attempt.

    Parameters
    ----------
    client
        Client of S3.
    endpoint
        URL of its S3; empty for AWS's own.
    """

    def count(request: Any, operation_name: str, **_: Any) -> None:
        kind = next((_KINDS[name] for name in _KINDS if operation_name.startswith(name)), None)
        bucket = request.context.get("s3_redirect", {}).get("bucket")
        if kind is not None and bucket:
            add(of_source(f"s3://{bucket} {endpoint}".rstrip(), **{kind: 1}))

    client.meta.events.register("request-created.s3", count)


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _found.clear()


os.register_at_fork(after_in_child=_forget)
