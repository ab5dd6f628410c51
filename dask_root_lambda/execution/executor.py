"""An executor whose functions run on AWS Lambda, in an emulated Lambda, or here."""

from __future__ import annotations

import itertools
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from dask_root_lambda.config import EXECUTIONS, MOST_USD, Execution, Settings, check_execution
from dask_root_lambda.cost.report import Report
from dask_root_lambda.execution.concurrency import Concurrency
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.execution.obstacles import obstacle
from dask_root_lambda.execution.tries import Tries
from dask_root_lambda.invocation.emulated import EmulatedInvoker
from dask_root_lambda.invocation.invokers import AwsInvoker, Invocation, Invoker, LocalInvoker
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol.errors import ConfigurationError, DaskRootLambdaError
from dask_root_lambda.protocol.store import Store

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)

_END_TIMEOUT_S = 0.5
"""How long a shutdown waits for tasks that it has ended: most end at once."""

Opener = Callable[[Settings], Invoker]
OPENERS: Mapping[Execution, Opener] = {
    "lambda": AwsInvoker,
    "emulated": EmulatedInvoker,
    "local": lambda _: LocalInvoker(),
}
"""How the invoker of each execution is opened."""


class LambdaExecutor(Executor):
    """Runs functions on AWS Lambda: a `concurrent.futures.Executor`.

    Functions and arguments are pickled (by cloudpickle: lambdas and closures work); what the function
    raises is raised by the future, caused by a `UserCodeError` with the traceback of where it ran.

    A function may run more than once, though its future is settled once: an invocation whose connection
    breaks, whose environment ends or whose answer does not come is tried again, and the first may have done
    its work, or be at it still. So what a function does besides returning a value, such as writing a file,
    should be harmless when it is done twice.

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
        self._openers = openers
        self._name = uuid.uuid4().hex[:8]
        self._calls = itertools.count()
        self._opening = threading.Lock()
        self._invokers: dict[Execution, Invoker] = {}
        self._submitted: dict[Future[Any], Job] = {}
        """Jobs that are not done."""
        self._tries = Tries(self.settings, self._invokers, self._concurrency)
        self._pool = self._tries.pool
        self.ledger, self.tracks = self._tries.ledger, self._tries.tracks
        self._open(self.settings.execution)

    @property
    def execution(self) -> Execution:
        """Where tasks that start from now on run."""
        return self._pool.execution

    @execution.setter
    def execution(self, name: str) -> None:
        execution = check_execution(name)
        if reason := self.obstacles()[execution]:
            raise ConfigurationError(f"ranges cannot run under {execution!r}: {reason}")
        self._open(execution)
        self._pool.switch(execution)

    def obstacles(self) -> dict[Execution, str]:
        """Say of each execution why it cannot be chosen now; empty where nothing is known against it."""
        mappers = {id(job.call.mapper): job.call.mapper for job in self._pool.jobs() if job.call.mapper}
        return {each: obstacle(each, self.settings, mappers.values()) for each in EXECUTIONS}

    @property
    def concurrency(self) -> int:
        """Tasks that run at once, at most, under the present execution; fewer where AWS gives fewer."""
        with self._pool.lock:
            return self._pool.limits(self._pool.execution).limit

    @concurrency.setter
    def concurrency(self, limit: int) -> None:
        execution = self.execution
        most = self._concurrency(execution).limit
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
            raise ConfigurationError(
                f"concurrency is {limit!r}: it has to be a whole number from 1 to {most:,}, with which "
                f"{execution!r} was opened"
            )
        self._pool.limit(execution, limit)

    @property
    def memory_mb(self) -> int | None:
        """Memory of an environment under the present execution, MB of 2^20 bytes; None in this process."""
        invoker = self._invokers.get(self.execution)
        return invoker.tiers[0] or None if invoker is not None else None

    @property
    def most_concurrency(self) -> int:
        """What `concurrency` can be raised to under the present execution."""
        return self._concurrency(self.execution).limit

    @property
    def max_cost_usd(self) -> float | None:
        """What all runs may cost together, USD; None for no limit. It can be changed while tasks run."""
        return self.settings.max_cost_usd

    @max_cost_usd.setter
    def max_cost_usd(self, limit_usd: float | None) -> None:
        if limit_usd is not None and not 0 <= limit_usd <= MOST_USD:
            raise ConfigurationError(f"max_cost_usd is {limit_usd!r}: it has to be from 0 to {MOST_USD:g}")
        self.settings = self._tries.settings = replace(self.settings, max_cost_usd=limit_usd)

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
        job = Job(call, observe)
        self._pool.submit(job)
        self._submitted[job.future] = job
        # Called at once where it is done already.
        job.future.add_done_callback(self._submitted.pop)
        return job.future

    def cancel(self, *futures: Future[Any]) -> None:
        """End tasks that are waiting or in flight; their futures raise `RunCancelledError`.

        A function in AWS that has begun runs on there, to its end, and is billed; its answer is dropped.
        """
        jobs = (self._submitted.get(future) for future in futures)
        self._tries.cancel(each for job in jobs if job is not None for each in job.all_tries())

    def cancel_all(self) -> None:
        """End all tasks; see `cancel`. Of a run that fails, what has failed is told."""
        self._tries.failures.finish_all()
        self._tries.cancel(self._pool.jobs())
        # What has failed meanwhile.
        self._tries.failures.finish_all()

    def stop(self, run: str) -> None:
        """End the tasks of a run, by its identity or the first digits of it; see `cancel`.

        Raises
        ------
        ConfigurationError
            Several runs that go on begin with these digits.
        """
        jobs = [job for job in self._pool.jobs() if run and job.call.run and job.call.run.startswith(run)]
        names = {job.call.run for job in jobs}
        if len(names) > 1:
            raise ConfigurationError(f"{len(names):,} runs that go on begin with {run!r}: give more digits")
        self._tries.cancel(jobs)

    def report(self) -> Report:
        """Return what was done so far, and what it cost."""
        return self.ledger.report()

    def forget(self, space: RunSpace) -> threading.Thread:
        """Delete what a run that succeeded left in the stores, in the thread that is returned.

        Ranges of the same run that are submitted from now on wait for it.
        """
        self._tries.encoder.begin_forgetting(space)
        self._tries.learned.forget(space.run)
        self._tries.forecast.forget(space.run)
        stores = [invoker.store for invoker in list(self._invokers.values())]
        thread = threading.Thread(target=self._forget, args=(space, stores), daemon=True)
        thread.start()
        return thread

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more; see `concurrent.futures.Executor.shutdown`.

        Waits for the tasks in flight, each of which has a deadline, unless ``wait`` is False: then they are
        ended.
        """
        self._pool.close()
        if not wait:
            self.cancel_all()
        elif cancel_futures:
            self._tries.cancel(job for job in self._pool.jobs() if job not in self._pool.running)
        self._pool.wait(None if wait else _END_TIMEOUT_S)
        self._tries.dropped.tell()
        self._tries.encoder.close()
        with self._opening:
            invokers = list(self._invokers.values())
            self._invokers.clear()
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
            if self._pool.closing:
                raise RuntimeError("cannot change the execution after shutdown")
            if execution not in self._invokers:
                self._invokers[execution] = self._openers[execution](self.settings)
            return self._invokers[execution]

    def _forget(self, space: RunSpace, stores: list[Store]) -> None:
        try:
            self._tries.encoder.forget(space, stores)
        except DaskRootLambdaError as error:
            logger.warning("partial results of run %s stay until they expire: %s", space.run, error)

    def _concurrency(self, execution: Execution) -> Concurrency:
        invoker, limit = self._invokers.get(execution), self.settings.limit(execution)
        if invoker is not None and invoker.quota is not None:
            limit = max(1, min(limit, invoker.quota))
        return Concurrency(limit, ramps=execution != "local")
