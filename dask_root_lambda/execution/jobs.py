"""Submitted calls and what becomes of them; a range that was too large is several jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.execution.ledger import Account
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.invokers import Invocation
from dask_root_lambda.plan.steps import MapRange, Merge
from dask_root_lambda.protocol.errors import DaskRootLambdaError

_DEEPEST = 8
"""Divisions of a range: its smallest parts are 1/256 of it."""


@dataclass(eq=False)
class Job:
    """A submitted call and what becomes of it."""

    call: Call
    observe: Callable[[Invocation], None]
    future: Future[Any] = field(default_factory=Future)
    cancellation: Cancellation = field(default_factory=Cancellation)
    errors: list[DaskRootLambdaError] = field(default_factory=list)
    """Errors of its tries so far, oldest first."""
    account: Account | None = None
    """Where it is counted, once it has begun."""
    refused_s: float | None = None
    """When the service refused it first."""
    whole: Job | None = None
    """The job that it is a half of."""
    depth: int = 0
    """How often the range that was submitted has been divided to get this one."""

    @property
    def submitted(self) -> Job:
        """The job that was submitted: this one, or the one that it is a part of."""
        return self if self.whole is None else self.whole.submitted

    @property
    def ended(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.cancellation.cancelled or self.submitted.future.done()

    @property
    def divisible(self) -> bool:
        """Whether it is a range that can be divided; one that writes files names them by its number."""
        mapper = self.call.mapper
        return mapper is not None and not mapper.writes and self.depth < _DEEPEST

    def settle(self, value: Any) -> None:
        """Let the future have its value, unless it has been ended."""
        with suppress(InvalidStateError):
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Let the future raise an error, unless it has been ended."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


def divided(whole: Job, done: Callable[[], None]) -> list[Job]:
    """Make two jobs of a range; the result of the whole is theirs, merged.

    Parameters
    ----------
    whole
        A job of a range that can be divided.
    done
        Called once the whole is settled.
    """
    step = whole.call.function
    assert isinstance(step, MapRange)
    calls = [
        replace(whole.call, task=f"{whole.call.task}.{number}", function=replace(step, interval=half))
        for number, half in enumerate(step.interval.halves)
    ]
    halves = [
        Job(call, whole.observe, account=whole.account, whole=whole, depth=whole.depth + 1) for call in calls
    ]
    union = _Union(whole, halves, done)
    for job in halves:
        job.future.set_running_or_notify_cancel()
        job.future.add_done_callback(union.settled)
    return halves


class _Union:
    """Waits for the halves of a range, and merges what they give."""

    def __init__(self, whole: Job, halves: list[Job], done: Callable[[], None]) -> None:
        self._whole = whole
        self._halves = halves
        self._done = done
        self._open = len(halves)
        self._lock = threading.Lock()

    def settled(self, future: Future[Any]) -> None:
        """Take note of a half that is done: the whole is done with the last one, or one that failed."""
        error = future.exception()
        with self._lock:
            if self._open == 0:
                return
            self._open = 0 if error is not None else self._open - 1
            if self._open:
                return
        if error is not None:
            self._whole.fail(error)
        else:
            self._merge()
        self._done()

    def _merge(self) -> None:
        space, step = self._whole.call.space, self._whole.call.function
        assert space is not None
        assert isinstance(step, MapRange)
        try:
            self._whole.settle(Merge(space, step.interval)([job.future.result() for job in self._halves]))
        except Exception as error:  # a callback's exception would be lost
            self._whole.fail(error)
