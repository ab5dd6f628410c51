"""The threads that run jobs: as many as may be in flight, started as needed and kept for a while."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from dask_root_lambda.config import Execution
from dask_root_lambda.execution import timers
from dask_root_lambda.execution.concurrency import Concurrency
from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.execution.queue import FairQueue

logger = logging.getLogger(__name__)

_IDLE_THREAD_S = 30.0
"""A thread that has had nothing to do for so long ends."""

Follow = list[tuple[Job, float]]
"""Jobs that are to be run next, and after how many seconds."""


class Pool:
    """Runs jobs, of which some wait; all methods may be called from any thread.

    Parameters
    ----------
    run
        Runs a job under an execution, in a thread of the pool, and returns what is to be run because of it.
    stopped
        Called with a job that was ended while it was run, where it would be run again.
    concurrency
        What may be in flight under an execution; asked once for each.
    execution
        Under which jobs start.
    """

    def __init__(
        self,
        run: Callable[[Job, Execution], Follow],
        stopped: Callable[[Job], None],
        concurrency: Callable[[Execution], Concurrency],
        execution: Execution,
    ) -> None:
        self.lock = threading.RLock()
        """Held to change anything here, and what is decided by it."""
        self.execution = execution
        self.running: dict[Job, Execution] = {}
        self.in_flight: Counter[Execution] = Counter()
        self.closing = False
        self._run = run
        self._stopped = stopped
        self._concurrency = concurrency
        self._limits: dict[Execution, Concurrency] = {}
        self._pending = FairQueue()
        self._delayed: dict[Job, float] = {}
        """Jobs that are tried again, and when."""
        self._alarm: threading.Timer | None = None
        self._alarm_s = 0.0
        self._threads = 0
        self._idle = 0
        self._numbers = itertools.count(1)
        self._short_of_threads = False
        self._work_to_do = threading.Condition(self.lock)
        self._all_done = threading.Condition(self.lock)

    def limits(self, execution: Execution) -> Concurrency:
        """Return what may be in flight under an execution; the lock is held."""
        if execution not in self._limits:
            self._limits[execution] = self._concurrency(execution)
        return self._limits[execution]

    def switch(self, execution: Execution) -> None:
        """Start jobs under another execution from now on."""
        with self.lock:
            self.execution = execution
            self._wake()

    def limit(self, execution: Execution, limit: int) -> None:
        """Let so many be in flight at most under an execution from now on."""
        with self.lock:
            self.limits(execution).set_limit(limit)
            self._wake()

    def submit(self, job: Job) -> None:
        """Run a job when its turn comes. Never blocks."""
        with self.lock:
            if self.closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending.put(job)
            try:
                self._wake()
            except RuntimeError:
                self._pending.discard(job)
                raise

    def submit_first(self, jobs: list[Job]) -> None:
        """Run jobs before those that wait of their runs."""
        with self.lock:
            for job in jobs:
                self._pending.put_first(job)
            self._wake()

    def jobs(self) -> list[Job]:
        """Return all that waits or runs."""
        with self.lock:
            return [*self._pending, *self._delayed, *self.running]

    def take_out(self, jobs: Iterable[Job]) -> tuple[list[Job], list[Job]]:
        """Drop those of some jobs that wait; return them, and those that run, for the caller to end."""
        waiting, running = [], []
        with self.lock:
            for job in jobs:
                if job in self.running:
                    running.append(job)
                elif self._waits(job):
                    self._pending.discard(job)
                    self._delayed.pop(job, None)
                    waiting.append(job)
            self._tell_if_done()
        return waiting, running

    def close(self) -> None:
        """Accept no more."""
        with self.lock:
            self.closing = True
            self._work_to_do.notify_all()

    def wait(self, timeout_s: float | None) -> None:
        """Wait until nothing runs or waits any more, at most for so long."""
        with self.lock:
            self._all_done.wait_for(lambda: not self._has_work, timeout_s)
            if self._alarm is not None:
                self._alarm.cancel()

    def has_spare(self, execution: Execution) -> bool:
        """Tell whether nothing waits, and more might run under an execution; the lock is held."""
        if self._pending or self._delayed or execution != self.execution:
            return False
        return self.in_flight[execution] < self.limits(execution).allowed(time.monotonic())

    def waiting_and_slots(self, execution: Execution) -> tuple[int, int]:
        """Return how many jobs wait, and how many may be in flight at once under an execution."""
        with self.lock:
            return len(self._pending), self.limits(execution).allowed(time.monotonic())

    def _waits(self, job: Job) -> bool:
        return job in self._pending or job in self._delayed

    @property
    def _has_work(self) -> bool:
        return bool(self._pending or self._delayed or self.running)

    def _free(self) -> int:
        """Return how many more may start now; the lock is held."""
        allowed = self.limits(self.execution).allowed(time.monotonic())
        return min(len(self._pending), allowed - self.in_flight[self.execution])

    def _wake(self) -> None:
        """Let what may start be started, now and when time allows more; the lock is held."""
        if not (self._pending or self._delayed):
            return
        self._start_threads()
        self._work_to_do.notify(max(0, self._free()))
        now_s = time.monotonic()
        due_s = self._due_s(now_s)
        if due_s is not None:
            self._set_alarm(due_s, now_s)

    def _due_s(self, now_s: float) -> float | None:
        """Return when something may start by the passing of time alone; None if nothing may."""
        due = list(self._delayed.values())
        if self._pending and (change_s := self.limits(self.execution).next_change_s(now_s)) is not None:
            due.append(change_s)
        return min(due, default=None)

    def _set_alarm(self, at_s: float, now_s: float) -> None:
        if self._alarm is not None:
            if self._alarm_s <= at_s:
                return
            self._alarm.cancel()
            self._alarm = None
        self._alarm, self._alarm_s = timers.later(max(0.0, at_s - now_s), self._ring), at_s
        if self._alarm is None:
            # One of the threads that work looks at the time when it is idle.
            self._work_to_do.notify_all()

    def _ring(self) -> None:
        with self.lock:
            self._alarm = None
            self._end_delays(time.monotonic())
            self._wake()

    def _end_delays(self, now_s: float) -> None:
        """Let jobs wait for a slot whose delay is over; the lock is held."""
        due = [job for job, ready_s in self._delayed.items() if ready_s <= now_s]
        for job in reversed(due):
            del self._delayed[job]
            self._pending.put_first(job)

    def _start_threads(self) -> None:
        """Start threads where tasks wait, too few are idle and the limit allows it; the lock is held."""
        for _ in range(self._free() - self._idle):
            name = f"dask-root-lambda-{next(self._numbers)}"
            # Daemons: at exit the interpreter must not wait a quarter of an hour for an answer.
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                # A container may allow fewer than there are slots: those that run go on with what waits.
                if self._threads == 0:
                    raise
                if not self._short_of_threads:
                    logger.warning("no more than %d invocations at once: %s", self._threads, error)
                self._short_of_threads = True
                return
            self._threads += 1
            self._idle += 1

    def _work(self) -> None:
        """Run jobs until there have been none for a while."""
        while (taken := self._take()) is not None:
            job, execution = taken
            follow = self._run(job, execution)
            with self.lock:
                self.in_flight[self.running.pop(job)] -= 1
                self._idle += 1
                stopped = [each for each, _ in follow if each.ended]
                for each, delay_s in reversed(follow):
                    if not each.ended:
                        self._enqueue(each, delay_s)
                self._wake()
                self._tell_if_done()
            for each in stopped:
                self._stopped(each)

    def _enqueue(self, job: Job, delay_s: float) -> None:
        if delay_s > 0:
            self._delayed[job] = time.monotonic() + delay_s
        else:
            self._pending.put_first(job)

    def _take(self) -> tuple[Job, Execution] | None:
        """Wait for a job that may start; None if the thread is to end."""
        with self.lock:
            self._wait_for_work()
            self._idle -= 1
            while self._free() > 0:
                job = self._pending.take()
                if job.account is not None or job.future.set_running_or_notify_cancel():
                    self.running[job] = self.execution
                    self.in_flight[self.execution] += 1
                    job.started_s, job.answered = time.monotonic(), False
                    self.limits(self.execution).started(job.started_s)
                    return job, self.execution
            # What was left may have been futures that were cancelled.
            self._tell_if_done()
            self._threads -= 1
            return None

    def _wait_for_work(self) -> None:
        """Wait until a job may start, at most for as long as an idle thread is kept; the lock is held."""
        end_s = time.monotonic() + _IDLE_THREAD_S
        while self._free() <= 0:
            now_s = time.monotonic()
            due_s = self._due_s(now_s) if self._alarm is None else None
            if due_s is None and (self.closing or now_s >= end_s):
                return
            if due_s is not None and due_s <= now_s:
                self._end_delays(now_s)
            else:
                self._work_to_do.wait((end_s if due_s is None else due_s) - now_s)

    def _tell_if_done(self) -> None:
        if not self._has_work:
            self._all_done.notify_all()
