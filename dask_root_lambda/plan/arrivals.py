"""What becomes of runs: the steps of a run tell it here, and who booked its results listens.

Dask computes graphs in several ways, and tells none of them to who made the graph. Steps that run in the
process where the results were booked are heard; of those in other processes, Dask brings the values only.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class Listener(Protocol):
    """Who waits for a run. Called in whichever thread a step runs in."""

    def arrived(self, blobs: Sequence[bytes]) -> None:
        """Take the results of the run, a blob for each action in booking order."""

    def failed(self, error: BaseException) -> None:
        """Take note that a step of the run failed."""


_lock = threading.Lock()
_listeners: weakref.WeakKeyDictionary[Listener, str] = weakref.WeakKeyDictionary()


def listen(run: str, listener: Listener) -> None:
    """Tell ``listener`` of a run from now on, for as long as it lives."""
    with _lock:
        _listeners[listener] = run


def arrived(run: str, blobs: Sequence[bytes]) -> None:
    """Tell that a run is done."""
    for listener in _listening(run):
        listener.arrived(blobs)


def failed(run: str, error: BaseException) -> None:
    """Tell that a step of a run failed."""
    for listener in _listening(run):
        listener.failed(error)


@contextmanager
def failures_told(run: str) -> Iterator[None]:
    """Tell what a step of a run raises in the block, and raise it."""
    try:
        yield
    except BaseException as error:
        failed(run, error)
        raise


def _listening(run: str) -> list[Listener]:
    with _lock:
        return [listener for listener, theirs in _listeners.items() if theirs == run]
