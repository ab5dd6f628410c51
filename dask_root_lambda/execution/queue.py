"""Jobs that wait for a slot: runs take turns, so that many frames in one compute get on side by side."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.execution.ledger import CALLS

_Turns = OrderedDict[str, OrderedDict[Job, None]]
"""Jobs of each run, in their order; the run whose turn it is comes first. Each job can be taken out without a
look at the others."""


class FairQueue:
    """A queue of jobs. Not thread-safe: the pool holds its lock.

    Jobs of a higher priority, which is that of their Dask tasks, come first. Among those of one priority, the
    next job is of the run that has waited longest for its turn; plain calls are a run, too.
    """

    def __init__(self) -> None:
        self._levels: dict[float, _Turns] = {}
        """By priority."""
        self._length = 0

    def put(self, job: Job) -> None:
        """Add a job behind those of its run."""
        self._jobs(job)[job] = None
        self._length += 1

    def put_first(self, job: Job) -> None:
        """Add a job before those of its run; it is no other run's turn for that."""
        self.put(job)
        self._jobs(job).move_to_end(job, last=False)

    def take(self) -> Job:
        """Take out the next job."""
        level = self._levels[max(self._levels)]
        run, jobs = next(iter(level.items()))
        job, _ = jobs.popitem(last=False)
        level.move_to_end(run)
        self._taken(job)
        return job

    def discard(self, job: Job) -> None:
        """Take out a job, if it is in."""
        if job in self:
            del self._jobs(job)[job]
            self._taken(job)

    def __contains__(self, job: Job) -> bool:
        level = self._levels.get(job.call.priority)
        return level is not None and job in level.get(_run(job), ())

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        for level in self._levels.values():
            for jobs in level.values():
                yield from jobs

    def _jobs(self, job: Job) -> OrderedDict[Job, None]:
        return self._levels.setdefault(job.call.priority, OrderedDict()).setdefault(_run(job), OrderedDict())

    def _taken(self, job: Job) -> None:
        """Drop what is empty without a job that was taken out."""
        self._length -= 1
        priority, run = job.call.priority, _run(job)
        if not self._levels[priority][run]:
            del self._levels[priority][run]
        if not self._levels[priority]:
            del self._levels[priority]


def _run(job: Job) -> str:
    return job.call.run or CALLS
