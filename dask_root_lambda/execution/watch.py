"""Looks at what is running now and then: what is slow or lost is tried once more, what is overdue ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from dask_root_lambda.config import Execution
from dask_root_lambda.execution import timers
from dask_root_lambda.execution.deadlines import Deadlines
from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.execution.pool import Pool
from dask_root_lambda.execution.stragglers import FIRST_FACTOR, Durations
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import PackedMapper
from dask_root_lambda.protocol.errors import DeadlineError

logger = logging.getLogger(__name__)

LOOK_S = 0.25
"""Seconds between two looks."""


class Watch:
    """Watches the jobs of a pool; all methods may be called from any thread.

    Parameters
    ----------
    pool
        What runs them.
    deadlines
        The rules.
    doubled
        Called with a job that is tried once more beside; the pool's lock is held.
    overdue
        Ends a job whose deadline has passed.
    """

    def __init__(
        self,
        pool: Pool,
        deadlines: Deadlines,
        doubled: Callable[[Job], None],
        overdue: Callable[[Job, DeadlineError], None],
    ) -> None:
        self._pool = pool
        self._deadlines = deadlines
        self._doubled = doubled
        self._overdue = overdue
        self._durations: dict[RunSpace, Durations] = {}
        """Durations of the runs that are going on."""
        self._longest_first_s = 0.0
        """The longest that the first range of a run in an environment of this machine has taken, seconds."""
        self._timer: threading.Timer | None = None

    def begun(self, job: Job) -> None:
        """Take note that a job begins."""
        job.begun_s = time.monotonic()
        mapper = job.call.mapper
        # The normal path takes no lock.
        if mapper is not None and self._pool.running.get(job) == "emulated":
            with self._pool.lock:
                running = sum(each.call.space == mapper.space for each in self._pool.running)
                self._of(mapper).running(running)
        if self._deadlines.limited:
            with self._pool.lock:
                self._look_soon()

    def answered(self, job: Job, execution: Execution, environment: str) -> None:
        """Take note of the environment that has answered a job."""
        if execution != "emulated" or (mapper := job.call.mapper) is None:
            return
        with self._pool.lock:
            if self._of(mapper).is_first(environment):
                self._longest_first_s = max(self._longest_first_s, time.monotonic() - job.started_s)

    def done(self, mapper: PackedMapper, seconds: float | None) -> None:
        """Take note that a range is done.

        Parameters
        ----------
        mapper
            The mapper of its run.
        seconds
            How long it took; None where that tells nothing of the others: an earlier try has left its result,
            or it has no entries.
        """
        with self._pool.lock:
            durations = self._of(mapper)
            if seconds is None:
                durations.leave_out()
            else:
                durations.add(seconds)
            if durations.complete:
                del self._durations[mapper.space]
            elif durations.enough or self._deadlines.lost_after_s(durations.done_s) is not None:
                self._look_soon()

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = timers.later(LOOK_S, self._look)

    def _look(self) -> None:
        with self._pool.lock:
            self._timer = None
            self._double([job for job in self._pool.running if self._is_slow(job)])
            jobs = self._pool.jobs()
            running = {job.call.space for job in self._pool.running}
            self._durations = {space: each for space, each in self._durations.items() if space in running}
            if self._durations or (self._deadlines.limited and jobs):
                self._look_soon()
        if self._deadlines.limited:
            self._end_overdue(jobs)

    def _double(self, slow: list[Job]) -> None:
        for job in slow:
            logger.info("%s is slow, or its answer is lost: it is tried once more", job.call.task)
            self._doubled(job)
        self._pool.submit_first([job.again() for job in slow])

    def _is_slow(self, job: Job) -> bool:
        mapper, elapsed_s = job.call.mapper, time.monotonic() - job.started_s
        if mapper is None or mapper.writes:
            return False
        durations, alive = self._durations.get(mapper.space), job.alive
        # What is slow is told by the try that began last, as long as it is waited for.
        if durations is None or job is not alive[-1] or job.answered:
            return False
        # A new environment of this machine ends with its try: the next run would wait for another.
        if durations.some_start and elapsed_s < FIRST_FACTOR * self._longest_first_s:
            return False
        tries = len(alive)
        lost_s = self._deadlines.lost_after_s(durations.done_s, tries)
        if lost_s is not None and elapsed_s > lost_s:
            return True
        # On this machine another try would take the cores of those that run.
        spare = self._pool.running[job] == "lambda" and self._pool.has_spare("lambda")
        return tries == 1 and durations.allows(elapsed_s, in_the_end=spare, share=0.5**job.depth)

    def _of(self, mapper: PackedMapper) -> Durations:
        return self._durations.setdefault(mapper.space, Durations(mapper.n_ranges))

    def _end_overdue(self, jobs: list[Job]) -> None:
        now_s = time.monotonic()
        began = {job.call.space: job.account.began_s for job in jobs if job.account is not None}
        for job in jobs:
            if job.call.space is None:  # a plain call is no part of a run
                continue
            begun_s = now_s if job.account is None else job.begun_s
            error = self._deadlines.passed(now_s, begun_s, began.get(job.call.space, now_s))
            if error is not None:
                error.task = job.call.task
                self._overdue(job, error)
