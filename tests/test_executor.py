"""The executor is one of `concurrent.futures`, retries what may pass, and can be switched and stopped."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time

import pytest

from dask_root_lambda import RDataFrame, packing
from dask_root_lambda.call import MapRange, PackedMapper
from dask_root_lambda.config import Settings
from dask_root_lambda.encoding import INLINE_MAPPER_BYTES, Call
from dask_root_lambda.executor import LambdaExecutor
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    AccessError,
    ConfigurationError,
    CrashError,
    InputError,
    MissingMapperError,
    RunCancelledError,
    ServiceError,
    ThrottledError,
    UserCodeError,
)
from dask_root_lambda.protocol.store import MemoryStore
from lambda_runtime.handler import Environment
from tests.invokers import Gate, ScriptedInvoker

MAPPER = PackedMapper("run", b"blob", "digest", n_ranges=3)


@pytest.fixture
def make():
    """Makes executors over scripted invokers, and shuts them down."""
    executors = []

    def build(*, script=None, concurrency=4, **others):
        invokers = {"lambda": ScriptedInvoker("lambda", script), **others}
        executor = LambdaExecutor(
            settings=Settings.resolve(execution="lambda", concurrency=concurrency, local_threads=2),
            openers={name: lambda _, invoker=invoker: invoker for name, invoker in invokers.items()},
        )
        executors.append(executor)
        return executor, invokers["lambda"]

    yield build
    for executor in executors:
        executor.shutdown(wait=False)


def ranges(executor, n_ranges=3, mapper=MAPPER):
    return [
        executor.submit_call(Call(f"range-{index}", MapRange(index), [mapper])) for index in range(n_ranges)
    ]


def test_submit_and_map_as_any_executor(make):
    """Results, order and exceptions are those of `concurrent.futures`."""
    executor, _ = make()
    assert isinstance(executor, concurrent.futures.Executor)
    assert executor.submit(pow, 2, exp=5).result(30) == 32
    assert list(executor.map(lambda x: x * x, range(20), timeout=30)) == [x * x for x in range(20)]
    futures = [executor.submit(abs, -index) for index in range(5)]
    assert {future.result() for future in concurrent.futures.as_completed(futures, 30)} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("outcomes", "tries"),
    [
        ([None], 1),
        ([ServiceError("500")], 2),
        ([ServiceError("500"), CrashError("signal"), ServiceError("503")], 4),
        ([ThrottledError("429")] * 3, 4),
    ],
)
def test_what_may_pass_is_tried_again(make, outcomes, tries):
    """A task whose first tries meet passing errors succeeds, and the attempts are numbered."""
    executor, invoker = make(script={"task": outcomes})
    assert executor.submit_call(Call("task", abs, [-7])).result(30) == 7
    assert [request.attempt for request in invoker.requests] == list(range(1, tries + 1))
    assert executor.report().total.retries == tries - 1


@pytest.mark.parametrize(
    ("outcomes", "kind", "tries"),
    [
        ([ServiceError("500")] * 9, ServiceError, 4),
        ([CrashError("signal")] * 9, CrashError, 2),
        ([InputError("missing")] * 9, InputError, 1),
        ([UserCodeError("raised")] * 9, UserCodeError, 1),
    ],
)
def test_what_does_not_pass_is_given_up(make, outcomes, kind, tries):
    """The future raises the last error, after as many tries as the policy allows."""
    executor, invoker = make(script={"task": outcomes})
    with pytest.raises(kind):
        executor.submit_call(Call("task", abs, [-7])).result(30)
    assert len(invoker.requests) == tries
    assert executor.report().total.failures == 1


def test_never_more_in_flight_than_asked_for(make):
    """Of many tasks as many run at once as the concurrency says, and no more."""
    gate = Gate()
    executor, invoker = make(script={f"task-{index}": [gate] for index in range(12)}, concurrency=4)
    futures = [executor.submit_call(Call(f"task-{index}", abs, [index])) for index in range(12)]
    gate.wait_for(4)
    assert not gate.arrived.acquire(timeout=0.2)
    gate.open()
    assert [future.result(30) for future in futures] == list(range(12))
    assert invoker.peak == 4


def test_submit_does_not_wait_for_what_runs(make):
    """Submitting returns while every slot is taken."""
    gate = Gate()
    executor, _ = make(script={"busy": [gate]}, concurrency=1)
    busy = executor.submit_call(Call("busy", abs, [1]))
    gate.wait_for(1)
    futures = [executor.submit(abs, -1) for _ in range(100)]
    assert not any(future.done() for future in (busy, *futures))
    gate.open()
    assert [future.result(30) for future in futures] == [1] * 100


def test_a_waiting_future_can_be_cancelled(make):
    """What has not begun can be cancelled as any future, and is never invoked."""
    gate = Gate()
    executor, invoker = make(script={"busy": [gate]}, concurrency=1)
    busy = executor.submit_call(Call("busy", abs, [1]))
    gate.wait_for(1)
    waiting = executor.submit_call(Call("waiting", abs, [1]))
    assert waiting.cancel()
    assert not busy.cancel()
    gate.open()
    assert busy.result(30) == 1
    executor.shutdown()
    assert [request.task for request in invoker.requests] == ["busy"]


def test_a_shutdown_does_not_wait_for_what_was_cancelled(make):
    """With nothing left but cancelled futures, a shutdown that waits already comes to its end."""
    gate = Gate()
    executor, _ = make(script={"busy": [gate]}, concurrency=1)
    executor.submit_call(Call("busy", abs, [1]))
    gate.wait_for(1)
    assert executor.submit(abs, 1).cancel()
    closing = threading.Thread(target=executor.shutdown, daemon=True)
    closing.start()
    while not executor._closing:
        time.sleep(0.01)
    time.sleep(0.1)  # it waits by now; if not, the test is none, and passes
    gate.open()
    closing.join(20)
    assert not closing.is_alive()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_task_that_would_end_the_process(make, kind):
    """sys.exit() in a task of this process is what it is elsewhere: the end of the task's process."""

    def leave():
        raise kind(3)

    executor, _ = make(script={"task": [leave]})
    with pytest.raises(CrashError, match=rf"ended its process: {kind.__name__}\(3\)"):
        executor.submit_call(Call("task", abs, [1])).result(30)


