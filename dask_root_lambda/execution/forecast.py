"""How long ranges may take: some are divided before they are tried.

What a range costs is proportional to what it reads: its share of its files' bytes, or its entries where there
are no files. (How many entries a file has is known where it is opened, which is in the function.) Ranges of a
run that are done tell the seconds per byte. They scatter by factors, not by seconds, so they are taken as
lognormal: a range may take as long as nearly all would (two standard deviations, widened as the mean of few
is uncertain), but no longer per byte than the slowest did. One that ran out of time counts as one that took
just that.

One that would run out of time is divided, and in the end of a run those that begin last: the run is as long
as these. (Guided self-scheduling makes them small for the same reason: Polychronopoulos and Kuck, IEEE
Transactions on Computers C-36, 1987.) A range may be divided in mid-run, and is never merged with another:
each part of the dataset is done once.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.plan.steps import MapRange
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import Body

SHARE = 0.9
"""A range that may take longer than this part of the time limit is divided."""
SHORTEST_LIMIT_S = 60.0
"""With a shorter time limit nothing is foreseen: starting and compiling takes as long as reading, and of a
range that ran out of time nobody knows how much that was."""
_DEVIATIONS = 2.0
FEWEST_DONE = 4
"""Ranges of a run that have to be done before its end is thought of."""
SHORTEST_HALF_S = 2.0
"""Halves that would be shorter save less than another invocation takes."""
LARGEST_ANSWER_BYTES = 256 * 1024
"""Halves are merged by the client, which has no time for larger results."""


@dataclass(frozen=True)
class Rate:
    """Seconds that ranges took per unit of what they read, as the mean and scatter of their logarithms."""

    n: int = 0
    """Ranges seen."""
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared deviations from the mean."""
    slowest: float = -math.inf
    """Logarithm of the largest."""

    def seen(self, size: float, seconds: float) -> Rate:
        """Return the rate with one more range."""
        value, n = math.log(seconds / size), self.n + 1
        mean = self.mean + (value - self.mean) / n
        squares = self.squares + (value - self.mean) * (value - mean)
        return Rate(n, mean, squares, max(self.slowest, value))

    def longest_s(self, size: float) -> float:
        """Return how long a range of a size may take; 0 as long as none was seen."""
        if self.n == 0:
            return 0.0
        deviation = math.sqrt(max(0.0, self.squares) / max(1, self.n - 1))
        bound = self.mean + _DEVIATIONS * deviation * math.sqrt(1 + 1 / self.n)
        return size * math.exp(min(bound, self.slowest))

    def expected_s(self, size: float) -> float:
        """Return how long a range of a size takes, as the geometric mean; 0 as long as none was seen."""
        return size * math.exp(self.mean) if self.n else 0.0


def size(sizes: Sequence[int], interval: Interval) -> float:
    """Return how much an interval reads.

    Parameters
    ----------
    sizes
        Bytes of each file; empty for a dataset of entries without files.
    interval
        A part of the dataset.
    """
    if not sizes:
        return float(interval.stop - interval.start)
    first, last = math.floor(interval.start), math.ceil(interval.stop)
    inside = (Interval(Fraction(file), Fraction(file + 1)) for file in range(first, last))
    shares = (min(interval.stop, each.stop) - max(interval.start, each.start) for each in inside)
    return float(sum(share * length for share, length in zip(shares, sizes[first:last], strict=True)))


class Forecast:
    """How fast runs are; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rates: defaultdict[str, Rate] = defaultdict(Rate)
        self._large: set[str] = set()
        """Runs that give results which are too large to be merged by the client."""

    def add(self, job: Job, seconds: float, answer: Body | None = None) -> None:
        """Take note how long a range took and what it gave, or when it ran out of time."""
        mapper, read = job.call.mapper, _size(job)
        if mapper is None:
            return
        if answer is not None and (answer.inline is None or len(answer.inline) > LARGEST_ANSWER_BYTES):
            self._large.add(mapper.run)
        if read > 0 and seconds > 0:
            with self._lock:
                self._rates[mapper.run] = self._rates[mapper.run].seen(read, seconds)

    def too_long(self, job: Job, limit_s: float | None) -> bool:
        """Tell whether a job is a range that can be divided, and may run out of time.

        Parameters
        ----------
        job
            A job of which no other try goes on.
        limit_s
            The function's time limit, seconds; None for none.
        """
        mapper = job.call.mapper
        if limit_s is None or limit_s < SHORTEST_LIMIT_S:
            return False
        if mapper is None or not job.divisible:
            return False
        rate = self._rates.get(mapper.run)
        return rate is not None and rate.longest_s(_size(job)) > SHARE * limit_s

    def shortens_the_end(self, job: Job, waiting: int, slots: int) -> bool:
        """Tell whether a job is a range whose run ends sooner if it is divided.

        Parameters
        ----------
        job
            A job of which no other try goes on.
        waiting
            Jobs that begin after it.
        slots
            Jobs that may be in flight at once.
        """
        mapper = job.call.mapper
        if mapper is None or slots < 2 or waiting >= slots or mapper.run in self._large:
            return False
        if job.errors or job.depth or not job.divisible:
            return False
        rate = self._rates.get(mapper.run)
        return (
            rate is not None and rate.n >= FEWEST_DONE and rate.expected_s(_size(job)) >= 2 * SHORTEST_HALF_S
        )

    def forget(self, run: str) -> None:
        """Forget a run that is done."""
        with self._lock:
            self._rates.pop(run, None)
            self._large.discard(run)


def _size(job: Job) -> float:
    mapper, step = job.call.mapper, job.call.function
    if mapper is None or not isinstance(step, MapRange):
        return 0.0
    return size(mapper.sizes, step.interval)
