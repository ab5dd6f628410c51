"""An executor whose functions run on AWS Lambda, in an emulated Lambda, or here."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from dask_root_lambda.config import EXECUTIONS, MOST_USD, Execution, Settings, check_execution
from dask_root_lambda.cost.report import Report
from dask_root_lambda.execution import budget, encoding, jobs
from dask_root_lambda.execution.concurrency import Concurrency
from dask_root_lambda.execution.deadlines import Deadlines
from dask_root_lambda.execution.dropped import Dropped
from dask_root_lambda.execution.encoding import Call, Encoder
from dask_root_lambda.execution.failures import Failures
from dask_root_lambda.execution.forecast import Forecast
from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.execution.ledger import CALLS, Account, Ledger
from dask_root_lambda.execution.memory import Learned
from dask_root_lambda.execution.obstacles import obstacle
from dask_root_lambda.execution.policy import Again, Divide, Grow, RetryPolicy
from dask_root_lambda.execution.pool import Follow, Pool
from dask_root_lambda.execution.tracks import Tracks
from dask_root_lambda.execution.watch import Watch
from dask_root_lambda.invocation.emulated import EmulatedInvoker
from dask_root_lambda.invocation.invokers import AwsInvoker, Invocation, Invoker, LocalInvoker
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol.errors import (
    ConfigurationError,
    CostLimitError,
    CrashError,
    DaskRootLambdaError,
    DeadlineError,
    FunctionTimeoutError,
    MissingBlobError,
    NotReadyError,
    OutOfMemoryError,
    RunCancelledError,
    ThrottledError,
)
from dask_root_lambda.protocol.store import Store

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)

_TOTAL_LIMIT, _RUN_LIMIT = "dask-root-lambda.cost.max-usd", "dask-root-lambda.cost.max-usd-per-run"
_PATIENCE_S = 900.0
"""How long a task that is refused waits while nothing at all is answered."""

_END_TIMEOUT_S = 0.5
"""How long a shutdown waits for tasks that it has ended: most end at once."""

_NOT_REUSED = "should a run fail, no later process can take what it computed: {}"

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
        self.ledger = Ledger()
        self.tracks = Tracks()
        self._openers = openers
        self._encoder = Encoder(lambda call: self.ledger.mend(call.run or CALLS))
        self._policy = RetryPolicy(
            self.settings.max_attempts, self.settings.max_crashes, max_share=self.settings.max_retry_share
        )
        self._told_of_limit = False
        self._learned = Learned()
        self._dropped = Dropped()
        self._forecast = Forecast()
        self._name = uuid.uuid4().hex[:8]
        self._calls = itertools.count()
        self._opening = threading.Lock()
        self._invokers: dict[Execution, Invoker] = {}
        self._submitted: dict[Future[Any], Job] = {}
        """Jobs that are not done."""
        self._failures = Failures(self._take_waiting, self._settle_failed)
        self._pool = Pool(self._run_unless_failing, self._stop, self._concurrency, self.settings.execution)
        self._watch = Watch(self._pool, Deadlines.of(self.settings), self._doubled, self._overdue)
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
        self.settings = replace(self.settings, max_cost_usd=limit_usd)

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
        self._cancel(each for job in jobs if job is not None for each in job.all_tries())

    def cancel_all(self) -> None:
        """End all tasks; see `cancel`."""
        self._cancel(self._pool.jobs())
        self._failures.finish_all()

    def stop(self, run: str) -> None:
        """End the tasks of a run; see `cancel`."""
        self._cancel(job for job in self._pool.jobs() if job.call.run == run)

    def report(self) -> Report:
        """Return what was done so far, and what it cost."""
        return self.ledger.report()

    def forget(self, space: RunSpace) -> threading.Thread:
        """Delete what a run that succeeded left in the stores, in the thread that is returned.

        Ranges of the same run that are submitted from now on wait for it.
        """
        self._encoder.begin_forgetting(space)
        self._learned.forget(space.run)
        self._forecast.forget(space.run)
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
            self._cancel(job for job in self._pool.jobs() if job not in self._pool.running)
        self._pool.wait(None if wait else _END_TIMEOUT_S)
        self._dropped.tell()
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
            if self._pool.closing:
                raise RuntimeError("cannot change the execution after shutdown")
            if execution not in self._invokers:
                self._invokers[execution] = self._openers[execution](self.settings)
            return self._invokers[execution]

    def _cancel(self, these: Iterable[Job]) -> None:
        waiting, running = self._pool.take_out(these)
        for job in waiting:
            self._stop(job)
        for job in running:
            job.fail(_stopped(job))
            job.cancellation.cancel()

    def _forget(self, space: RunSpace, stores: list[Store]) -> None:
        try:
            self._encoder.forget(space, stores)
        except DaskRootLambdaError as error:
            logger.warning("partial results of run %s stay until they expire: %s", space.run, error)

    def _concurrency(self, execution: Execution) -> Concurrency:
        invoker, limit = self._invokers.get(execution), self.settings.limit(execution)
        if invoker is not None and invoker.quota is not None:
            limit = max(1, min(limit, invoker.quota))
        return Concurrency(limit, ramps=execution != "local")

    def _run_unless_failing(self, job: Job, execution: Execution) -> Follow:
        """Try a job once, unless its run has failed; see `_run`."""
        if self._failures.hold(job):
            return []
        try:
            return self._run(job, execution)
        finally:
            self._failures.ended(job)

    def _run(self, job: Job, execution: Execution) -> Follow:
        """Try a job once; return what is to be run next because of it, and after how many seconds.

        That is nothing where its future is settled, the job itself where it is to be tried again, or the
        parts that it was divided into.
        """
        invoker = self._invokers[execution]
        if job.account is None:
            job.account = self._begin(job.call, invoker)
            self._watch.begun(job)
        self.tracks.start(job, execution)
        try:
            self._check_budget(job.account)
            value, empty = self._encoder.left_over(job.call, invoker), False
            if value is None:
                if self._forecast.too_long(job, invoker.timeout_s):
                    self.ledger.split(job.account)
                    self.tracks.retry(job)
                    return self._divided(job)
                value, empty = self._attempt(job, job.account, invoker)
        except CostLimitError as error:
            self._fail(job, error)
        except ThrottledError as error:
            return self._refused(job, job.account, invoker, error)
        except DaskRootLambdaError as error:
            job.errors.append(error)
            return self._after(job, job.account, invoker, error)
        except Exception as error:
            self._fail(job, error)
        except BaseException as error:
            # In a process of its own, such as an environment, sys.exit() would have ended that.
            ended = CrashError(f"the task ended its process: {error!r}", task=job.call.task)
            ended.__cause__ = error
            self._fail(job, ended)
        else:
            self._succeed(job, value, empty=empty)
        return []

    def _succeed(self, job: Job, value: Any, *, empty: bool) -> None:
        seconds = time.monotonic() - job.started_s
        if not job.claim():
            return
        self._end(job, failed=False, empty=empty)
        job.settle(value)
        self._learned.add(job, failed=False)
        if job.has_twin:
            self._cancel(job.others())
        if job.call.mapper is not None and job.whole is None:
            self._watch.done(job.call.mapper, seconds)

    def _begin(self, call: Call, invoker: Invoker) -> Account:
        run, mapper = call.run or CALLS, call.mapper
        n_ranges, why = (mapper.n_ranges, mapper.why) if mapper is not None else (0, "")
        account = self.ledger.begin(run, n_ranges, invoker, why)
        if call.space is not None and call.space.not_reused:
            self.ledger.note(_NOT_REUSED.format(call.space.not_reused))
        return account

    def _check_budget(self, account: Account) -> None:
        settings, ledger = self.settings, self.ledger
        if settings.max_cost_usd is None and settings.max_run_cost_usd is None:
            return
        reason = budget.refusal(ledger.spending(), settings.max_cost_usd, _TOTAL_LIMIT)
        if account.run != CALLS:
            reason = reason or budget.refusal(ledger.spending(account), settings.max_run_cost_usd, _RUN_LIMIT)
        if reason is not None:
            raise CostLimitError(reason)

    def _take_waiting(self, space: RunSpace) -> list[Job]:
        waiting, _ = self._pool.take_out(job for job in self._pool.jobs() if job.call.space == space)
        return waiting

    def _end(self, job: Job, *, failed: bool, empty: bool = False) -> None:
        # A part of a range counts with the whole.
        if job.account is not None and job.whole is None:
            is_range = job.call.mapper is not None
            self.ledger.end(job.account, is_range=is_range, failed=failed, empty=empty)
            self.tracks.end(job, failed=failed)

    def _attempt(self, job: Job, account: Account, invoker: Invoker) -> tuple[Any, bool]:
        """Invoke once; return the result, and whether it is of a range without entries."""
        request = self._encoder.request(job.call, invoker, len(job.errors) + 1)
        if len(invoker.tiers) > 1:
            request = replace(request, tier=self._learned.tier(job, invoker.tiers))
        invocation: Invocation | None = None
        try:
            invocation = invoker.invoke(request, job.cancellation)
            with self._pool.lock:
                self._pool.limits(invoker.execution).answered(time.monotonic())
            self.ledger.add(account, invocation)
            self.tracks.answer(job, invocation, invoker.execution)
            job.observe(invocation)
            value = encoding.result(job.call, request, invocation)
            self._encoder.keep(job.call, value)
        except MissingBlobError as error:
            raise self._encoder.missing(request, invoker.store, error) from error.__cause__
        except RunCancelledError:
            self._drop(job, account, invoker)
            raise
        finally:
            encoding.clean_up(request, invocation, invoker.store)
        entries = invocation.reply.usage.entries if invocation.reply is not None else 0
        if invoker.timeout_s is not None and entries:
            self._forecast.add(job, invocation.billing.duration_s)
        return value, job.call.mapper is not None and entries == 0

    def _drop(self, job: Job, account: Account, invoker: Invoker) -> None:
        """Take note of an answer that nobody waits for; what runs on this machine ends by itself."""
        if invoker.execution == "lambda":
            self.ledger.drop(account)
            if not job.tries:
                self._dropped.add()

    def _refused(self, job: Job, account: Account, invoker: Invoker, error: ThrottledError) -> Follow:
        """Let a job wait that the service refused: that is no failure, as long as anything gets on."""
        now_s = time.monotonic()
        with self._pool.lock:
            limits, others = self._pool.limits(invoker.execution), self._pool.in_flight[invoker.execution] - 1
            jitter = random.random()  # noqa: S311  (spreads tries)
            if isinstance(error, NotReadyError):
                limits.wait(now_s, jitter)
            else:
                limits.refused(now_s, others, jitter)
            job.refused_s = now_s if job.refused_s is None else job.refused_s
            waited_s = now_s - max(job.refused_s, limits.answered_s)
        self.ledger.refuse(account)
        self.tracks.refuse(job)
        if not isinstance(error, NotReadyError) and not self._told_of_limit:
            self._told_of_limit = True
            logger.warning("%s; %d go on, the others wait", error.message, max(1, others))
        if waited_s > _PATIENCE_S:
            self._fail(job, error)
            return []
        return [(job, 0.0)]

    def _after(self, job: Job, account: Account, invoker: Invoker, error: DaskRootLambdaError) -> Follow:
        """Decide what follows a failure."""
        jitter = random.random()  # noqa: S311  (spreads tries)
        larger = job.tier is not None and job.tier + 1 < len(invoker.tiers)
        decision = self._policy.after(job.errors, jitter, divisible=job.divisible, larger=larger)
        if isinstance(error, OutOfMemoryError):
            self._learned.add(job, failed=True)
        if isinstance(error, FunctionTimeoutError) and invoker.timeout_s is not None:
            self._forecast.add(job, invoker.timeout_s)
        if job.has_twin and not isinstance(decision, Again | Grow):
            job.gave_up = True
            return []
        if decision is None or job.cancellation.cancelled or self._failures.concern(job):
            self._fail(job, error)
            return []
        if isinstance(decision, Grow):
            assert job.tier is not None
            job.tier += 1
            self.ledger.grow(account)
            self.tracks.retry(job)
            logger.info("%s is tried with %d MB: %s", job.call.task, invoker.tiers[job.tier], error)
            return [(job, 0.0)]
        if job.call.space is not None and not self._policy.allows(account.retries, account.ranges):
            self._fail(job, _too_many(error, account.retries))
            return []
        self.ledger.retry(account)
        self.tracks.retry(job)
        if isinstance(decision, Divide):
            logger.info("%s is divided: %s", job.call.task, error)
            return self._divided(job)
        logger.info("%s is tried again in %.1f s: %s", job.call.task, decision.delay_s, error)
        return [(job, decision.delay_s)]

    def _divided(self, job: Job) -> Follow:
        return [(part, 0.0) for part in jobs.divided(job, partial(self._whole_done, job))]

    def _doubled(self, job: Job) -> None:
        assert job.account is not None
        self.ledger.double(job.account)
        self.tracks.double(job)

    def _overdue(self, job: Job, error: DeadlineError) -> None:
        self._pool.take_out([job])
        self._settle_failed(job, error)
        job.cancellation.cancel()

    def _whole_done(self, whole: Job, *, failed: bool) -> None:
        """Count a range whose parts are done, and end what is left of them if one has failed."""
        if whole.claim():
            self._end(whole, failed=failed)
        if failed:
            self._cancel(each for part in whole.parts for each in part.with_parts())

    def _stop(self, job: Job) -> None:
        self._settle_failed(job, _stopped(job))

    def _fail(self, job: Job, error: BaseException) -> None:
        """Let a job fail, and if it is a range, its run; see `dask_root_lambda.execution.failures`."""
        space = job.call.space
        if job.call.mapper is None or space is None or job.ended:
            self._settle_failed(job, error)
            return
        with self._pool.lock:
            in_flight = [each for each in self._pool.running if each.call.space == space]
            self._failures.add(space, job, error, in_flight)

    def _settle_failed(self, job: Job, error: BaseException) -> None:
        if not job.claim():
            return
        self._end(job, failed=True)
        if job.call.space is not None:
            self._encoder.look_again(job.call.space)
        job.fail(error)


def _stopped(job: Job) -> RunCancelledError:
    return RunCancelledError("the run was stopped", task=job.call.task)


def _too_many(error: DaskRootLambdaError, retries: int) -> DaskRootLambdaError:
    """Say with the last error of a run that it had too many."""
    error.args = (f"{error.message} (the run has had {retries} further tries, and gets no more)",)
    return error