def test_fewer_threads_than_slots(make, monkeypatch, caplog):
    """Where the system allows no more threads, those there are do all tasks; without any, submit raises."""
    start, started = threading.Thread.start, []

    def limited(thread):
        if thread.name.startswith("dask-root-lambda-"):
            if len(started) == allowed:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    allowed = 0
    executor, invoker = make(concurrency=4)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        executor.submit(abs, -1)
    allowed = 2
    futures = [executor.submit(time.sleep, 0.02) for _ in range(20)]
    assert [future.result(30) for future in futures] == [None] * 20
    assert invoker.peak <= 2
    assert "no more than 2 invocations at once" in caplog.text
    executor.shutdown()
    assert len(invoker.requests) == 20


def test_stopping_ends_what_runs_and_what_waits(make):
    """After cancel_all every future raises at once, and nothing more is invoked."""
    gate = Gate()
    executor, invoker = make(script={f"task-{index}": [gate] for index in range(2)}, concurrency=2)
    futures = [executor.submit_call(Call(f"task-{index}", abs, [1])) for index in range(10)]
    gate.wait_for(2)
    executor.cancel_all()
    for future in futures:
        with pytest.raises(RunCancelledError, match="stopped"):
            future.result(0)
    gate.open()
    assert executor.submit(abs, -3).result(30) == 3
    assert len(invoker.requests) == 3


def test_an_interrupted_block_ends_its_tasks(make):
    """Leaving the with block by Ctrl-C does not wait for answers."""
    gate = Gate()
    executor, invoker = make(script={"task": [gate]})

    def interrupted():
        with executor:
            interrupted.future = executor.submit_call(Call("task", abs, [1]))
            gate.wait_for(1)
            threading.Timer(0.2, gate.open).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert isinstance(interrupted.future.exception(0), RunCancelledError)
    assert invoker.closed


