"""A Dask cluster in the user's process whose tasks run on Lambda."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Client, Scheduler, Worker
from distributed.core import Status
from distributed.deploy.spec import SpecCluster
from distributed.utils import format_dashboard_link
from tornado.ioloop import PeriodicCallback

import dask_root_lambda.silence  # noqa: F401
from dask_root_lambda import widget
from dask_root_lambda.config import EXECUTIONS, Execution, Settings
from dask_root_lambda.cost.report import Report, RunReport
from dask_root_lambda.dashboard.link import link
from dask_root_lambda.dashboard.scheduler import PagePlugin, join_dashboard
from dask_root_lambda.execution import progress as bars
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.gateway import LambdaPlugin, merge_pool, slots
from dask_root_lambda.protocol.errors import ConfigurationError
from dask_root_lambda.rdf import door
from lambda_runtime import ending

_LOOPBACK = "127.0.0.1:0"
"""Any port, on loopback only: to reach a scheduler is to be able to run code on it."""


_NOT_SCALED = (
    "a LambdaCluster has one worker, the gateway: AWS Lambda starts functions as they are needed, up to "
    "LambdaCluster(concurrency=...) at once"
)

_MESSAGES_KEPT = 50

_CLOSE_TIMEOUT_S = 10.0
"""How long the end of the process waits for a cluster that was left open."""


class LambdaCluster(SpecCluster):
    """A scheduler and one gateway worker, in this process, whose tasks run on AWS Lambda.

    The worker has as many slots as invocations may be in flight. Ranges of RDataFrames, and tasks
    annotated with ``executor="lambda"``, run on Lambda; partial results are merged in a small pool of
    threads here.

    Parameters
    ----------
    execution
        ``"lambda"`` (AWS), ``"emulated"`` (Lambda on this machine) or ``"local"`` (threads of this
        process). It can be changed later, also in mid-run.
    concurrency
        Invocations in flight at most.
    merge_threads
        Threads that merge partial results.
    deployment
        Name of the deployment, as in ``dask-root-lambda deploy --name``; its function is looked up.
    function
        Name or ARN of a function to use instead.
    region
        AWS region.
    endpoint_url
        Another endpoint than AWS's.
    memory_mb
        Memory of the emulated function, MB of 2^20 bytes.
    timeout_s
        Time limit of the emulated function, seconds.
    progress
        False shows nothing while ranges run. By default there is a bar on a terminal and in a notebook,
        elsewhere a line for each phase and each tenth of the ranges.
    dashboard_address
        Where Dask's dashboard listens, as in ``"127.0.0.1:8787"``; None for none. By default any port of this
        machine, which all its users can look at.
    **kwargs
        Passed on to `distributed.SpecCluster`.

    Raises
    ------
    DaskRootLambdaError
        The execution cannot be used: credentials, function, endpoint, or an extra that is not installed.

    Examples
    --------
    >>> with LambdaCluster(execution="emulated", concurrency=4) as cluster, cluster.get_client() as client:
    ...     df = RDataFrame("Events", files, npartitions=32)
    ...     n = df.Filter("nMuon == 2").Count().GetValue()
    ...     print(cluster.report())
    """

    _made: Any = None
    """The widget, once it is made."""

    def __init__(
        self,
        execution: str | None = None,
        *,
        concurrency: int | None = None,
        merge_threads: int | None = None,
        deployment: str | None = None,
        function: str | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        memory_mb: int | None = None,
        timeout_s: int | None = None,
        progress: bool | None = None,
        dashboard_address: str | None = _LOOPBACK,
        **kwargs: Any,
    ) -> None:
        settings = Settings.resolve(
            execution=execution,
            concurrency=concurrency,
            merge_threads=merge_threads,
            deployment=deployment,
            function=function,
            region=region,
            endpoint_url=endpoint_url,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            progress=progress,
        )
        # ROOT's hook, and its thread safety before there are threads.
        door.install()
        _collect_less_often()
        self._dashboard_host = (dashboard_address or _LOOPBACK).rpartition(":")[0] or "127.0.0.1"
        self._closing: asyncio.Future[None] | None = None
        self._executor = LambdaExecutor(settings=settings)
        try:
            with _short_logs():
                super().__init__(
                    scheduler=_scheduler(dashboard_address),
                    workers={0: _gateway(settings, self._executor)},
                    silence_logs=logging.WARNING,
                    **kwargs,
                )
        except BaseException:
            self._executor.shutdown(wait=False)
            raise
        _open.add(self)
        self._shows_progress = False
        if settings.progress is not False:
            self.show_progress()

    @property
    def execution(self) -> Execution:
        """Where ranges that start from now on run: ``"lambda"``, ``"emulated"`` or ``"local"``."""
        return self._executor.execution

    @execution.setter
    def execution(self, name: str) -> None:
        self._executor.execution = name
        self._tell_concurrency()

    @property
    def concurrency(self) -> int:
        """Invocations in flight at most, under the present execution; it can be changed in mid-run.

        What the cluster was made with cannot be passed.
        """
        return self._executor.concurrency

    @concurrency.setter
    def concurrency(self, limit: int) -> None:
        self._executor.concurrency = limit
        self._tell_concurrency()

    @property
    def max_cost_usd(self) -> float | None:
        """What all runs may cost together, USD; None for no limit. It can be changed in mid-run."""
        return self._executor.max_cost_usd

    @max_cost_usd.setter
    def max_cost_usd(self, limit_usd: float | None) -> None:
        self._executor.max_cost_usd = limit_usd

    def stop(self, run: str) -> None:
        """End a run: computing it raises a `RunCancelledError`.

        Parameters
        ----------
        run
            Its identity, or the first digits of it, as the report shows them.

        Raises
        ------
        ConfigurationError
            No run of the report begins with these digits, or several that go on do.
        """
        if not run or not any(each.run.startswith(run) for each in self.report().runs):
            raise ConfigurationError(f"no run begins with {run!r}: report() names those that there were")
        self._executor.stop(run)

    @property
    def memory_mb(self) -> int | None:
        """Memory of an environment under the present execution, MB of 2^20 bytes; None in this process."""
        return self._executor.memory_mb

    @property
    def in_flight(self) -> int:
        """Invocations that are being made now."""
        return self._executor.ledger.invocations

    @property
    def total(self) -> RunReport:
        """What all runs together did and cost so far."""
        return self._executor.ledger.total()

    def __repr__(self) -> str:
        return widget.line(self)

    def _repr_html_(self, _: Any = None) -> str:
        return widget.page(self)

    def _widget(self) -> Any:
        """Make the widget that a notebook shows, once; distributed calls this."""
        if self._made is None and (made := widget.make(self)) is not None and self.loop is not None:
            self._made, update = made
            self.loop.add_callback(self._keep_shown, update)
        return self._made

    def _keep_shown(self, update: Callable[[], None]) -> None:
        interval_s = parse_timedelta(dask.config.get("distributed.deploy.cluster-repr-interval", "500ms"))
        callback = PeriodicCallback(update, interval_s * 1000)
        # distributed stops it with the cluster.
        self.periodic_callbacks["cluster-repr"] = callback
        callback.start()

    def _tell_concurrency(self) -> None:
        """Let the next graph be divided by how many ranges run at once now."""
        for worker in self.workers.values():
            if self.asynchronous:
                worker.loop.add_callback(worker.heartbeat)
            else:
                self.sync(worker.heartbeat)

    @property
    def dashboard_link(self) -> str:
        """URL of Dask's dashboard, on the address it listens on."""
        port = self.scheduler_info.get("services", {}).get("dashboard")
        return format_dashboard_link(self._dashboard_host, port) if port else ""

    def steering_link(self) -> str:
        """Return the URL of the dashboard's page "Lambda" with the right to steer: keep it to yourself."""
        plugin = self.scheduler.plugins.get(PagePlugin.name) if self.scheduler is not None else None
        return link(self.dashboard_link, plugin.secret if plugin is not None else None)

    async def _close(self) -> None:
        # Ctrl-C ends the wait for it, and does not leave it half done.
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close_down())
        await asyncio.shield(self._closing)

    async def _close_down(self) -> None:
        # What runs still is not wanted any more: the worker would wait for it, and complain.
        self._executor.cancel_all()
        for worker in self.workers.values():
            # One on its way when the scheduler goes would be an error in the log, with a traceback.
            worker.periodic_callbacks["heartbeat"].stop()
        await super()._close()

    def report(self) -> Report:
        """Return what was run so far, and what it cost."""
        return self._executor.report()

    def show_progress(self) -> None:
        """Show how far runs are, from now on: a bar where somebody looks, else a line for each tenth."""
        if not self._shows_progress:
            self._shows_progress = True
            bars.show(self._executor.ledger)

    def get_client(self) -> Client:
        """Return a new client, which becomes Dask's current one; asynchronous where the cluster is."""
        with _short_logs():
            return Client(self, asynchronous=self.asynchronous)

    def scale(self, n: int = 0, memory: Any = None, cores: Any = None) -> Any:
        """Refuse: AWS Lambda scales by itself."""
        if self.status == Status.closing:  # which distributed does by scaling to none
            return super().scale(n)
        raise ConfigurationError(_NOT_SCALED)

    def adapt(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: AWS Lambda scales by itself."""
        raise ConfigurationError(_NOT_SCALED)


_open: weakref.WeakSet[LambdaCluster] = weakref.WeakSet()


def _close_all() -> None:
    """Close what a script has left open, while Dask's threads can still be used."""
    for cluster in list(_open):
        if cluster.status != Status.closed and not cluster.asynchronous:
            cluster.close(timeout=_CLOSE_TIMEOUT_S)


ending.on_end(_close_all)


def _short_logs() -> AbstractContextManager[object]:
    """Let what is connected now keep few of its last messages, for distributed's developers.

    Within a process messages have no length, and it keeps a thousand of them whole, graphs and all: 5 KB for
    each range that was computed, and the mappers.
    """
    name = "distributed.admin.low-level-log-length"
    return dask.config.set({name: min(_MESSAGES_KEPT, dask.config.get(name) or _MESSAGES_KEPT)})


@functools.cache
def _collect_less_often() -> None:
    """Let Python look for garbage a third as often, as Dask's own processes of schedulers and workers do.

    A graph of thousands of ranges makes many objects that stay, and to go through them again and again took a
    third of the time until the first range ran.
    """
    gc.set_threshold(*(3 * each for each in gc.get_threshold()))


def _scheduler(dashboard_address: str | None) -> dict[str, Any]:
    options = {
        "protocol": "inproc://",
        "dashboard": dashboard_address is not None,
        "dashboard_address": dashboard_address or _LOOPBACK,
    }
    return {"cls": _generous_scheduler, "options": options}


def _generous_scheduler(**options: Any) -> Scheduler:
    """Make a scheduler that gives its worker, the only one there is, all that is ready.

    By default it holds ranges back, to choose a worker when it has seen what the first ones did; here each
    would wait for a round trip, and 14% of the invocations per second were lost. What runs first is a matter
    of priorities in either case: https://distributed.dask.org/en/stable/scheduling-policies.html#queuing
    """
    if options["dashboard"]:
        join_dashboard()
    with dask.config.set({"distributed.scheduler.worker-saturation": "inf"}):
        scheduler = Scheduler(**options)
    if not options["dashboard"]:
        # distributed serves other pages all the same, and where it is told no address, at every one.
        scheduler.http_server.stop()
        del scheduler.services["dashboard"]
    return scheduler


def _gateway(settings: Settings, executor: LambdaExecutor) -> dict[str, Any]:
    options = {
        "protocol": "inproc://",
        # For as many as any execution takes at once: it can be changed, the number of slots cannot.
        "nthreads": slots(max(map(settings.limit, EXECUTIONS))),
        "executor": {"default": merge_pool(settings)},
        "plugins": (LambdaPlugin(settings=settings, executor=executor),),
        "dashboard": False,
        "dashboard_address": _LOOPBACK,
    }
    return {"cls": _lasting_worker, "options": options}


def _lasting_worker(*args: Any, **options: Any) -> Worker:
    """Make a worker that does not mind the memory of the process: pausing would only stop merges."""
    names = ("target", "spill", "pause", "terminate")
    with dask.config.set({f"distributed.worker.memory.{name}": False for name in names}):
        return Worker(*args, **options)
