"""Which ranges are so slow that a second try is worth while: one rule, and what it needs to know.

Most ranges of a run take about as long. When half of them are done, one that has taken three times as long as
the median is tried once more beside; the first answer counts. (So does cubed's ``should_launch_backup``, and
MapReduce did: Dean and Ghemawat, OSDI 2004, section 3.6.) In the end of a run, when none waits any more and
others might run, the run is as long as its slowest range, and a second try takes no place from another range:
then less is slow.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

FEWEST_DONE = 4
"""Ranges of a run that have to be done."""
SHARE_DONE = 0.5
"""Part of its ranges that has to be done."""
FACTOR = 3.0
"""A range is slow that takes this many times the median duration."""
SHORTEST_S = 2.0
"""Seconds before which nothing is slow."""
END_FACTOR, END_SHARE = 1.15, 0.8
"""In the end of a run, a range is slow that takes this many times as long as this part of them at most."""
END_SHORTEST_S = 5.0
"""Seconds before which nothing is slow then: a second try may have to wait for a new environment."""
FIRST_FACTOR = 3.0
"""How many times as long as the longest first range of an environment one may take that may be such a one."""
MOST_SHARE = 0.1
"""Second tries of a run, as a part of its ranges; two are allowed to any."""


def slow_after_s(
    done_s: Sequence[float], n_ranges: int, *, in_the_end: bool = False, share: float = 1.0
) -> float | None:
    """Return after how many seconds a range is slow; None as long as too few are done.

    Parameters
    ----------
    done_s
        Durations of the ranges that are done, in seconds, sorted.
    n_ranges
        Ranges of the run.
    in_the_end
        Whether none waits, and others might run.
    share
        What part of a range it is: in the end, a part is expected to take as much of the time. How much
        later it may be is that of a range: what delays it is not in proportion.
    """
    if len(done_s) < max(FEWEST_DONE, SHARE_DONE * n_ranges):
        return None
    limit_s = max(SHORTEST_S, FACTOR * done_s[len(done_s) // 2])
    if in_the_end:
        most_s = done_s[int(END_SHARE * (len(done_s) - 1))]
        limit_s = min(limit_s, max(END_SHORTEST_S, (share + END_FACTOR - 1) * most_s))
    return limit_s


class Durations:
    """Durations of the ranges of a run that are done, and its second tries. The executor holds its lock."""

    def __init__(self, n_ranges: int) -> None:
        self._n_ranges = n_ranges
        self.done_s: list[float] = []
        """Sorted."""
        self._second_tries = 0
        self._most_at_once = 0
        self._environments: set[str] = set()

    def add(self, seconds: float) -> None:
        """Take note that a range is done."""
        insort(self.done_s, seconds)

    def is_first(self, environment: str) -> bool:
        """Tell whether an answer is the first of its environment to this run, and take note of it."""
        known = environment in self._environments
        self._environments.add(environment)
        return not known

    def running(self, n_ranges: int) -> None:
        """Take note of how many ranges of the run are running."""
        self._most_at_once = max(self._most_at_once, n_ranges)

    @property
    def some_start(self) -> bool:
        """Whether ranges have been in more environments at once than have answered: some may be new."""
        return self._most_at_once > len(self._environments)

    def leave_out(self) -> None:
        """Take note of a range whose duration tells nothing of the others."""
        self._n_ranges -= 1

    def allows(self, elapsed_s: float, *, in_the_end: bool = False, share: float = 1.0) -> bool:
        """Tell whether a range that has taken so long may be tried once more, and count it if so."""
        limit_s = slow_after_s(self.done_s, self._n_ranges, in_the_end=in_the_end, share=share)
        few = self._second_tries < max(2, MOST_SHARE * self._n_ranges)
        if limit_s is None or elapsed_s < limit_s or not few:
            return False
        self._second_tries += 1
        return True

    @property
    def complete(self) -> bool:
        """Whether all ranges are done."""
        return len(self.done_s) >= self._n_ranges

    @property
    def enough(self) -> bool:
        """Whether so many are done that slow ones can be told."""
        return slow_after_s(self.done_s, self._n_ranges) is not None
