"""What becomes of each range of a run, for those who look: where it runs, how often, under which request.

The ledger has sums, this has the ranges one by one, of the last runs only.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from dask_root_lambda.config import Execution
from dask_root_lambda.execution.account import Account
from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.invocation.invokers import Invocation
from dask_root_lambda.plan.steps import MapRange

RUNS_KEPT = 20
"""Runs of which something is told: the last that began. More are kept where more go on at once."""
RANGES_KEPT = 4
"""Runs whose ranges are kept one by one: the last that began."""

RangeState = Literal["running", "waiting", "done", "failed"]


@dataclass(slots=True)
class RangeTrack:
    """A range that has begun."""

    index: int
    """Which range of the run, from 0."""
    state: RangeState = "waiting"
    """``waiting`` is to be tried again, or was refused."""
    left_over: bool = False
    """Whether an earlier try of the run has left its result: then nothing was invoked for it."""
    attempts: int = 0
    """Tries that began and were not refused, a second one beside and those of its parts included."""
    refused: int = 0
    """Requests that AWS refused."""
    doubled: bool = False
    """Whether it was so slow that it got a second try beside."""
    cold: bool = False
    """Whether its last answer came from a new environment."""
    execution: Execution = "local"
    """Where it runs, or was answered last."""
    began_s: float = 0.0
    """When the present try began, the first one where there are several; by the monotonic clock."""
    seconds: float = 0.0
    """How long the last try took, to its end."""
    entries: int = 0
    """Entries that its answers have processed."""
    environment: str = ""
    """Identity of the environment that answered last."""
    request_id: str = ""
    """Request that was answered last."""
    trying: int = 0
    """Tries that go on."""

    def elapsed_s(self, now_s: float) -> float:
        """Return how long it takes, or took."""
        return now_s - self.began_s if self.state == "running" else self.seconds


@dataclass
class RunTrack:
    """A run, and those of its ranges that have begun."""

    account: Account
    results: tuple[str, ...] = ()
    """Names of the user's results that it computes."""
    ranges: dict[int, RangeTrack] = field(default_factory=dict)
    """By number; empty where they are not kept any more."""
    keeps_ranges: bool = True
    """Whether it is among the last runs, whose ranges are kept."""
    environments: dict[str, float] = field(default_factory=dict)
    """Environments that have answered, and the largest memory use of each, MB of 2^20 bytes."""


class Tracks:
    """Follows the jobs of an executor; all methods may be called from any thread.

    Parameters
    ----------
    clock
        Seconds from some fixed time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: OrderedDict[int, RunTrack] = OrderedDict()
        """Runs by the `id` of their account, which the ledger keeps."""

    def start(self, job: Job, execution: Execution) -> None:
        """Take note that a try begins."""
        now_s = self._clock()
        with self._lock:
            run = self._begun(job)
            mapper, step = job.call.mapper, job.call.function
            if mapper is None or not isinstance(step, MapRange):
                return
            run.results = mapper.results
            if not run.keeps_ranges:
                return
            track = run.ranges.setdefault(step.index, RangeTrack(step.index))
            if not track.trying:
                track.began_s, track.execution = now_s, execution
            track.trying += 1
            track.attempts += 1
            if track.state != "done":  # or a second try begins when the first has just ended
                track.state = "running"

    def answer(self, job: Job, invocation: Invocation, execution: Execution) -> None:
        """Take note of an answer, whether it says that the try succeeded or not.

        Of two tries side by side, the first answer says where the range ran.
        """
        usage = invocation.reply.usage if invocation.reply is not None else None
        with self._lock:
            run, track = self._runs.get(id(job.account)), self._range(job)
            if run is not None and usage is not None and usage.environment:
                peak_mb = max(run.environments.get(usage.environment, 0.0), invocation.billing.peak_memory_mb)
                run.environments[usage.environment] = peak_mb
            if track is None:
                return
            track.entries += usage.entries if usage is not None else 0
            if track.state != "done":
                track.execution, track.cold = execution, invocation.billing.cold
                track.request_id = invocation.request_id or ""
                track.environment = usage.environment if usage is not None else ""

    def refuse(self, job: Job) -> None:
        """Take note that a request was refused: that is no try."""
        with self._lock:
            if (track := self._range(job)) is not None:
                track.attempts -= 1
                track.refused += 1
                self._leave(track)

    def take(self, job: Job) -> None:
        """Take note that an earlier try of the run has left the result of a range."""
        with self._lock:
            if (track := self._range(job)) is not None:
                track.left_over = True
                track.attempts -= 1

    def retry(self, job: Job) -> None:
        """Take note that a try has failed, and another one follows."""
        with self._lock:
            if (track := self._range(job)) is not None:
                self._leave(track)

    def divide(self, job: Job) -> None:
        """Take note that a range is divided before it is tried."""
        with self._lock:
            if (track := self._range(job)) is not None:
                track.attempts -= 1
                self._leave(track)

    def double(self, job: Job) -> None:
        """Take note that a range is slow, and tried once more beside."""
        with self._lock:
            if (track := self._range(job)) is not None:
                track.doubled = True

    def end(self, job: Job, *, failed: bool) -> None:
        """Take note that a range is done, or given up."""
        with self._lock:
            if (track := self._range(job)) is not None:
                self._leave(track)
                track.state = "failed" if failed else "done"

    def runs(self) -> list[RunTrack]:
        """Return copies of the last runs, in the order in which they began."""
        with self._lock:
            return [
                replace(
                    run,
                    ranges={index: replace(track) for index, track in run.ranges.items()},
                    environments=dict(run.environments),
                )
                for run in list(self._runs.values())[-RUNS_KEPT:]
            ]

    def _leave(self, track: RangeTrack) -> None:
        track.seconds = self._clock() - track.began_s
        track.trying = max(0, track.trying - 1)
        if not track.trying:
            track.state = "waiting"

    def _begun(self, job: Job) -> RunTrack:
        """Return the run of a job that begins; a new run replaces the oldest of those that are over."""
        assert job.account is not None
        key = id(job.account)
        if key not in self._runs:
            self._runs[key] = RunTrack(job.account)
            over = [old for old, run in self._runs.items() if run.account.in_flight == 0]
            for old in over[: max(0, len(self._runs) - RUNS_KEPT)]:
                del self._runs[old]
            for run in list(self._runs.values())[:-RANGES_KEPT]:
                run.keeps_ranges = False
                run.ranges.clear()
        return self._runs[key]

    def _range(self, job: Job) -> RangeTrack | None:
        """Return the range of a job that has begun; None for what is none, or is not kept any more."""
        run, step = self._runs.get(id(job.account)), job.call.function
        return run.ranges.get(step.index) if run is not None and isinstance(step, MapRange) else None
