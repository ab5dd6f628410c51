"""At which memory tier the ranges of a run begin: what it has learned from those before.

A range that runs out of memory has cost what it did at its tier, and is run again at the next, which costs
more per second. So it pays to begin at the next tier where the share of ranges that fail is larger than what
the smaller function saves of the price: where the next has twice the memory, if more than half of them fail.
AWS's price is proportional to the memory, and a larger function is not slower.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from dask_root_lambda.execution.jobs import Job


def first_tier(memory_mb: Sequence[int], done: Mapping[int, int], failed: Mapping[int, int]) -> int:
    """Return the tier where the next range of a run begins.

    Parameters
    ----------
    memory_mb
        Memory of the tiers, ascending.
    done
        Ranges of the run that were done at each tier.
    failed
        Ranges that ran out of memory there.
    """
    for tier, (here, above) in enumerate(itertools.pairwise(memory_mb)):
        tries = done.get(tier, 0) + failed.get(tier, 0)
        # In whole numbers: failed / tries against 1 - here / above.
        if failed.get(tier, 0) * above <= tries * (above - here):
            return tier
    return len(memory_mb) - 1


class Learned:
    """What runs have learned of the memory that they need; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._failed: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def tier(self, job: Job, memory_mb: Sequence[int]) -> int:
        """Return the memory tier at which a job is tried.

        Parameters
        ----------
        job
            The job, which is given its tier if it has none.
        memory_mb
            Memory of the tiers, ascending.
        """
        top = len(memory_mb) - 1
        if job.tier is None:
            job.tier = 0
            if top and job.call.mapper is not None:
                run = job.call.mapper.run
                with self._lock:
                    job.tier = first_tier(memory_mb, self._done[run], self._failed[run])
        # Another execution may have fewer.
        return min(job.tier, top)

    def add(self, job: Job, *, failed: bool) -> None:
        """Take note that a range was done, or ran out of memory, at its tier."""
        mapper = job.call.mapper
        if mapper is None or job.tier is None:
            return
        with self._lock:
            (self._failed if failed else self._done)[mapper.run][job.tier] += 1

    def forget(self, run: str) -> None:
        """Forget a run that is done."""
        with self._lock:
            self._done.pop(run, None)
            self._failed.pop(run, None)
