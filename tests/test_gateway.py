"""The executor on Dask's workers: tasks, errors, cancellation, metrics, and clusters that exist already."""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dask
import pytest
from dask.task_spec import Task
from distributed import Client, LocalCluster, Worker, wait
from distributed.spans import span
from distributed.worker import _run_task_simple

from dask_root_lambda import LambdaCluster, LambdaPlugin, RDataFrame
from dask_root_lambda.config import Settings
from dask_root_lambda.destination import has_executor
from dask_root_lambda.execution.executor import OPENERS, LambdaExecutor
from dask_root_lambda.gateway import GatewayExecutor
from dask_root_lambda.outcomes import Outcomes
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Finish
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import ConfigurationError, CrashError, InputError
from dask_root_lambda.protocol.intervals import divided_entries
from dask_root_lambda.protocol.task import Body, PartialResult
from tests.invokers import KEY, Gate, ScriptedInvoker

SPACE = RunSpace("the-run", KEY, "session")
SUM = 499500.0


@pytest.fixture
def plain():
    """A cluster that knows nothing of us: one worker with four threads, in this process."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def scripted(plain):
    """That cluster, whose worker got an executor over a scripted invoker."""
    invoker = ScriptedInvoker("lambda")
    executor = LambdaExecutor(
        settings=Settings.resolve(execution="lambda", concurrency=4), openers={"lambda": lambda _: invoker}
    )
    (worker,) = plain.cluster.workers.values()
    plugin = LambdaPlugin(executor=executor)
    plain.sync(worker.plugin_add, plugin=plugin)
    return plain, invoker, plugin


def on_lambda(function, *args, **options):
    with dask.annotate(executor="lambda", **options):
        return dask.delayed(function, pure=False)(*args)


class TestTasks:
    """Plain Dask tasks on the executor."""

    def test_an_annotated_task_runs_there_and_others_do_not(self, scripted):
        """Only what is annotated is invoked; its dependencies' values travel as arguments."""
        _, invoker, _ = scripted
        inner = dask.delayed(lambda: 20)()
        outer = on_lambda(lambda a, b: a + b, inner, 22)
        assert outer.compute(optimize_graph=False) == 42
        assert len(invoker.requests) == 1

    def test_nested_arguments_are_evaluated_before_they_travel(self, scripted):
        """Lists and dictionaries of other tasks' results arrive as values; Dask itself does not travel."""
        values = [dask.delayed(pow)(2, power) for power in range(4)]
        total = on_lambda(lambda numbers, named: sum(numbers) + named["one"], values, {"one": values[0]})
        assert total.compute(optimize_graph=False) == 16

    def test_an_exception_is_the_tasks(self, scripted):
        """What a task raises there is raised by its future here."""
        with pytest.raises(ZeroDivisionError):
            on_lambda(lambda: 1 / 0).compute(optimize_graph=False)

    def test_sys_exit_is_an_error(self, local):
        """A task that ends its process fails under local execution too, and nothing hangs."""
        future = Client.current().compute(on_lambda(sys.exit, 3), optimize_graph=False)
        with pytest.raises(CrashError, match=r"SystemExit\(3\)"):
            future.result(30)

    def test_many_tasks(self, scripted):
        """Tasks in numbers finish, each invoked once."""
        _, invoker, _ = scripted
        tasks = [on_lambda(abs, -index) for index in range(200)]
        assert dask.compute(*tasks, optimize_graph=False) == tuple(range(200))
        assert len(invoker.requests) == 200

    def test_client_submit_takes_the_annotation(self, scripted):
        """``client.submit`` under the annotation goes there as well."""
        client, invoker, _ = scripted
        with dask.annotate(executor="lambda"):
            assert client.submit(abs, -3).result(30) == 3
        assert len(invoker.requests) == 1


