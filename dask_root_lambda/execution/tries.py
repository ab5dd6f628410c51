"""The tries of jobs: each is run, and rules say what follows from how that went."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dask_root_lambda.config import Execution, Settings
from dask_root_lambda.cost.prices import NO_PRICES, prices_of
from dask_root_lambda.execution import budget, encoding, jobs
from dask_root_lambda.execution.account import Account
from dask_root_lambda.execution.concurrency import Concurrency
from dask_root_lambda.execution.deadlines import Deadlines
from dask_root_lambda.execution.dropped import Dropped
from dask_root_lambda.execution.encoding import Call, Encoder
from dask_root_lambda.execution.failures import Failures
from dask_root_lambda.execution.far_buckets import FarBuckets
from dask_root_lambda.execution.forecast import Forecast
from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.execution.ledger import CALLS, Ledger
from dask_root_lambda.execution.memory import Learned
from dask_root_lambda.execution.policy import Divide, Grow, RetryPolicy
from dask_root_lambda.execution.pool import Follow, Pool
from dask_root_lambda.execution.tracks import Tracks
from dask_root_lambda.execution.watch import Watch
from dask_root_lambda.invocation.invokers import Invocation, Invoker
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import PackedMapper
from dask_root_lambda.protocol.errors import (
    CostLimitError,
    CrashError,
    DaskRootLambdaError,
    DeadlineError,
    FunctionTimeoutError,
    MissingBlobError,
    NoAnswerError,
    NotReadyError,
    OutOfMemoryError,
    RunCancelledError,
    ThrottledError,
)
from dask_root_lambda.protocol.store import Store
from dask_root_lambda.protocol.task import Body, Request, Usage

logger = logging.getLogger(__name__)

_TOTAL_LIMIT, _RUN_LIMIT = "dask-root-lambda.cost.max-usd", "dask-root-lambda.cost.max-usd-per-run"
_PATIENCE_S = 900.0
"""How long a task that is refused waits while nothing at all is answered."""

_NOT_REUSED = "should a run fail, no later process can take what it computed: {}"


class Tries:
    """Runs jobs until their futures are settled, in the threads of its pool.

    Parameters
    ----------
    settings
        Limits of retries, of time and of cost; the latter can be changed.
    invokers
        What is open of each execution.
    concurrency
        See `dask_root_lambda.execution.pool.Pool`.
    """

    def __init__(
        self,
        settings: Settings,
        invokers: Mapping[Execution, Invoker],
        concurrency: Callable[[Execution], Concurrency],
    ) -> None:
        self.settings = settings
        self.ledger = Ledger(s3_prices=prices_of(settings.region or "", own=settings.prices))
        self.tracks = Tracks()
        self.encoder = Encoder(lambda call: self.ledger.mend(call.run or CALLS))
        self.learned = Learned()
        self.dropped = Dropped()
        self.forecast = Forecast()
        self._far_buckets = FarBuckets(self.ledger, settings.prices)
        self.failures = Failures(self._take_waiting, self._settle_failed)
        self.pool = Pool(self._run_unless_failing, self._stop, concurrency, settings.execution)
        self._invokers = invokers
        self._policy = RetryPolicy(
            settings.max_attempts, settings.max_crashes, max_share=settings.max_retry_share
        )
        self._told_of_limit = False
        self._watch = Watch(self.pool, Deadlines.of(settings), self._doubled, self._overdue)

    def cancel(self, these: Iterable[Job]) -> None:
        """End jobs that are waiting or in flight."""
        waiting, running = self.pool.take_out(these)
        for job in waiting:
            self._stop(job)
        for job in running:
            job.fail(_stopped(job))
            job.cancellation.cancel()

    def _run_unless_failing(self, job: Job, execution: Execution) -> Follow:
        """Try a job once, unless its run has failed; see `_run`."""
        if self.failures.hold(job):
            return []
        try:
            if job.ended:
                # It was cancelled, or another try of it was done, just when this one was to start.
                self._stop(job)
                return []
            return self._run(job, execution)
        except Exception as error:  # of ours: what a task raises was caught
            logger.exception(
                "a defect of dask-root-lambda, please report it: %s cannot be tried", job.call.task
            )
            try:
                self._settle_failed(job, error)
            finally:
                # Its outcome may have been decided before, and not told.
                job.fail(error)
            return []
        finally:
            self.failures.ended(job)

    def _run(self, job: Job, execution: Execution) -> Follow:
        """Try a job once; return what is to be run next because of it, and after how many seconds.

        That is nothing where its future is settled, the job itself where it is to be tried again, or the
        parts that it was divided into.
        """
        invoker = self._invokers[execution]
        if job.account is None:
            self._watch.begun(job)
            job.account = self._begin(job.call, invoker)
        self.tracks.start(job, execution)
        try:
            found = self.encoder.left_over(job.call, invoker)
            if found is not None:
                self._take(job, found)
                return []
            if self._is_to_be_divided(job, invoker):
                self.ledger.split(job.account)
                self.tracks.divide(job)
                return self._divided(job, invoker)
            with self.ledger.invoking(job.account):
                self._check_budget(job.account, invoker)
                value, empty = self._attempt(job, job.account, invoker)
        except CostLimitError as error:
            self._fail(job, error)
        except ThrottledError as error:
            return self._refused(job, job.account, invoker, error)
        except DaskRootLambdaError as error:
            job.errors.append(error)
            return self._after(job, job.account, invoker, error)
        except Exception as error:  # whatever the user's function raises
            self._fail(job, error)
        except BaseException as error:
            # In a process of its own, such as an environment, sys.exit() would have ended that.
            ended = CrashError(f"the task ended its process: {error!r}", task=job.call.task)
            ended.__cause__ = error
            self._fail(job, ended)
        else:
            self._succeed(job, value, empty=empty, seconds=time.monotonic() - job.started_s)
        return []

    def _is_to_be_divided(self, job: Job, invoker: Invoker) -> bool:
        """Tell whether a job is better divided before it is tried."""
        mapper = job.call.mapper
        if mapper is None or job.tries or not job.divisible:
            return False
        if self.forecast.too_long(job, invoker.timeout_s) or self._is_left_in_part(job, mapper, invoker):
            return True
        # On this machine halves would wait for the cores of those that run.
        if invoker.execution != "lambda":
            return False
        return self.forecast.shortens_the_end(job, *self.pool.waiting_and_slots(invoker.execution))

    def _is_left_in_part(self, job: Job, mapper: PackedMapper, invoker: Invoker) -> bool:
        """Tell whether an earlier try, which divided this range, has left one of its halves."""
        if not self.encoder.any_left(mapper.space, invoker.store):
            return False
        return any(self.encoder.left_over(half, invoker) is not None for half in jobs.half_calls(job.call))

    def _take(self, job: Job, value: Any) -> None:
        """Take what an earlier try of a range has left."""
        self.tracks.take(job)
        self._succeed(job, value, empty=False, seconds=None)

    def _succeed(self, job: Job, value: Any, *, empty: bool, seconds: float | None) -> None:
        """Let a job have its value, after so many seconds; None for what an earlier try has left."""
        if not job.claim():
            return
        self._count_read(job)
        self._end(job, failed=False, empty=empty, left_over=seconds is None)
        job.settle(value)
        self.learned.add(job, failed=False)
        if job.has_twin:
            self.cancel(job.others())
        if job.call.mapper is not None and job.whole is None:
            self._watch.done(job.call.mapper, None if empty else seconds)

    def _count_read(self, job: Job) -> None:
        """Count what was read for a result: of a part of a range once the whole is there."""
        if job.whole is not None:
            job.whole.read.extend(job.read)
        elif job.account is not None:
            self.ledger.take(job.account, job.read)

    def _begin(self, call: Call, invoker: Invoker) -> Account:
        run, mapper = call.run or CALLS, call.mapper
        n_ranges, why = (mapper.n_ranges, mapper.why) if mapper is not None else (0, "")
        account = self.ledger.begin(run, n_ranges, invoker, why)
        if call.space is not None and call.space.not_reused:
            self.ledger.note(_NOT_REUSED.format(call.space.not_reused))
        if mapper is not None:
            self._far_buckets.look(mapper, account, invoker)
        return account

    def _check_budget(self, account: Account, invoker: Invoker) -> None:
        settings, ledger = self.settings, self.ledger
        unlimited = settings.max_cost_usd is None and settings.max_run_cost_usd is None
        # What costs nothing goes on, whatever was spent elsewhere.
        if unlimited or invoker.prices == NO_PRICES:
            return
        reason = budget.refusal(ledger.spending(), settings.max_cost_usd, _TOTAL_LIMIT)
        if account.run != CALLS:
            reason = reason or budget.refusal(ledger.spending(account), settings.max_run_cost_usd, _RUN_LIMIT)
        if reason is not None:
            raise CostLimitError(reason)

    def _take_waiting(self, space: RunSpace) -> list[Job]:
        waiting, _ = self.pool.take_out(job for job in self.pool.jobs() if job.call.space == space)
        return waiting

    def _end(self, job: Job, *, failed: bool, empty: bool = False, left_over: bool = False) -> None:
        # A part of a range counts with the whole.
        if job.account is not None and job.whole is None:
            is_range = job.call.mapper is not None
            self.ledger.end(job.account, is_range=is_range, failed=failed, empty=empty, left_over=left_over)
            self.tracks.end(job, failed=failed)

    def _attempt(self, job: Job, account: Account, invoker: Invoker) -> tuple[Any, bool]:
        """Invoke once; return the result, and whether it is of a range without entries."""
        request = self.encoder.request(job.call, invoker, len(job.errors) + 1)
        if len(invoker.tiers) > 1:
            request = replace(request, tier=self.learned.tier(job, invoker.tiers))
        invocation: Invocation | None = None
        try:
            invocation = self._invoke(request, job, account, invoker)
            value = encoding.result(job.call, request, invocation)
            self.encoder.answered(job.call, value)
            self.encoder.keep(job.call, value, invoker.store)
        except MissingBlobError as error:
            raise self.encoder.missing(request, invoker.store, error) from error.__cause__
        except RunCancelledError:
            self._drop(job, account, invoker)
            raise
        finally:
            encoding.clean_up(request, invocation, invoker.store)
        usage = invocation.reply.usage if invocation.reply is not None else Usage()
        job.read = list(usage.traffic or ())
        if invoker.timeout_s is not None and usage.entries:
            self.forecast.add(job, invocation.billing.duration_s, value)
        return value, job.call.mapper is not None and usage.entries == 0

    def _invoke(self, request: Request, job: Job, account: Account, invoker: Invoker) -> Invocation:
        """Invoke, and count what the answer tells."""
        told = False
        try:
            invocation = invoker.invoke(request, job.cancellation)
            told = invocation.reply is not None and invocation.reply.usage.traffic is not None
        except (NoAnswerError, RunCancelledError):
            raise
        except DaskRootLambdaError:
            told = True  # nothing ran
            raise
        finally:
            if not told and job.call.mapper is not None:
                self.ledger.lose(account)
        with self.pool.lock:
            self.pool.limits(invoker.execution).answered(time.monotonic())
            job.answered = True
        self.ledger.add(account, invocation, invoker)
        self.tracks.answer(job, invocation, invoker.execution)
        job.observe(invocation)
        if invocation.reply is not None:
            self._watch.answered(job, invoker.execution, invocation.reply.usage.environment)
        return invocation

    def _drop(self, job: Job, account: Account, invoker: Invoker) -> None:
        """Take note of an answer that nobody waits for; what runs on this machine ends by itself."""
        if invoker.execution == "lambda":
            self.ledger.drop(account)
            if not job.tries:
                self.dropped.add()

    def _refused(self, job: Job, account: Account, invoker: Invoker, error: ThrottledError) -> Follow:
        """Let a job wait that the service refused: that is no failure, as long as anything gets on."""
        now_s = time.monotonic()
        with self.pool.lock:
            limits, others = self.pool.limits(invoker.execution), self.pool.in_flight[invoker.execution] - 1
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
            self.learned.add(job, failed=True)
        if isinstance(error, FunctionTimeoutError) and invoker.timeout_s is not None:
            self.forecast.add(job, invoker.timeout_s)
        if isinstance(decision, Divide) and self._left_to_another(job):
            return []
        if decision is None or job.cancellation.cancelled or self.failures.concern(job):
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
            return self._divided(job, invoker)
        logger.info("%s is tried again in %.1f s: %s", job.call.task, decision.delay_s, error)
        return [(job, decision.delay_s)]

    def _divided(self, job: Job, invoker: Invoker) -> Follow:
        done = partial(self._whole_done, job, invoker.store)
        return [(part, 0.0) for part in jobs.divided(job, done)]

    def _doubled(self, job: Job) -> None:
        assert job.account is not None
        self.ledger.double(job.account)
        self.tracks.double(job)

    def _overdue(self, job: Job, error: DeadlineError) -> None:
        self.pool.take_out([job])
        self._settle_failed(job, error)
        job.cancellation.cancel()

    def _whole_done(self, whole: Job, store: Store, merged: Body | None) -> None:
        """Count a range whose parts are done, and keep its result; end what is left of them if one failed."""
        if merged is not None:
            # Else the next try would find its parts only when it has failed as a whole again.
            self.encoder.keep(whole.call, merged, store)
        if whole.claim():
            if merged is not None:
                self._count_read(whole)
            self._end(whole, failed=merged is None)
        if merged is None:
            self.cancel(each for part in whole.parts for each in part.all_tries())

    def _stop(self, job: Job) -> None:
        self._settle_failed(job, _stopped(job))

    def _fail(self, job: Job, error: BaseException) -> None:
        """Let a job fail, and if it is a range, its run; see `dask_root_lambda.execution.failures`.

        A try beside which another one goes on is given up, and nothing fails.
        """
        if self._left_to_another(job):
            return
        space = job.call.space
        if job.call.mapper is None or space is None or job.ended:
            self._settle_failed(job, error)
            return
        with self.pool.lock:
            in_flight = [each for each in self.pool.running if each.call.space == space]
            self.failures.add(space, job, error, in_flight)

    def _left_to_another(self, job: Job) -> bool:
        """Give a try up if another one of the same range goes on; tell whether it does."""
        # Of two that fail at once, one has to see that the other has given up.
        with self.pool.lock:
            job.gave_up = job.has_twin
            return job.gave_up

    def _settle_failed(self, job: Job, error: BaseException) -> None:
        if not job.claim():
            return
        self._end(job, failed=True)
        if job.call.space is not None:
            self.encoder.look_again(job.call.space)
        job.fail(error)


def _stopped(job: Job) -> RunCancelledError:
    return RunCancelledError("the run was stopped", task=job.call.task)


def _too_many(error: DaskRootLambdaError, retries: int) -> DaskRootLambdaError:
    """Say with the last error of a run that it had too many."""
    error.args = (f"{error.message} (the run has had {retries} further tries, and gets no more)",)
    return error
