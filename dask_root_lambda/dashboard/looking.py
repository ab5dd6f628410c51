"""Work that is done again and again while somebody looks, and not longer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_LOOKED_AT_S = 5.0
"""How long work goes on after somebody has looked last."""


class Looking:
    """Calls a coroutine function as long as somebody looks.

    Parameters
    ----------
    work
        Returns the seconds to its next call. What it raises ends nothing: the next call may succeed.
    pause_s
        Seconds to the next call after one that failed.
    """

    def __init__(self, work: Callable[[], Awaitable[float]], pause_s: float) -> None:
        self._work = work
        self._pause_s = pause_s
        self._wanted_until_s = 0.0
        self._working: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Have it go on for a while."""
        self._wanted_until_s = time.monotonic() + _LOOKED_AT_S
        if self._working is None or self._working.done():
            self._working = asyncio.ensure_future(self._go_on())

    def close(self) -> None:
        """Stop."""
        if self._working is not None:
            self._working.cancel()

    async def _go_on(self) -> None:
        while time.monotonic() < self._wanted_until_s:
            pause_s = self._pause_s
            try:
                pause_s = await self._work()
            except Exception as error:  # whatever a worker raises that goes: what was seen last stays
                logger.debug("a worker does not answer: %r", error)
            await asyncio.sleep(pause_s)