class TestCancellation:
    """What nobody wants any more is ended, and the slot is free again."""

    def test_a_cancelled_future_ends_its_invocation(self, scripted):
        """client.cancel ends what is in flight; the worker goes on with other tasks."""
        client, invoker, plugin = scripted
        gate = Gate()
        invoker._script.default_factory = lambda: [gate]
        with dask.annotate(executor="lambda"):
            futures = client.map(abs, range(4), pure=False)
        gate.wait_for(4)
        client.cancel(futures)
        executor = plugin._gateway.executor
        deadline = time.monotonic() + 20
        while not all(job.cancellation.cancelled for job in list(executor._pool.running)):
            assert time.monotonic() < deadline
        gate.open()
        invoker._script.default_factory = list
        with dask.annotate(executor="lambda"):
            assert client.submit(abs, -5, pure=False).result(30) == 5

    def test_a_key_asked_for_again_while_it_is_ended_is_run_again(self, scripted):
        """Releasing and submitting the same key at once gives its value, not the cancellation."""
        client, invoker, _ = scripted
        gate = Gate()
        invoker._script["again"] = [gate]
        with dask.annotate(executor="lambda"):
            future = client.submit(abs, -9, key="again")
            gate.wait_for(1)
            future.release()
            again = client.submit(abs, -9, key="again")
        gate.open()
        assert again.result(30) == 9

    def test_a_task_dropped_as_it_ends_is_not_kept(self, make_executor):
        """Dask may give a task up in the moment in which it is done: nothing of it stays."""
        executor, invoker = make_executor()
        gateway = GatewayExecutor(executor)
        cancel, done, gate = executor.cancel, threading.Event(), Gate()
        invoker._script["task"] = [gate]

        def late(future):
            future.add_done_callback(lambda _: done.set())
            gate.open()
            assert done.wait(30)
            cancel(future)

        async def drop():
            outcome = gateway.submit(_run_task_simple, Task("task", abs, -1), {}, 0.0)
            gateway.drop("task")
            return await outcome

        executor.cancel = late
        assert asyncio.run(drop())["status"] == "error"  # it is rescheduled
        del gateway.executor
        assert not gateway._in_flight

    def test_what_many_threads_have_done_arrives(self):
        """However the loop is woken, each future has its value in the end; one that was given up is left."""

        async def arrive():
            outcomes, loop = Outcomes(), asyncio.get_running_loop()
            futures = [loop.create_future() for _ in range(2000)]
            futures[7].cancel()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(outcomes.put, futures, range(2000)))
            return await asyncio.wait_for(asyncio.gather(*futures[:7], *futures[8:]), 30)

        assert asyncio.run(arrive()) == [*range(7), *range(8, 2000)]

    def test_closing_does_not_wait_for_answers(self, plain):
        """A worker that closes ends what is in flight instead of waiting for it."""
        gate = Gate()
        invoker = ScriptedInvoker("lambda", {})
        invoker._script.default_factory = lambda: [gate]
        executor = LambdaExecutor(
            settings=Settings.resolve(execution="lambda", concurrency=4),
            openers={"lambda": lambda _: invoker},
        )
        (worker,) = plain.cluster.workers.values()
        plain.sync(worker.plugin_add, plugin=LambdaPlugin(executor=executor))
        with dask.annotate(executor="lambda"):
            futures = plain.map(abs, range(4), pure=False)
        gate.wait_for(4)
        assert {future.status for future in futures} == {"pending"}
        began_s = time.monotonic()
        plain.cluster.close(timeout=30)
        assert time.monotonic() - began_s < 25
        gate.open()


class TestAnotherMachine:
    """Ranges of an executor whose functions are on another machine."""

    @pytest.fixture
    def switching(self, plain):
        """An executor of scripted invokers on the cluster's worker; ``lambda`` is on another machine."""
        openers = {**OPENERS, "lambda": lambda _: ScriptedInvoker("lambda")}
        settings = Settings.resolve(execution="lambda", concurrency=7)
        executor = LambdaExecutor(settings=settings, openers=openers)
        (worker,) = plain.cluster.workers.values()
        plain.sync(worker.plugin_add, plugin=LambdaPlugin(executor=executor))
        return executor

    def test_a_refused_file_is_allowed_in_the_same_cell(self, switching, events_file):
        """Doing what the error says, and computing again at once, works."""
        count = RDataFrame("Events", events_file, npartitions=2).Count()
        with pytest.raises(InputError, match="cannot read files of this machine"):
            count.compute()
        assert switching.report().total.invocations == 0
        switching.execution = "local"
        assert count.compute() == 1000
        switching.execution = "lambda"
        with pytest.raises(InputError, match="cannot read files of this machine"):
            RDataFrame("Events", events_file, npartitions=2).Count().compute()

    def test_a_snapshot_to_this_machine_is_refused(self, switching, tmp_path):
        """Nothing is invoked; from this process, it is written."""
        frame = RDataFrame(10, npartitions=2).Define("x", "1")
        arguments = ("Events", str(tmp_path / "out.root"), ["x"])
        with pytest.raises(InputError, match=r"cannot write files of this machine: \S*/out\.root\."):
            frame.Snapshot(*arguments)
        assert switching.report().total.invocations == 0
        switching.execution = "local"
        assert frame.Snapshot(*arguments).Count().GetValue() == 10


class TestClustersThatExist:
    """``client.register_plugin`` gives the workers of any cluster the executor."""

    def test_processes(self, events_file):
        """Workers in processes of their own get an executor each; ranges go there, and merge right."""
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            assert not has_executor(client)
            client.register_plugin(LambdaPlugin("local"))
            assert has_executor(client)
            frame = RDataFrame("Events", events_file, npartitions=6)
            total = frame.Sum("x")
            assert dask.compute(total, frame.Count()) == (SUM, 1000)
            # Partial results too large for an envelope go from one process to another as well.
            entries = 1_500_000
            column = RDataFrame(entries, npartitions=2).Define("r", "gRandom->Rndm()").AsNumpy(["r"])["r"]
            assert len(column) == entries

    def test_the_plugin_travels_without_its_executor(self):
        """A plugin is pickled to workers as its settings."""
        plugin = pickle.loads(pickle.dumps(LambdaPlugin("local", concurrency=7)))
        assert plugin._settings.concurrency == 7
        assert plugin._executor is None

    def test_an_executor_that_cannot_be_opened(self, plain, monkeypatch, caplog):
        """The error is raised at once; the cluster works on without the executor, and closes quietly."""
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        with (
            dask.config.set({"dask-root-lambda.aws.profile": "nobodys"}),
            pytest.raises(ConfigurationError, match="nobodys"),
        ):
            plain.register_plugin(LambdaPlugin("lambda"))
        caplog.clear()
        assert not has_executor(plain)
        assert plain.submit(abs, -3).result(20) == 3
        plain.cluster.close(timeout=30)
        assert "failed to teardown" not in caplog.text

    def test_unregistering_takes_the_executor_away(self, plain, events_file):
        """Without the plugin the cluster runs ranges on its workers again."""
        plain.register_plugin(LambdaPlugin("local"))
        (worker,) = plain.cluster.workers.values()
        assert "lambda" in worker.executors
        plain.unregister_worker_plugin(LambdaPlugin.name)
        assert "lambda" not in worker.executors
        with pytest.raises(ValueError, match="Invalid executor 'lambda'"):
            on_lambda(abs, 1).compute(optimize_graph=False)


