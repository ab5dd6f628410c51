"""When an answer is lost, and when a range or a run has taken longer than the user allows.

AWS lets a function run for up to 15 minutes, and an answer can get lost on its way. How long it is worth
while to wait is told by the run's own ranges. A range that takes longer may be a slow one as well: so nothing
is ended, it is tried once more beside, and the first answer counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dask_root_lambda.config import Settings
from dask_root_lambda.protocol.errors import DeadlineError

FEWEST_DONE = 3
"""Ranges of a run that have to be done before an answer is taken for lost."""
MOST_TRIES = 3
"""Tries of a range that go on at once."""
QUANTILE = 0.95


@dataclass(frozen=True)
class Deadlines:
    """What holds for an executor."""

    factor: float
    """How long an answer is waited for, as a multiple of the 95th percentile of the run's durations."""
    shortest_s: float
    """Seconds before which no answer is taken for lost."""
    range_s: float | None = None
    """Limit of all tries of a range together, seconds; None for no limit."""
    run_s: float | None = None
    """Limit of a run, seconds; None for no limit."""

    @classmethod
    def of(cls, settings: Settings) -> Deadlines:
        """Take them from the settings."""
        return cls(
            settings.answer_factor, settings.answer_min_s, settings.range_deadline_s, settings.run_deadline_s
        )

    @property
    def limited(self) -> bool:
        """Whether the user limits ranges or runs."""
        return self.range_s is not None or self.run_s is not None

    def lost_after_s(self, done_s: Sequence[float], tries: int = 1) -> float | None:
        """Return how long the last try of a range is waited for before another begins; None for no such time.

        Each try is waited for twice as long as the one before: the range may be slow.

        Parameters
        ----------
        done_s
            Durations of the run's ranges that are done, in seconds, sorted.
        tries
            Tries of the range that go on.
        """
        if len(done_s) < FEWEST_DONE or tries >= MOST_TRIES:
            return None
        usual_s = done_s[math.ceil(QUANTILE * len(done_s)) - 1]
        return float(max(self.shortest_s, self.factor * usual_s) * 2.0 ** (tries - 1))

    def passed(self, now_s: float, range_began_s: float, run_began_s: float) -> DeadlineError | None:
        """Return the error of a range whose deadline, or whose run's, has passed; None where it has not."""
        if self.run_s is not None and now_s - run_began_s > self.run_s:
            return DeadlineError(_TEXT.format("run", now_s - run_began_s, "run-s", self.run_s))
        if self.range_s is not None and now_s - range_began_s > self.range_s:
            return DeadlineError(_TEXT.format("range", now_s - range_began_s, "range-s", self.range_s))
        return None


_TEXT = (
    "the {} is not done after {:.1f} s: dask-root-lambda.deadline.{} allows {:g}. What was computed is kept: "
    "raise it, or ask for more concurrency, and compute again"
)
