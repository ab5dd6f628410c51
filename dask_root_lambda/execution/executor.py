"""An executor whose functions run on AWS Lambda, in an emulated Lambda, or here."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from dask_root_lambda.config import Execution, Settings, check_execution
from dask_root_lambda.cost.report import Report
from dask_root_lambda.execution import encoding
from dask_root_lambda.execution.encoding import Call, Encoder
from dask_root_lambda.execution.ledger import CALLS, Account, Ledger
from dask_root_lambda.execution.policy import RetryPolicy
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.emulated import EmulatedInvoker
from dask_root_lambda.invocation.invokers import AwsInvoker, Invocation, Invoker, LocalInvoker
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol.errors import (
    CrashError,
    DaskRootLambdaError,
    MissingBlobError,
    RunCancelledError,
)
from dask_root_lambda.protocol.store import Store

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)

_IDLE_THREAD_S = 30.0
"""A thread that has had nothing to do for so long ends."""

_END_TIMEOUT_S = 5.0
"""How long a shutdown waits for tasks that it has ended."""

_NOT_REUSED = "should a run fail, no later process can take what it computed: {}"

Opener = Callable[[Settings], Invoker]
OPENERS: Mapping[Execution, Opener] = {
    "lambda": AwsInvoker,
    "emulated": EmulatedInvoker,
    "local": lambda _: LocalInvoker(),
}
"""How the invoker of each execution is opened."""


@dataclass(eq=False)
class _Job:
    """A submitted call and what becomes of it."""

    call: Call
    observe: Callable[[Invocation], None]
    future: Future[Any] = field(default_factory=Future)
    cancellation: Cancellation = field(default_factory=Cancellation)
    errors: list[DaskRootLambdaError] = field(default_factory=list)
    """Of its tries so far."""
    account: Account | None = None
    """Where it is counted, once it has begun."""


class LambdaExecutor(Executor):
    """Runs functions on AWS Lambda: a `concurrent.futures.Executor`.

    Functions and arguments are pickled (by cloudpickle: lambdas and closures work); what the function
    raises is raised by the future, caused by a `UserCodeError` with the traceback of where it ran.

    Parameters
    ----------
    execution
        ``"lambda"`` (AWS), ``"emulated"`` (processes on this machine) or ``"local"`` (threads of this
        process). It can be changed while tasks run.
    concurrency
        Invocations in flight at most.
    deployment
        Name of the deployment, as in ``dask-root-lambda deploy --name``.
    settings
        All settings at once, instead of the three above.
    openers
        How the invokers are opened; for tests and other services.

    Raises
    ------
    DaskRootLambdaError
        The execution cannot be used: no credentials, no such function, an extra not installed.
    """

    def __init__(
        self,
        execution: str | None = None,
        *,
        concurrency: int | None = None,
        deployment: str | None = None,
        settings: Settings | None = None,
        openers: Mapping[Execution, Opener] = OPENERS,
    ) -> None:
        self.settings = settings or Settings.resolve(
            execution=execution, concurrency=concurrency, deployment=deployment
        )
        self.ledger = Ledger()
        self._openers = openers
        self._encoder = Encoder()
        self._policy = RetryPolicy(self.settings.max_attempts, self.settings.max_crashes)
        self._pending: deque[_Job] = deque()
        self._running: dict[_Job, Execution] = {}
        self._in_flight: Counter[Execution] = Counter()
        self._threads = 0
        self._idle = 0
        self._numbers = itertools.count(1)
        self._name = uuid.uuid4().hex[:8]
        self._calls = itertools.count()
        self._short_of_threads = False
        self._closing = False
        self._lock = threading.RLock()
        self._work_to_do = threading.Condition(self._lock)
        self._all_done = threading.Condition(self._lock)
        self._opening = threading.Lock()
        self._invokers: dict[Execution, Invoker] = {}
        self._execution = self.settings.execution
        self._open(self._execution)

    @property
    def execution(self) -> Execution:
        """Where tasks that start from now on run."""
        return self._execution

    @execution.setter
    def execution(self, name: str) -> None:
        execution = check_execution(name)
        self._open(execution)
        with self._lock:
            self._execution = execution
            self._start_threads()
            self._work_to_do.notify_all()

    @property
    def concurrency(self) -> int:
        """Tasks that run at once, at most, under the present execution."""
        return self.settings.limit(self._execution)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)``; see `concurrent.futures.Executor.submit`. Never blocks."""
        name = getattr(fn, "__name__", type(fn).__name__)
        return self.submit_call(Call(f"{name}-{self._name}-{next(self._calls)}", fn, args, kwargs))

    def submit_call(self, call: Call, observe: Callable[[Invocation], None] = lambda _: None) -> Future[Any]:
        """Schedule a call.

        Parameters
        ----------
        call
            Function, arguments, and the key of the task.
        observe
            Called with each invocation of it, in the thread that made it.
        """
        job = _Job(call, observe)
        with self._lock:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending.append(job)
            try:
                self._start_threads()
            except RuntimeError:
                self._pending.remove(job)
                raise
            self._work_to_do.notify()
        return job.future

    def cancel(self, future: Future[Any]) -> None:
        """End a task that is waiting or in flight; its future raises `RunCancelledError`.

        A function in AWS that has begun runs on there, to its end, and is billed; its answer is dropped.
        """
        self._cancel(lambda job: job.future is future)

    def cancel_all(self) -> None:
        """End all tasks; see `cancel`."""
        self._cancel(lambda _: True)

    def report(self) -> Report:
        """Return what was done so far, and what it cost."""
        return self.ledger.report()

    def forget(self, space: RunSpace) -> threading.Thread:
        """Delete what a run that succeeded left in the stores, in the thread that is returned.

        Ranges of the same run that are submitted from now on wait for it.
        """
        self._encoder.begin_forgetting(space)
        stores = [invoker.store for invoker in list(self._invokers.values())]
        thread = threading.Thread(target=self._forget, args=(space, stores), daemon=True)
        thread.start()
        return thread

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more; see `concurrent.futures.Executor.shutdown`.

        Waits for the tasks in flight, each of which has a deadline, unless ``wait`` is False: then they are
        ended.
        """
        with self._lock:
            self._closing = True
            self._work_to_do.notify_all()
        if cancel_futures or not wait:
            self._cancel(lambda job: not wait or job not in self._running)
        with self._lock:
            # What was ended gets a moment: the process must not exit while ROOT is at work in a thread.
            self._all_done.wait_for(
                lambda: not (self._pending or self._running), None if wait else _END_TIMEOUT_S
            )
        with self._opening:
            invokers, self._invokers = list(self._invokers.values()), {}
        for invoker in invokers:
            invoker.close()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Wait for all tasks; after an exception, such as Ctrl-C, end them instead."""
        self.shutdown(wait=exc_type is None, cancel_futures=exc_type is not None)

    def _open(self, execution: Execution) -> Invoker:
        with self._opening:
            if self._closing:
                raise RuntimeError("cannot change the execution after shutdown")
            if execution not in self._invokers:
                self._invokers[execution] = self._openers[execution](self.settings)
            return self._invokers[execution]

    def _cancel(self, which: Callable[[_Job], bool]) -> None:
        with self._lock:
            waiting = [job for job in self._pending if which(job)]
            running = [job for job in self._running if which(job)]
            self._pending = deque(job for job in self._pending if not which(job))
            self._tell_if_done()
        for job in waiting:
            self._fail(job, _stopped(job))
        for job in running:
            with suppress(InvalidStateError):
                job.future.set_exception(_stopped(job))
            job.cancellation.cancel()

    def _forget(self, space: RunSpace, stores: list[Store]) -> None:
        try:
            self._encoder.forget(space, stores)
        except DaskRootLambdaError as error:
            logger.warning("partial results of run %s stay until they expire: %s", space.run, error)

    def _start_threads(self) -> None:
        """Start threads where tasks wait, too few are idle and the limit allows it; the lock is held."""
        startable = min(len(self._pending), self.concurrency - self._in_flight[self._execution])
        for _ in range(startable - self._idle):
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
            job, invoker = taken
            again = self._run(job, invoker)
            with self._lock:
                self._in_flight[self._running.pop(job)] -= 1
                self._idle += 1
                if again and not job.cancellation.cancelled:
                    self._pending.appendleft(job)
                    again = False
                self._tell_if_done()
            if again:
                self._fail(job, _stopped(job))

    def _take(self) -> tuple[_Job, Invoker] | None:
        """Wait for a job that may start; None if the thread is to end."""
        with self._lock:
            self._work_to_do.wait_for(lambda: self._startable() or self._closing, _IDLE_THREAD_S)
            self._idle -= 1
            while self._startable():
                job = self._pending.popleft()
                if job.account is not None or job.future.set_running_or_notify_cancel():
                    self._running[job] = self._execution
                    self._in_flight[self._execution] += 1
                    return job, self._invokers[self._execution]
            # What was left may have been futures that were cancelled.
            self._tell_if_done()
            self._threads -= 1
            return None

    def _tell_if_done(self) -> None:
        if not (self._pending or self._running):
            self._all_done.notify_all()

    def _startable(self) -> bool:
        return bool(self._pending) and self._in_flight[self._execution] < self.concurrency

    def _run(self, job: _Job, invoker: Invoker) -> bool:
        """Try a job once, and settle its future unless it is to be tried again, which is returned."""
        mapper = job.call.mapper
        if job.account is None:
            run, n_ranges = job.call.run or CALLS, mapper.n_ranges if mapper is not None else 0
            job.account = self.ledger.begin(run, n_ranges, invoker)
            if job.call.space is not None and job.call.space.not_reused:
                self.ledger.note(_NOT_REUSED.format(job.call.space.not_reused))
        try:
            value, empty = self._attempt(job, job.account, invoker)
        except DaskRootLambdaError as error:
            job.errors.append(error)
            delay_s = self._policy.delay_s(job.errors, random.random())  # noqa: S311  (spreads retries)
            if delay_s is not None and not job.cancellation.cancelled:
                logger.info("%s is tried again in %.1f s: %s", job.call.task, delay_s, error)
                job.cancellation.sleep(delay_s)
                self.ledger.retry(job.account)
                return True
            self._fail(job, error)
        except Exception as error:
            self._fail(job, error)
        except BaseException as error:
            # In a process of its own, such as an environment, sys.exit() would have ended that.
            ended = CrashError(f"the task ended its process: {error!r}", task=job.call.task)
            ended.__cause__ = error
            self._fail(job, ended)
        else:
            self.ledger.end(job.account, is_range=mapper is not None, failed=False, empty=empty)
            with suppress(InvalidStateError):
                job.future.set_result(value)
        return False

    def _attempt(self, job: _Job, account: Account, invoker: Invoker) -> tuple[Any, bool]:
        """Invoke once; return the result, and whether it is of a range without entries."""
        left_over = self._encoder.left_over(job.call, invoker)
        if left_over is not None:
            return left_over, False
        request = self._encoder.request(job.call, invoker, len(job.errors) + 1)
        invocation: Invocation | None = None
        try:
            invocation = invoker.invoke(request, job.cancellation)
            self.ledger.add(account, invocation)
            job.observe(invocation)
            value = encoding.result(job.call, request, invocation)
        except MissingBlobError as error:
            raise self._encoder.missing(request, invoker.store, error) from error.__cause__
        finally:
            encoding.clean_up(request, invocation, invoker.store)
        entries = invocation.reply.usage.entries if invocation.reply is not None else 0
        return value, job.call.mapper is not None and entries == 0

    def _fail(self, job: _Job, error: BaseException) -> None:
        if job.account is not None:
            self.ledger.end(job.account, is_range=job.call.mapper is not None, failed=True)
        if job.call.space is not None:
            self._encoder.look_again(job.call.space)
        with suppress(InvalidStateError):
            job.future.set_exception(error)


def _stopped(job: _Job) -> RunCancelledError:
    return RunCancelledError("the run was stopped", task=job.call.task)
