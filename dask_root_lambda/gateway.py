"""Dask's side of the executor: everything that knows distributed's inside.

A worker has the executor under the name ``lambda``. A task with that annotation arrives here as distributed
gives it to any executor: as `_run_task_simple` with the task, its data and a clock offset.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import dask
from dask._expr import ProhibitReuse
from dask.task_spec import DataNode, Task
from dask.typing import Key
from distributed import Reschedule, WorkerPlugin
from distributed.core import Status
from distributed.metrics import context_meter
from distributed.protocol.pickle import dumps, loads
from distributed.threadpoolexecutor import ThreadPoolExecutor
from distributed.worker import Worker, _run_task_simple
from distributed.worker_state_machine import TaskState

from dask_root_lambda.annotated import keep_annotations
from dask_root_lambda.config import Settings
from dask_root_lambda.dashboard import finished, state, steering
from dask_root_lambda.dashboard.feed import METRIC, STATE_OPERATION
from dask_root_lambda.dashboard.scheduler import PagePlugin
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.invocation.invokers import Invocation
from dask_root_lambda.outcomes import Outcomes
from dask_root_lambda.plan import arrivals, history
from dask_root_lambda.plan.graph import range_key
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Finish, MapRange, Merge, Step
from dask_root_lambda.protocol.errors import DaskRootLambdaError

logger = logging.getLogger(__name__)

EXECUTOR = "lambda"
"""Name of the executor on the workers."""

_TASKS_PER_SLOT = 10
"""Tasks that a gateway is given for each that may be in flight; see `slots`. Merges never wait for ranges."""

_DEFAULT = "default"
"""distributed's name of the executor of tasks without an annotation."""


_LONGEST_ERROR = 4_000_000
"""Characters of an error that distributed passes on as it is: of longer ones it makes plain exceptions."""

_LAST_DELETIONS_S = 10.0
"""How long a worker that closes waits until the partial results of runs that succeeded are deleted."""

_LAST_MERGES_S = 1.0
"""How long a worker that closes waits for merges, whose results nobody wants."""


@dataclass
class _InFlight:
    """A task of the worker that is on its way."""

    future: Future[Any]
    dropped: bool = False
    """Whether nobody wants it any more."""


