"""Submitted calls and what becomes of them; a range that was too large is several jobs."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from dask_root_lambda.execution.account import Account
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.invokers import Invocation
from dask_root_lambda.plan.steps import MapRange, Merge
from dask_root_lambda.protocol.errors import DaskRootLambdaError
from dask_root_lambda.protocol.task import Body
from dask_root_lambda.protocol.traffic import Traffic

Done = Callable[[Body | None], None]
"""What is called when a range is done that was divided: with its result, or None where it has failed."""

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
    started_s: float = 0.0
    """When its try began, by the monotonic clock."""
    begun_s: float = 0.0
    """When its first try began."""
    answered: bool = False
    """Whether its try has had an answer."""
    tries: list[Job] = field(default_factory=list)
    """The tries of the same range, this one among them, if it is slow and there are several; they share the
    list, and the future."""
    gave_up: bool = False
    """Whether it has failed for good, and another try goes on."""
    _claimed: threading.Lock = field(default_factory=threading.Lock)
    """Taken by the first that decides the outcome, never released; tries share it."""
    read: list[Traffic] = field(default_factory=list)
    """What was read for its result."""
    parts: Sequence[Job] = ()
    """Its halves, where it was divided."""
    tier: int | None = None
    """At which memory tier it is tried; None before it is."""
    depth: int = 0
    """How often the range that was submitted has been divided to get this one."""

    @functools.cached_property
    def group(self) -> tuple[float, str]:
        """Its priority, and the run with which it takes its turn; empty for plain calls."""
        return self.call.priority, self.call.run or ""

    @property
    def submitted(self) -> Job:
        """The job that was submitted: this one, or the one that it is a part of."""
        return self if self.whole is None else self.whole.submitted

    def with_parts(self) -> Iterator[Job]:
        """Go through the job, its halves, theirs, and so on, with all tries of them."""
        yield self
        for part in self.parts:
            yield from part.all_tries()

    def all_tries(self) -> Iterator[Job]:
        """Go through all that works on the future: the tries, with their parts."""
        for each in self.tries or [self]:
            yield from each.with_parts()

    def others(self) -> Iterator[Job]:
        """Go through what works on the future besides this job and its parts."""
        for each in self.tries:
            if each is not self:
                yield from each.with_parts()

    @property
    def ended(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.cancellation.cancelled or self.submitted.future.done()

    def claim(self) -> bool:
        """Tell whether nobody has decided the outcome yet, and decide it."""
        return self._claimed.acquire(blocking=False)

    @property
    def alive(self) -> list[Job]:
        """The tries that may give a result still, the oldest first."""
        return [each for each in self.tries or [self] if not each.gave_up]

    @property
    def has_twin(self) -> bool:
        """Whether another try of the same goes on."""
        return any(each is not self for each in self.alive)

    def again(self) -> Job:
        """Make another try of this job, because it is slow."""
        if not self.tries:
            self.tries.append(self)
        another = replace(
            self, cancellation=Cancellation(), errors=[], read=[], started_s=math.inf, answered=False
        )
        self.tries.append(another)
        return another

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


def divided(whole: Job, done: Done) -> list[Job]:
    """Make two jobs of a range; the result of the whole is theirs, merged.

    Parameters
    ----------
    whole
        A job of a range that can be divided.
    done
        Called before the whole is settled.
    """
    halves = [
        Job(
            call,
            whole.observe,
            account=whole.account,
            begun_s=whole.begun_s,
            whole=whole,
            tier=whole.tier,
            depth=whole.depth + 1,
        )
        for call in half_calls(whole.call)
    ]
    whole.parts = halves
    union = _Union(whole, halves, done)
    for job in halves:
        job.future.set_running_or_notify_cancel()
        job.future.add_done_callback(union.settled)
    return halves


def half_calls(call: Call) -> list[Call]:
    """Return the calls of the halves of a range."""
    step = call.function
    assert isinstance(step, MapRange)
    return [
        replace(call, task=f"{call.task}.{number}", function=replace(step, interval=half))
        for number, half in enumerate(step.interval.halves)
    ]


class _Union:
    """Waits for the halves of a range, and merges what they give."""

    def __init__(self, whole: Job, halves: list[Job], done: Done) -> None:
        self._whole = whole
        self._halves = halves
        self._done = done
        self._open = len(halves)
        self._lock = threading.Lock()

    def settled(self, future: Future[Any]) -> None:
        """Take note of a half that is done: the whole is done with the last one, or one that failed."""
        with self._lock:
            if self._open == 0:
                return
            self._open = 0 if future.exception() is not None else self._open - 1
            if self._open:
                return
        try:
            merged = self._merged()
        except Exception as problem:  # of a half, or of merging: a callback's exception would be lost
            self._done(None)
            self._whole.fail(problem)
        else:
            self._done(merged)
            self._whole.settle(merged)

    def _merged(self) -> Body:
        space, step = self._whole.call.space, self._whole.call.function
        assert space is not None
        assert isinstance(step, MapRange)
        failed = [job for job in self._halves if job.future.done() and job.future.exception() is not None]
        return Merge(space, step.interval)([job.future.result() for job in failed or self._halves])
