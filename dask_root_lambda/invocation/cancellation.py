"""Ending a wait from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Cancellation:
    """A request to stop, which also ends the wait that is going on."""

    def __init__(self) -> None:
        self._cancelled = False
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """End the wait that is registered, and any that will be."""
        with self._lock:
            self._cancelled = True
            if self._end is not None:
                self._end()

    def on_cancel(self, end: Callable[[], None] | None) -> None:
        """Register how to end the wait that begins now; None when it is over."""
        with self._lock:
            self._end = end
            if end is not None and self._cancelled:
                end()