def test_a_delay_before_a_retry_is_cut_short_by_a_stop(make):
    """A task that waits to be tried again is ended as well."""
    executor, invoker = make(script={"task": [ThrottledError("429")] * 30}, concurrency=1)
    future = executor.submit_call(Call("task", abs, [1]))
    while not invoker.requests:
        time.sleep(0.01)
    executor.cancel(future)
    with pytest.raises(RunCancelledError):
        future.result(0)
    assert executor.submit(abs, -1).result(10) == 1


def test_shutdown_waits_and_accepts_no_more(make):
    """Shutdown waits for results, closes the invokers, and refuses later tasks."""
    executor, invoker = make()
    futures = [executor.submit(abs, -index) for index in range(10)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert invoker.closed
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_the_switch_sends_what_has_not_started_the_new_way(make):
    """Ranges in flight finish where they are, the others run under the new execution."""
    gate, local = Gate(), ScriptedInvoker("local")
    executor, remote = make(
        script={f"range-{index}": [gate] for index in range(2)}, concurrency=2, local=local
    )
    futures = ranges(executor, 6)
    gate.wait_for(2)
    executor.execution = "local"
    assert all(future.result(30) for future in futures[2:])
    gate.open()
    assert all(future.result(30) for future in futures[:2])
    assert sorted(request.range_index for request in remote.requests) == [0, 1]
    assert sorted(request.range_index for request in local.requests) == [2, 3, 4, 5]
    assert local.peak <= 2
    assert executor.report().runs[0].executions == ("lambda", "local")


def test_an_unknown_execution_changes_nothing(make):
    """A typo in the switch is an error, and the execution stays."""
    executor, _ = make()
    with pytest.raises(ConfigurationError, match="no execution named 'lokal'"):
        executor.execution = "lokal"
    assert executor.execution == "lambda"


def test_local_files_never_go_to_another_machine(make):
    """A range of files on this machine fails before anything is invoked, naming a file and the way out."""
    executor, invoker = make()
    mapper = PackedMapper("run", b"blob", "digest", 3, local_files=("/data/a.root", "/data/b.root"))
    with pytest.raises(
        InputError, match=r"cannot reach files of this machine: /data/a.root.*execution='local'"
    ):
        ranges(executor, 1, mapper)[0].result(30)
    assert invoker.requests == []


def test_a_small_mapper_travels_inline_and_a_large_one_once(make):
    """A large mapper is put into the store one time, under its hash; ranges then hold only its key."""
    executor, invoker = make()
    [future.result(30) for future in ranges(executor)]
    assert [request.bodies[0].inline for request in invoker.requests] == [b"blob"] * 3
    large = PackedMapper("large", b"x" * 100_000, "abc", 3)
    [future.result(30) for future in ranges(executor, mapper=large)]
    assert {request.bodies[0].key for request in invoker.requests[3:]} == {"mappers/abc"}
    assert list(invoker.store.keys()) == ["mappers/abc"]


def test_a_mapper_that_expired_is_put_into_the_store_again(make):
    """Blobs in the store expire; a session that lasts longer does not notice."""
    executor, invoker = make()
    large = PackedMapper("large", b"x" * 100_000, "abc", 3)
    [future.result(30) for future in ranges(executor, mapper=large)]
    invoker.store.delete(["mappers/abc"])
    [future.result(30) for future in ranges(executor, 50, mapper=large)]
    assert invoker.store.get("mappers/abc") == large.blob
    assert executor.report().total.failures == 0


def test_a_mapper_that_the_function_does_not_find_is_an_error(make, monkeypatch):
    """A function with another store than ours is told after one more try."""
    executor, invoker = make()
    monkeypatch.setattr(invoker, "functions_store", MemoryStore())
    large = PackedMapper("large", b"x" * 100_000, "abc", 3)
    with pytest.raises(MissingMapperError, match=r"no mappers/abc in memory:.*is not the client's, memory:"):
        ranges(executor, 1, mapper=large)[0].result(30)
    assert [request.attempt for request in invoker.requests] == [1, 2]


def test_an_environment_finds_a_mapper_that_expired(events_file):
    """The same with the real handler: the environment that meets the gap is a new one."""
    frame = RDataFrame("Events", events_file)
    total = frame.Filter(f"x >= 0 /* {os.urandom(10_000).hex()} */").Sum("x")
    mapper = packing.pack(frame._frame.head, 2).mapper
    assert len(mapper.blob) > INLINE_MAPPER_BYTES
    with LambdaExecutor("local") as executor:
        invoker = executor._invokers["local"]
        bodies = [future.result(60) for future in ranges(executor, 1, mapper)]
        invoker.store.delete(invoker.store.keys("mappers/"))
        invoker._environment = Environment(invoker.store)
        bodies += [executor.submit_call(Call("range-1", MapRange(1), [mapper])).result(60)]
    assert sum(wire.loads(body.inline).processed for body in bodies) == 1000
    assert total is not None


def test_what_a_failed_run_left_is_not_computed_again(make):
    """A partial result that lies in the store under the same identity is taken as it is."""
    executor, invoker = make()
    invoker.store.put("partials/run/1", b"left over")
    bodies = [future.result(30) for future in ranges(executor)]
    assert bodies[1].key == "partials/run/1"
    assert sorted(request.range_index for request in invoker.requests) == [0, 2]


def test_what_a_run_left_is_deleted_when_it_succeeded(make):
    """Forgetting a run removes its partial results and nothing else; the next run starts afresh."""
    executor, invoker = make()
    for key in ("partials/run/1", "partials/other/1"):
        invoker.store.put(key, b"blob")
    [future.result(30) for future in ranges(executor)]
    executor.forget("run").join(30)
    assert list(invoker.store.keys()) == ["partials/other/1"]
    [future.result(30) for future in ranges(executor)]
    assert len(invoker.requests) == 2 + 3


def test_what_a_run_that_failed_here_left_is_found(make):
    """The next try in the same session takes what the first one left, too."""
    executor, invoker = make(script={"range-2": [AccessError("no")]})
    futures = ranges(executor)
    assert isinstance(futures[2].exception(30), AccessError)
    [future.result(30) for future in futures[:2]]
    invoker.store.put("partials/run/0", b"left over")
    assert [future.result(30).key for future in ranges(executor)] == ["partials/run/0", None, None]


def test_what_another_worker_deleted_is_computed_again(make):
    """A partial result that was there when the run was first looked at, and is not now, is no result."""
    executor, invoker = make()
    invoker.store.put("partials/run/1", b"left over")
    assert ranges(executor)[1].result(30).key == "partials/run/1"
    invoker.store.delete(["partials/run/1"])
    assert ranges(executor)[1].result(30).key is None


def test_ranges_wait_until_the_same_run_before_is_forgotten(make, monkeypatch):
    """What a range writes is not deleted together with what its predecessor left."""
    executor, invoker = make()
    gate = Gate()
    delete = invoker.store.delete

    def slow_delete(keys):
        gate()
        delete(keys)

    monkeypatch.setattr(invoker.store, "delete", slow_delete)
    forgetting = executor.forget("run")
    gate.wait_for(1)
    futures = ranges(executor)
    other = PackedMapper("other", b"blob", "digest", n_ranges=3)
    [future.result(30) for future in ranges(executor, 1, other)]
    assert not any(future.done() for future in futures)
    gate.open()
    [future.result(30) for future in futures]
    assert not forgetting.is_alive()


def test_large_arguments_and_results_of_calls_go_through_the_store(make):
    """A call's arguments over the limit travel by key; afterwards nothing of them is left."""
    executor, invoker = make()
    data = os.urandom(6_000_000)
    assert executor.submit(len, data).result(30) == 6_000_000
    assert invoker.requests[0].bodies[0].inline is None
    assert list(invoker.store.keys("calls/")) == []


def test_nothing_is_lost_when_many_threads_submit(make):
    """Tasks submitted from many threads at once are each done once."""
    executor, invoker = make(concurrency=16)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        futures = list(pool.map(lambda index: executor.submit(abs, -index), range(500)))
    assert [future.result(30) for future in futures] == list(range(500))
    assert len(invoker.requests) == 500
