"""What the executor's threads have done, on its way to the event loop of a Dask worker."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any


class Outcomes:
    """Brings what threads have done to the event loop, together where it comes together.

    To wake the loop takes a system call, in which the thread lets go of the interpreter's lock.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._is_called = False
        """Whether the loop is going to look."""

    def put(self, future: asyncio.Future[Any], value: Any) -> None:
        """Let a future of the loop have its value, soon."""
        self._waiting.append((future, value))
        if not self._is_called:
            self._is_called = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        # Before it looks: what is put there from now on calls again.
        self._is_called = False
        while self._waiting:
            future, value = self._waiting.popleft()
            if not future.done():
                future.set_result(value)