class GatewayExecutor(Executor):
    """Runs a worker's tasks on a `LambdaExecutor`.

    Parameters
    ----------
    executor
        Runs the tasks; shut down with this one.
    priority
        Returns the priority of a task by its key.
    """

    def __init__(self, executor: LambdaExecutor, priority: Callable[[Key], float] = lambda _: 0) -> None:
        self.executor = executor
        self._priority = priority
        self._outcomes = Outcomes()
        self._in_flight: dict[Key, _InFlight] = {}
        self._dropped: list[Future[Any]] = []
        """Futures of tasks that are going to be ended."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run one task of the worker. Called on its event loop: never blocks.

        What asyncio's ``run_in_executor`` is given may be a future of the loop itself: it is passed on.
        """
        if fn is not _run_task_simple:
            return self.executor.submit(fn, *args, **kwargs)
        task, data, delay_s = args
        if type(task) is not Task:
            return _done(fn(task, data, delay_s))
        return self._submit_task(task, data, delay_s)

    def drop(self, key: Key) -> None:
        """End a task that nobody wants any more; called on the event loop.

        Those that are dropped one after the other are ended together: the place of one that is in flight
        would be taken by one that waits, which is to be dropped next.
        """
        task = self._in_flight.get(key)
        if task is None:
            return
        task.dropped = True
        if not self._dropped:
            asyncio.get_running_loop().call_soon(self._end_dropped)
        self._dropped.append(task.future)

    def _end_dropped(self) -> None:
        futures, self._dropped = self._dropped, []
        self.executor.cancel(*futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """End all tasks and shut down. Does not wait for answers: a closing worker would wait with it."""
        self.executor.shutdown(wait=False, cancel_futures=True)

    def _submit_task(self, task: Task, data: Mapping[Key, Any], delay_s: float) -> asyncio.Future[Any]:
        args, kwargs = Task(task.key, _arguments, *task.args, **task.kwargs)(data)
        context = contextvars.copy_context()
        observe = functools.partial(_observe, context)
        # A range is called by its run, also where that is tried again under other keys.
        key = range_key(args[0].run, task.func.index) if isinstance(task.func, MapRange) else task.key
        call = Call(_name(key), task.func, args, kwargs, self._priority(task.key))
        in_flight = _InFlight(self.executor.submit_call(call, observe))
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._in_flight[task.key] = in_flight
        began_s = time.time()

        def settle(done: Future[Any]) -> None:
            if self._in_flight.get(task.key) is in_flight:
                del self._in_flight[task.key]
            dropped = in_flight.dropped
            # The same key may have been asked for again meanwhile: then it is run again, and not failed.
            func = _reschedule if dropped else done.result
            message = _run_task_simple(Task(task.key, func), {}, delay_s)
            message["start"] = began_s + delay_s
            try:
                if call.run is not None and not dropped and (error := done.exception()) is not None:
                    arrivals.failed(call.run, error)
            finally:
                self._outcomes.put(outcome, message)

        in_flight.future.add_done_callback(settle)
        return outcome


def _priority(worker: Worker, key: Key) -> float:
    """Return the priority that the user gave to a task; Dask runs those of the lowest number first."""
    state = worker.state.tasks.get(key)
    return -float(state.priority[0]) if state is not None and state.priority else 0


def _arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Stand in for a task's function, to have dask evaluate its arguments."""
    return args, kwargs


def _reschedule() -> None:
    raise Reschedule


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def _name(key: Key) -> str:
    return "-".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _observe(context: contextvars.Context, invocation: Invocation) -> None:
    """Add an invocation's figures to the span of its task, whose context this is."""
    bill = invocation.billing
    figures = (
        ("lambda-billed", bill.billed_s, "seconds"),
        ("lambda-init", (bill.init_s or 0.0) + (bill.restore_s or 0.0), "seconds"),
        ("lambda-cost", invocation.usd, "usd"),
        ("lambda-cold", float(bill.cold), "count"),
        # A span adds up: over its duration, this is how many were in flight in the mean.
        ("lambda-in-flight", invocation.in_flight_s, "seconds"),
    )
    for label, value, unit in figures:
        context.run(context_meter.digest_metric, label, value, unit)


class LambdaPlugin(WorkerPlugin):
    """Gives the workers of a Dask cluster the executor ``lambda``.

    ``client.register_plugin(LambdaPlugin())`` does it for a cluster that exists; `LambdaCluster` is this
    plugin on a worker of its own. Tasks go there by annotation:
    ``with dask.annotate(executor="lambda"): ...``.

    Parameters
    ----------
    execution
        ``"lambda"``, ``"emulated"`` or ``"local"``, as for `LambdaExecutor`.
    concurrency
        Invocations in flight at most, of each worker. A worker gives out as many tasks as it has threads:
        start it with as many.
    settings
        All settings at once, instead of the two above.
    executor
        An executor that exists already, for a worker in this process.
    limit_merges
        Whether other tasks than invocations run in ``merge-threads`` threads of a pool of their own: for a
        worker that is nothing but a gateway, and has many more threads than cores.
    """

    name = "dask-root-lambda"
    _gateway: GatewayExecutor | None = None
    """None where the executor could not be opened: distributed keeps the plugin all the same."""

    def __init__(
        self,
        execution: str | None = None,
        *,
        concurrency: int | None = None,
        settings: Settings | None = None,
        executor: LambdaExecutor | None = None,
        limit_merges: bool = False,
    ) -> None:
        keep_annotations()
        self._limit_merges = limit_merges
        self._settings = settings or Settings.resolve(execution=execution, concurrency=concurrency)
        self._executor = executor

    async def setup(self, worker: Worker) -> None:
        """Give ``worker`` the executor; distributed calls this."""
        if self._executor is None:
            self._executor = await asyncio.to_thread(LambdaExecutor, settings=self._settings)
        _pass_on_long_errors()
        self._worker = worker
        self._gateway = GatewayExecutor(self._executor, functools.partial(_priority, worker))
        self._finished: dict[Key, RunSpace] = {}
        self._drawn = finished.Finished()
        self._forgetting: list[threading.Thread] = []
        worker.executors[EXECUTOR] = self._gateway
        if self._limit_merges:
            self._default = worker.executors[_DEFAULT]
            worker.executors[_DEFAULT] = merge_pool(self._settings)
        worker.metrics[METRIC] = self._metrics
        # They stay when the executor goes: the scheduler may be about to ask.
        worker.handlers[STATE_OPERATION] = self._state
        worker.handlers[steering.STEER_OPERATION] = self._steer
        worker.handlers[finished.FINISHED_OPERATION] = self._tell_finished
        worker.handlers[finished.PARTIAL_OPERATION] = self._merge_partial
        worker.handlers[finished.SHAPES_OPERATION] = self._draw
        await _show_page(worker, PagePlugin(self._settings.allowed_origins))
        if worker.status == Status.running:
            await worker.heartbeat()

    async def teardown(self, worker: Worker) -> None:
        """Take the executor away again; distributed calls this when the worker closes."""
        if self._gateway is None:
            return
        worker.metrics.pop(METRIC, None)
        worker.executors.pop(EXECUTOR, None)
        if self._limit_merges:
            worker.executors[_DEFAULT].shutdown(wait=False)
            worker.executors[_DEFAULT] = self._default
        for space in self._finished.values():
            self._forget(space)
        self._finished.clear()
        await asyncio.to_thread(self._wait_for_forgetting)
        await asyncio.to_thread(self._gateway.shutdown)

    def transition(self, key: Key, start: str, finish: str, **_: Any) -> None:
        """Follow the worker's tasks: drop those nobody wants, and clean up after a run that succeeded."""
        if self._gateway is None:
            return
        if finish == "executing":
            _place(self._worker.state.tasks[key])
        if start in ("executing", "long-running") and finish in ("released", "cancelled"):
            self._gateway.drop(key)
        elif finish == "memory":
            function = getattr(self._worker.state.tasks[key].run_spec, "func", None)
            if isinstance(function, Finish):
                self._finished[key] = function.space
                blobs: Any = self._worker.data[key]
                for each in function.left_out(blobs):
                    self._gateway.executor.ledger.note(str(each))
                self._remember(function)
                self._drawn.keep(str(key), function, blobs)
        elif start == "memory" and key in self._finished:
            self._forget(self._finished.pop(key))

    def _remember(self, finish: Finish) -> None:
        """Keep what a run took that is done: by it, the next run of the same graph is divided."""
        assert self._gateway is not None
        work_s = self._gateway.executor.ledger.work_s(finish.space.run)
        if work_s is not None:
            history.remember(finish.graph, history.Record(work_s, finish.size))

    def _forget(self, space: RunSpace) -> None:
        assert self._gateway is not None
        self._forgetting = [thread for thread in self._forgetting if thread.is_alive()]
        self._forgetting.append(self._gateway.executor.forget(space))

    def _wait_for_forgetting(self) -> None:
        deadline_s = time.monotonic() + _LAST_DELETIONS_S
        for thread in self._forgetting:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _metrics(self, _: Worker) -> dict[str, Any]:
        """Report the executor's figures to the scheduler, with each heartbeat."""
        assert self._gateway is not None
        executor = self._gateway.executor
        total = executor.ledger.total()
        return {
            "execution": executor.execution,
            "concurrency": executor.concurrency,
            "in_flight": executor.ledger.invocations,
            "invocations": total.invocations,
            "cold": total.cold_starts,
            "retries": total.retries,
            "billed": total.billed_s,
            "usd": total.usd,
        }

    def _state(self) -> str:
        """Tell what the page shows; the scheduler asks while somebody looks."""
        assert self._gateway is not None
        return state.of(self._gateway.executor).to_json()

    async def _tell_finished(self, known: list[str]) -> bytes | None:
        """Tell what the page draws of runs that are done; the scheduler asks while somebody looks."""
        return await asyncio.to_thread(self._drawn.told, known)

    async def _merge_partial(self, preview: bytes, keys: list[Key]) -> bytes | None:
        """Merge what the page draws of a run that goes on, of what this worker has."""
        parts: list[Any] = [self._worker.data[key] for key in keys if key in self._worker.data]
        return await asyncio.to_thread(finished.merged, loads(preview), parts)

    async def _draw(self, blobs: list[bytes]) -> bytes:
        """Make numbers for the page of what workers have merged."""
        return await asyncio.to_thread(finished.drawn, blobs)

    async def _steer(self, action: str) -> str:
        """Do what somebody wants who looks at the page; return what went wrong, if anything did."""
        assert self._gateway is not None
        try:
            await asyncio.to_thread(steering.do, self._gateway.executor, steering.Action.from_json(action))
        except DaskRootLambdaError as error:
            return str(error)
        # The next graph is divided by how many ranges run at once now.
        await self._worker.heartbeat()
        return ""

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the executor: each worker opens its own."""
        return {"_settings": self._settings, "_executor": None, "_limit_merges": self._limit_merges}


async def _show_page(worker: Worker, plugin: PagePlugin) -> None:
    """Have the scheduler show the page "Lambda": it needs this package for it."""
    register = worker.scheduler.register_scheduler_plugin
    try:
        await register(plugin=dumps(plugin), name=plugin.name, idempotent=True)
    except Exception as error:  # whatever a scheduler raises that has not what the page needs, or forbids it
        logger.warning("Dask's dashboard has no page of Lambda: %r", error)


def _pass_on_long_errors() -> None:
    """Let errors of user code, with their texts, arrive as what they are from this process's workers."""
    name = "distributed.admin.max-error-length"
    dask.config.set({name: max(dask.config.get(name), _LONGEST_ERROR)})


def _place(state: TaskState) -> None:
    """Decide where a step of a run runs, before the worker looks.

    Ranges, and merges where asked, go to the executor, and the other steps do not, whatever the user's
    annotations say: a function does not know them. Dask gives no hook of its own for this. An annotation in
    the graph would do only for some of its ways: ``dask.delayed`` drops those of its arguments, and a worker
    without the executor fails a task that asks for it.

    Where a collection is an argument of ``dask.delayed``, Dask wraps each of its tasks into another one,
    whose function the image does not have; they are unwrapped here.
    """
    task = state.run_spec
    if type(task) is Task and task.func is ProhibitReuse._identity:
        inner = task.args[0]
        if isinstance(inner, Task | DataNode):
            task = inner.substitute({}, key=state.key)
            state.run_spec = task
    step = task.func if type(task) is Task else None
    if isinstance(step, MapRange) or (isinstance(step, Merge) and step.on_lambda):
        state.annotations = {**(state.annotations or {}), "executor": EXECUTOR}
    elif isinstance(step, Step):
        state.annotations = {**(state.annotations or {}), "executor": _DEFAULT}


class _MergePool(ThreadPoolExecutor):
    """Threads that merge, which a worker that closes does not wait for half a minute."""

    def shutdown(self, wait: bool = True, timeout: float | None = None, **options: Any) -> None:
        timeout = _LAST_MERGES_S if timeout is None else min(timeout, _LAST_MERGES_S)
        super().shutdown(wait, timeout=timeout, **options)


def merge_pool(settings: Settings) -> ThreadPoolExecutor:
    """Make the pool in which a gateway merges: by default, distributed's has a thread for every slot."""
    return _MergePool(settings.merge_threads, thread_name_prefix="dask-root-lambda-merge")


def slots(concurrency: int) -> int:
    """Return the threads that a gateway's worker is to have for so many invocations in flight.

    More than those. Dask gives tasks frame after frame, and those of several frames that wait in the executor
    take turns; whichever invocation is answered, the next is sent without a way round by the event loop.
    """
    return concurrency * _TASKS_PER_SLOT
