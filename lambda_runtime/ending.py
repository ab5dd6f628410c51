"""The end of a process in whose threads ROOT is at work.

ROOT takes itself down when the interpreter ends, and a daemon thread that is in it then crashes the process,
or aborts it. So each thread that works in ROOT says so here. At the end no thread begins such work, what is
registered is asked to stop, and this module waits for the rest. If that takes too long, the process ends
without taking down anything.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dask_root_lambda.protocol.errors import RunCancelledError
from lambda_runtime import departure

logger = logging.getLogger(__name__)

LIMIT_S = 0.5
"""How long the end of the process waits for threads in ROOT: one compiles, or opens a file, which nothing can
cut short."""

_changed = threading.Condition()
_at_work: set[int] = set()
_stops: list[Callable[[], None]] = []
_status: int | None = None
_is_over = False


@contextmanager
def at_work() -> Iterator[None]:
    """Say that this thread works in ROOT in the block.

    Raises
    ------
    RunCancelledError
        The process ends.
    """
    me = threading.get_ident()
    with _changed:
        if _is_over and me != threading.main_thread().ident:
            raise RunCancelledError("the process ends")
        nested = me in _at_work
        _at_work.add(me)
    try:
        yield
    finally:
        if not nested:
            with _changed:
                _at_work.discard(me)
                _changed.notify_all()


def on_end(stop: Callable[[], None]) -> None:
    """Call ``stop`` when the process ends, before threads are joined; the one registered last comes first."""
    _stops.append(stop)


def note_status(status: int) -> None:
    """Note the exit status, for the case that the process has to end by itself; else it is found out."""
    global _status
    _status = status


def _end() -> None:
    try:
        idle, interrupted = _stop_all(), False
    except KeyboardInterrupt:  # a further Ctrl-C: nobody wants to wait
        idle, interrupted = False, True
    if not idle:
        _leave(interrupted=interrupted)


def _stop_all() -> bool:
    """Stop what is registered, and wait for threads in ROOT; tell whether none is left."""
    global _is_over
    deadline_s = time.monotonic() + LIMIT_S
    for stop in reversed(_stops):
        try:
            stop()
        except Exception:
            logger.debug("could not stop", exc_info=True)
    with _changed:
        _is_over = True
        _at_work.discard(threading.get_ident())
        return _changed.wait_for(lambda: not _at_work, max(0.0, deadline_s - time.monotonic()))


def _leave(*, interrupted: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logger.info(
        "the process ends while ROOT is at work in %d of its threads, which do not stop", len(_at_work)
    )
    departure.flush()
    status = _status
    if status is None:
        status = -signal.SIGINT if interrupted else departure.status_of_a_copy()
    if status is not None:  # else this is the copy
        departure.leave(status)


# Before threads of pools are joined, and long before what atexit knows, of which ROOT's end is a part. The
# pools of concurrent.futures are ended in the same way: there is no public one.
threading._register_atexit(_end)  # type: ignore[attr-defined]


def _forget_threads() -> None:
    """Forget, in a fork, the threads that it does not have."""
    global _changed
    _changed = threading.Condition()
    _at_work.clear()
    _stops.clear()


os.register_at_fork(after_in_child=_forget_threads)
