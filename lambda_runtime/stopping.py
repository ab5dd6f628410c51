"""How the work of a range is ended where its process must go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dask_root_lambda.protocol.errors import RunCancelledError

OnStop = Callable[[Callable[[], None] | None], None]
"""Takes what ends the work that goes on, to be called from any thread; then None, when it is over."""


@contextmanager
def watching(on_stop: OnStop | None) -> Iterator[Callable[[int], None]]:
    """Give what raises `RunCancelledError` once the work of the block is to end.

    Parameters
    ----------
    on_stop
        Called with what ends it, and with None behind the block; None where nobody will.
    """
    stopped = threading.Event()

    def watch(_: int) -> None:
        if stopped.is_set():
            raise RunCancelledError("the run was stopped")

    if on_stop is None:
        yield watch
        return
    on_stop(stopped.set)
    try:
        yield watch
    finally:
        on_stop(None)
