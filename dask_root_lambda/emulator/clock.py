"""Time as the emulator sees it: real, or real with the waiting left out.

What a function does takes the time that it takes. What Lambda does between events (keep an idle environment
for minutes, wait a minute before a retry) can be skipped: a virtual clock jumps to the next retry as soon as
nothing runs, and further when it is told to.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable


class Timer:
    """A callback that is still to come.

    Parameters
    ----------
    callback
        What to call.
    skips
        Whether a virtual clock may jump to it.
    """

    __slots__ = ("callback", "skips")

    def __init__(self, callback: Callable[[], None], skips: bool) -> None:
        self.callback: Callable[[], None] | None = callback
        self.skips = skips

    def cancel(self) -> None:
        """Never call it."""
        self.callback = None


class Clock:
    """Tells the time, and calls back at times.

    Must be used from the event loop's thread.

    Parameters
    ----------
    virtual
        Whether waiting may be skipped.
    """

    def __init__(self, virtual: bool = False) -> None:
        self.virtual = virtual
        """Whether waiting may be skipped."""
        self.is_quiet: Callable[[], bool] = lambda: False
        """Tells whether nothing runs, so that nobody would notice a jump."""
        self._loop = asyncio.get_running_loop()
        self._skipped_s = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._skipped_s

    def monotonic_s(self) -> float:
        """Seconds since some time, never going back."""
        return self._loop.time() + self._skipped_s

    def call_later(self, delay_s: float, callback: Callable[[], None], *, skips: bool = False) -> Timer:
        """Call back after a time; a virtual clock may jump to a call that ``skips``."""
        timer = Timer(callback, skips)
        heapq.heappush(self._timers, (self.monotonic_s() + delay_s, next(self._numbers), timer))
        self._set_alarm()
        if skips:
            self.work_ended()
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass at once.

        Raises
        ------
        RuntimeError
            If the clock is real.
        ValueError
            If time would go back.
        """
        if not self.virtual:
            raise RuntimeError("the clock is real; start the emulator with virtual_clock=True to advance it")
        if seconds < 0:
            raise ValueError(f"time cannot go back: {seconds} s")
        self._skipped_s += seconds
        self._ring()

    def work_ended(self) -> None:
        """Look whether there is nothing left to do but wait."""
        if self.virtual:
            self._loop.call_soon(self._skip)

    def close(self) -> None:
        """Call back no more."""
        self._timers.clear()
        self._set_alarm()

    def _skip(self) -> None:
        if not self.is_quiet():
            return
        waiting = [due_s for due_s, _, timer in self._timers if timer.skips and timer.callback is not None]
        if waiting:
            self.advance(max(0.0, min(waiting) - self.monotonic_s()))

    def _ring(self) -> None:
        """Call everything that is due."""
        while self._timers and self._timers[0][0] <= self.monotonic_s():
            _, _, timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._timers:
            delay_s = max(0.0, self._timers[0][0] - self.monotonic_s())
            self._alarm = self._loop.call_later(delay_s, self._ring)
