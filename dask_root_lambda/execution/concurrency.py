"""How many invocations may be in flight: less than asked for, where AWS gives less.

AWS refuses what is over the concurrency that an account has left (429), which nobody is told beforehand:
others may use it too. So invocations begin with a few, and half as many again each fifth of a second: by then
a refusal would be there. Where AWS refuses some, as many go on as it has accepted, and now and then more are
tried. This is TCP's congestion control (RFC 5681), with a slow start by time and smaller steps.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 64
"""Invocations that are started at once in the beginning."""
STEP_S, GROWTH = 0.2, 1.5
"""Seconds in which they become so many times as many, as long as none was refused: 1,000 in 1.4 s."""
FEWEST_ANSWERS, MOST_ANSWERS = 10, 40
"""Answers after which more are tried, between them as many as are in flight: one more, and twice as many each
time, until some are refused."""
LARGEST_STEP = 0.1
"""How many more at most, as a part of those that are in flight."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
"""Longest wait for the next try while nothing is in flight that could be answered, seconds."""
_LONGEST_RAMP = 30
"""Steps after which any limit is reached."""


@dataclass
class Concurrency:
    """What may be in flight. Not thread-safe: the executor holds its lock.

    Parameters
    ----------
    limit
        What was asked for, or the account has.
    ramps
        Whether the beginning is slow: not where nobody refuses anything.
    """

    limit: int
    ramps: bool = True
    began_s: float | None = None
    """When the first invocation was started."""
    learned: int | None = None
    """What AWS gives, as far as is known; None until it has refused one."""
    answered_s: float = 0.0
    """When something was answered last, or the first was started."""
    not_before_s: float = 0.0
    """When the next may be started, after a refusal while nothing was in flight."""
    _answers: int = 0
    _step: int = 1
    _pauses: int = 0

    def allowed(self, now_s: float) -> int:
        """Return how many may be in flight now."""
        if now_s < self.not_before_s:
            return 0
        if self.learned is not None:
            return self.learned
        if not self.ramps:
            return self.limit
        return min(self.limit, int(FIRST * GROWTH ** min(_LONGEST_RAMP, self._steps(now_s))))

    def next_change_s(self, now_s: float) -> float | None:
        """Return when more may be allowed by the passing of time alone; None if never."""
        if now_s < self.not_before_s:
            return self.not_before_s
        if (
            self.learned is not None
            or not self.ramps
            or self.began_s is None
            or self.allowed(now_s) >= self.limit
        ):
            return None
        return self.began_s + STEP_S * (self._steps(now_s) + 1)

    def set_limit(self, limit: int) -> None:
        """Ask for another limit; what AWS is known to give stays known."""
        self.limit = limit
        if self.learned is not None:
            self.learned = min(self.learned, limit)

    def started(self, now_s: float) -> None:
        """Take note that an invocation is started."""
        if self.began_s is None:
            self.began_s = self.answered_s = now_s

    def answered(self, now_s: float) -> None:
        """Take note that an invocation was answered, whatever it said."""
        self.answered_s, self._pauses = now_s, 0
        if self.learned is None:
            return
        self._answers += 1
        enough = min(MOST_ANSWERS, max(FEWEST_ANSWERS, self.learned))
        if self._answers >= enough and self.learned < self.limit:
            self._answers = 0
            self.learned = min(self.limit, self.learned + self._step)
            self._step = max(1, min(2 * self._step, int(LARGEST_STEP * self.learned)))

    def refused(self, now_s: float, others: int, jitter: float) -> None:
        """Take note that AWS refused an invocation.

        Parameters
        ----------
        now_s
            Seconds from some fixed time.
        others
            Invocations that are in flight besides.
        jitter
            A random number in [0, 1).
        """
        known = self.limit if self.learned is None else self.learned
        self.learned, self._answers, self._step = max(1, min(known, others)), 0, 1
        if others == 0:
            self.wait(now_s, jitter)

    def wait(self, now_s: float, jitter: float) -> None:
        """Start nothing for a while, longer each time: the function is not ready, or others use it all."""
        if now_s >= self.not_before_s:
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._pauses, 10))
            self.not_before_s = now_s + pause_s * (0.5 + 0.5 * jitter)
            self._pauses += 1

    def _steps(self, now_s: float) -> int:
        return int((now_s - self.began_s) / STEP_S + 1e-9) if self.began_s is not None else 0
