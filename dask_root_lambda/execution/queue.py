"""Jobs that wait for a slot: runs take turns, so that many frames in one compute get on side by side."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from dask_root_lambda.execution.jobs import Job

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
        """Runs and their jobs, by priority."""
        self._length = 0

    def put(self, job: Job) -> None:
        """Add a job behind those of its run."""
        self._jobs(job)[job] = None
        self._length += 1

    def put_first(self, job: Job) -> None:
        """Add a job before those of its run; it is no other run's turn for that."""
        jobs = self._jobs(job)
        jobs[job] = None
        jobs.move_to_end(job, last=False)
        self._length += 1

    def take(self) -> Job:
        """Take out the next job."""
        level = self._levels[max(self._levels)]
        run, jobs = next(iter(level.items()))
        job, _ = jobs.popitem(last=False)
        level.move_to_end(run)
        self._taken(job, level, jobs)
        return job

    def discard(self, job: Job) -> None:
        """Take out a job, if it is in."""
        if job in self:
            priority, run = job.group
            level = self._levels[priority]
            del level[run][job]
            self._taken(job, level, level[run])

    def __contains__(self, job: Job) -> bool:
        priority, run = job.group
        level = self._levels.get(priority)
        return level is not None and job in level.get(run, ())

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        for level in self._levels.values():
            for jobs in level.values():
                yield from jobs

    def _jobs(self, job: Job) -> OrderedDict[Job, None]:
        priority, run = job.group
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = OrderedDict()
        jobs = level.get(run)
        if jobs is None:
            jobs = level[run] = OrderedDict()
        return jobs

    def _taken(self, job: Job, level: _Turns, jobs: OrderedDict[Job, None]) -> None:
        """Drop what is empty without a job that was taken out."""
        self._length -= 1
        if not jobs:
            priority, run = job.group
            del level[run]
            if not level:
                del self._levels[priority]
