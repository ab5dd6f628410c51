"""Execution environments of Lambda, as far as they take time: cold starts, the ramp, the slow tail.

The figures are those of AWS's documentation where it has some, and what was measured of functions that run
ROOT where it has none: see the fields.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Timing:
    """How long what takes. Times are in seconds of AWS's; `speed` of them pass in one second here."""

    seconds: float = 10.0
    """Median of what a range takes."""
    entries: int = 1024
    """Entries of such a range; others take as much more or less. (A power of two: it can be halved.)"""
    spread: float = 0.05
    """Standard deviation of its logarithm."""
    slow: tuple[tuple[float, float], ...] = ((0.01, 1.66), (0.001, 3.0))
    """The slow tail: share of invocations, and how many times as long they take. Of 512 functions of the
    CCGrid 2022 prototype the slowest took 1.66 times the median; some that are slower still are assumed."""
    latency_s: float = 0.02
    """Median of what the service adds to an invocation."""
    cold_s: float = 1.0
    """Median of a cold start with SnapStart; without it, five (infra/variables.tf)."""
    cold_spread: float = 0.2
    limit: int = 1000
    """Invocations at once that the account allows."""
    ramp: int = 1000
    """New environments in `ramp_s`, at most; as many at once in the beginning."""
    ramp_s: float = 10.0
    speed: float = 1.0

    def to_json(self) -> str:
        """Return it as text, for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Timing:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Place:
    """An invocation that got an environment."""

    seconds: float
    """How long it takes, here."""
    duration_s: float
    """How long the function runs, by AWS's clock."""
    init_s: float | None
    """How long the environment took to start, by AWS's clock; None for one that was there."""


class Environments:
    """The environments of one function.

    Parameters
    ----------
    timing
        How long what takes.
    seed
        Of what is random.
    """

    def __init__(self, timing: Timing, seed: int = 0) -> None:
        self._timing = timing
        self._random = random.Random(seed)
        self._idle = 0
        self._busy = 0
        self._to_start = float(timing.ramp)
        """New ones that may be started now."""
        self._seen_s: float | None = None

    def take(self, now_s: float, entries: int | None = None) -> Place | None:
        """Take an environment for an invocation; None where AWS refuses it.

        Parameters
        ----------
        now_s
            The time.
        entries
            Of the range; None for as many as one commonly has.
        """
        self._refill(now_s)
        is_new = self._idle == 0
        if self._busy >= self._timing.limit or (is_new and self._to_start < 1):
            return None
        self._busy += 1
        if is_new:
            self._to_start -= 1
        else:
            self._idle -= 1
        return self._place(is_new, 1.0 if entries is None else entries / self._timing.entries)

    def give_back(self) -> None:
        """Take note that an invocation is over."""
        self._busy -= 1
        self._idle += 1

    def _refill(self, now_s: float) -> None:
        timing = self._timing
        passed_s = 0.0 if self._seen_s is None else (now_s - self._seen_s) * timing.speed
        self._to_start = min(timing.ramp, self._to_start + passed_s * timing.ramp / timing.ramp_s)
        self._seen_s = now_s

    def _place(self, is_new: bool, share: float) -> Place:
        timing = self._timing
        init_s = self._drawn(timing.cold_s, timing.cold_spread) if is_new else None
        duration_s = self._drawn(timing.seconds * share, timing.spread) * self._slowness()
        seconds = self._drawn(timing.latency_s, 0.5) + duration_s + (init_s or 0.0)
        return Place(seconds / timing.speed, duration_s, init_s)

    def _slowness(self) -> float:
        drawn = self._random.random()
        for share, factor in self._timing.slow:
            if drawn < share:
                return factor
            drawn -= share
        return 1.0

    def _drawn(self, median_s: float, spread: float) -> float:
        return median_s * self._random.lognormvariate(0.0, spread)
