"""Runs that fail: nothing more of them is started, and what has failed by then is told in one error.

Dask raises the first error of a run that it hears of. So the futures of a run that fails are settled
together: when what is in flight of it has ended, or a moment later. All raise the same error, that of the
range which failed first, with a line for each of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from dask_root_lambda.execution import timers
from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.plan import places
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import MapRange
from dask_root_lambda.protocol.errors import CostLimitError, DaskRootLambdaError

DRAIN_S = 1.0
"""How long the futures of a run that fails wait for what else of it fails."""

_NAMED = 10
"""Failed ranges that an error names besides the first."""
_LINE_LENGTH = 300


@dataclass
class _Failing:
    """A run that fails."""

    in_flight: set[Job]
    """Its jobs that are run still."""
    failed: list[tuple[Job, BaseException]] = field(default_factory=list)
    """In the order in which they did."""
    held: list[Job] = field(default_factory=list)
    """Jobs that are not started any more."""
    timer: threading.Timer | None = None
    """Ends the wait for what is run; without one, the wait is as long as that."""
    settling: bool = False


class Failures:
    """The runs that fail now; all methods may be called from any thread.

    Parameters
    ----------
    waiting
        Takes the jobs of a run that wait, and returns them.
    settle
        Lets a job fail.
    """

    def __init__(
        self,
        waiting: Callable[[RunSpace], Collection[Job]],
        settle: Callable[[Job, BaseException], None],
    ) -> None:
        self._waiting = waiting
        self._settle = settle
        self._lock = threading.Lock()
        self._failing: dict[RunSpace, _Failing] = {}

    def add(self, space: RunSpace, job: Job, error: BaseException, in_flight: Collection[Job]) -> None:
        """Take note that a job has failed for good.

        Parameters
        ----------
        space
            Its run.
        job, error
            The job, and why.
        in_flight
            What is run of that run now; the job itself may be among it, until `ended`.
        """
        with self._lock:
            failing = self._failing.get(space)
            if failing is None:
                failing = self._failing[space] = _Failing(set(in_flight))
                failing.timer = timers.later(DRAIN_S, self.finish, space)
            failing.failed.append((job, error))

    def hold(self, job: Job) -> bool:
        """Keep a job that would start, if its run fails; tell whether it does."""
        if not self.concern(job):
            return False
        with self._lock:
            failing = self._of(job)
            if failing is None:
                return False
            failing.held.append(job)
        self.ended(job)
        return True

    def concern(self, job: Job) -> bool:
        """Tell whether the run of a job fails."""
        # The normal path takes no lock.
        return bool(self._failing) and self._of(job) is not None

    def ended(self, job: Job) -> None:
        """Take note that a job is not run any more: the last one of a run ends the wait."""
        if not self.concern(job):
            return
        with self._lock:
            failing = self._of(job)
            if failing is None:
                return
            failing.in_flight.discard(job)
            if failing.in_flight:
                return
        assert job.call.space is not None
        self.finish(job.call.space)

    def finish(self, space: RunSpace) -> None:
        """Settle the futures of a run that fails."""
        with self._lock:
            failing = self._failing.get(space)
            if failing is None or failing.settling:
                return
            failing.settling = True
        waiting = self._waiting(space)
        with self._lock:
            del self._failing[space]
        if failing.timer is not None:
            failing.timer.cancel()
        error = together(failing.failed)
        for job in (*(job for job, _ in failing.failed), *failing.held, *waiting):
            self._settle(job, error)

    def finish_all(self) -> None:
        """Settle the futures of all runs that fail, at once."""
        for space in list(self._failing):
            self.finish(space)

    def _of(self, job: Job) -> _Failing | None:
        return self._failing.get(job.call.space) if job.call.space is not None else None


def together(failed: Sequence[tuple[Job, BaseException]]) -> BaseException:
    """Make one error of those of a run: the first, which says where it was, and names the others."""
    (first, error), *more = failed
    if not isinstance(error, DaskRootLambdaError):
        return error
    error.place = place(first)
    others = [_line(job, each) for job, each in more if not isinstance(each, CostLimitError)]
    error.others = tuple(others[:_NAMED])
    error.n_others = len(others)
    return error


def place(job: Job) -> str | None:
    """Say what a range reads; None for what is no range."""
    mapper, step = job.call.mapper, job.call.function
    if mapper is None or not isinstance(step, MapRange):
        return None
    return places.described(mapper.files, step.interval)


def _line(job: Job, error: BaseException) -> str:
    """Tell of a failed range in one line."""
    message, found_by = str(error), ""
    if isinstance(error, DaskRootLambdaError):
        message, found_by = error.message, f" [{error.found_by}]" if error.found_by else ""
    message = message.partition("\n")[0]
    if len(message) > _LINE_LENGTH:
        message = f"{message[:_LINE_LENGTH]}..."
    return f"{place(job)}: {type(error).__name__}: {message}{found_by}"
