"""Locks: one for many who run and one who compiles, one that is held to make values."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

making = threading.Lock()
"""Held to make values. ROOT makes a Python class of a C++ class when that is first used. Two threads that use
it first at once get two classes, and objects of one of them are no instances of ``ROOT.TH1D``."""


class SharedLock:
    """Held by any number of threads that share it, or by one that has it alone.

    A thread that wants it alone goes first: threads that want to share it wait until none waits to be alone.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._wanting = 0
        self._alone = False

    @contextmanager
    def shared(self, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the lock together with others.

        Raises
        ------
        TimeoutError
            It was not free in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not (self._alone or self._wanting), timeout_s):
                raise TimeoutError("others compile")
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the lock with nobody else.

        Raises
        ------
        TimeoutError
            It was not free in time.
        """
        with self._changed:
            self._wanting += 1
            free = self._changed.wait_for(lambda: not (self._alone or self._sharing), timeout_s)
            self._wanting -= 1
            if not free:
                self._changed.notify_all()
                raise TimeoutError("others run")
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