class TestWhatDaskShows:
    """Names, metrics and spans."""

    def test_names_of_tasks(self, local, events_file):
        """The dashboard's groups are named after what runs."""
        count = RDataFrame("Events", events_file, npartitions=10).Count()
        (future,) = Client.current().compute([count])
        wait(future)
        prefixes = set(local.scheduler.task_prefixes)
        assert {"rdf-range", "rdf-merge"} <= prefixes

    def test_worker_metrics(self, local, events_file):
        """The executor's figures arrive with the worker's heartbeats."""
        client = Client.current()
        assert RDataFrame("Events", events_file, npartitions=4).Count().compute() == 1000
        (worker,) = local.workers.values()
        client.sync(worker.heartbeat)
        (metrics,) = (
            each["metrics"]["lambda"] for each in client.scheduler_info(n_workers=-1)["workers"].values()
        )
        assert metrics["execution"] == "local"
        assert metrics["invocations"] == 4
        assert {"in_flight", "cold", "billed", "usd"} <= set(metrics)

    def test_spans(self, emulated, events_file):
        """Billed seconds, cost, cold starts and seconds in flight of a span's ranges are in the span."""
        with emulated.get_client() as client:
            with span("analysis"):
                assert RDataFrame("Events", events_file, npartitions=4).Count().compute() == 1000
            (worker,) = emulated.workers.values()
            client.sync(worker.heartbeat)
            spans = emulated.scheduler.extensions["spans"].spans_search_by_name["analysis",]
            collected = {
                (key[-2], key[-1]): value
                for each in spans
                for key, value in each.cumulative_worker_metrics.items()
                if str(key[-2]).startswith("lambda-")
            }
        assert collected["lambda-billed", "seconds"] > 0
        assert collected["lambda-cost", "usd"] > 0
        assert collected["lambda-cold", "count"] >= 0
        assert collected["lambda-in-flight", "seconds"] > 0


def test_the_gateway_is_no_thread_pool_by_name():
    """distributed takes another path for executors whose class is called ThreadPoolExecutor."""
    assert "ThreadPoolExecutor" not in str(GatewayExecutor)


def test_partial_results_are_deleted_when_the_run_has_succeeded(scripted, monkeypatch):
    """When Dask releases the checked result of a run, what the run left in the store is deleted."""
    client, _, plugin = scripted
    forgotten = []
    monkeypatch.setattr(
        plugin._gateway.executor._tries.encoder, "forget", lambda space, _: forgotten.append(space)
    )
    merged = Body.of(wire.dumps(PartialResult([1], divided_entries(5, 1), 5, {})))
    (blobs,) = client.get({"finish-x": Task("finish-x", Finish(SPACE, 0, 5), merged)}, ["finish-x"])
    assert [wire.loads(blob) for blob in blobs] == [1]
    deadline = time.monotonic() + 20
    while not forgotten:
        assert time.monotonic() < deadline
    assert forgotten == [SPACE]


def test_a_worker_that_closes_deletes_them_first(scripted):
    """Partial results of a run that succeeded do not outlive the cluster, though the result is held."""
    client, invoker, _ = scripted
    invoker.store.put("partials/the-run/session/0-5", b"partial")
    invoker.store.put("partials/failed/0", b"partial")
    merged = Body.of(wire.dumps(PartialResult([1], divided_entries(5, 1), 5, {})))
    future = client.submit(Finish(SPACE, 0, 5), merged)
    wait(future, 30)
    client.cluster.close(timeout=30)
    assert list(invoker.store.keys()) == ["partials/failed/0"]


def test_a_cluster_that_closes_sends_no_heartbeats(monkeypatch):
    """One that is on its way when the scheduler goes would be an error in the log, with a traceback."""
    beating = []
    close = Worker.close

    async def watched(self, *args, **kwargs):
        beating.append(self.periodic_callbacks["heartbeat"].is_running())
        return await close(self, *args, **kwargs)

    monkeypatch.setattr(Worker, "close", watched)
    LambdaCluster(execution="local", dashboard_address=None).close()
    assert beating
    assert not any(beating)
