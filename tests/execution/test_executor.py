"""The executor is one of `concurrent.futures`, retries what may pass, and can be switched and stopped."""

from __future__ import annotations

import concurrent.futures
import itertools
import sys
import threading
import time
import uuid
from collections import defaultdict

import pytest

from dask_root_lambda import LambdaExecutor, RDataFrame
from dask_root_lambda.config import Settings
from dask_root_lambda.execution import tries
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.execution.policy import Again
from dask_root_lambda.invocation.invokers import LocalInvoker
from dask_root_lambda.plan.steps import Merge
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    ConfigurationError,
    CrashError,
    FunctionTimeoutError,
    InputError,
    OutOfMemoryError,
    RunCancelledError,
    ServiceError,
    ThrottledError,
    UserCodeError,
)
from dask_root_lambda.rdf import packing
from tests.invokers import Gate, ScriptedInvoker, packed_mapper, ranges


def test_submit_and_map_as_any_executor(make_executor):
    """Results, order and exceptions are those of `concurrent.futures`."""
    executor, _ = make_executor()
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
    ],
)
def test_what_may_pass_is_tried_again(make_executor, outcomes, tries):
    """A task whose first tries meet passing errors succeeds, and the attempts are numbered."""
    executor, invoker = make_executor(script={"task": outcomes})
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
def test_what_does_not_pass_is_given_up(make_executor, outcomes, kind, tries):
    """The future raises the last error, after as many tries as the policy allows."""
    executor, invoker = make_executor(script={"task": outcomes})
    with pytest.raises(kind):
        executor.submit_call(Call("task", abs, [-7])).result(30)
    assert len(invoker.requests) == tries
    assert executor.report().total.failures == 1


def test_never_more_in_flight_than_asked_for(make_executor):
    """Of many tasks as many run at once as the concurrency says, and no more."""
    gate = Gate()
    executor, invoker = make_executor(script={f"task-{index}": [gate] for index in range(12)}, concurrency=4)
    futures = [executor.submit_call(Call(f"task-{index}", abs, [index])) for index in range(12)]
    gate.wait_for(4)
    assert not gate.arrived.acquire(timeout=0.2)
    gate.open()
    assert [future.result(30) for future in futures] == list(range(12))
    assert invoker.peak == 4


def test_submit_does_not_wait_for_what_runs(make_executor):
    """Submitting returns while every slot is taken."""
    gate = Gate()
    executor, _ = make_executor(script={"busy": [gate]}, concurrency=1)
    busy = executor.submit_call(Call("busy", abs, [1]))
    gate.wait_for(1)
    futures = [executor.submit(abs, -1) for _ in range(100)]
    assert not any(future.done() for future in (busy, *futures))
    gate.open()
    assert [future.result(30) for future in futures] == [1] * 100


def test_a_waiting_future_can_be_cancelled(make_executor):
    """What has not begun can be cancelled as any future, and is never invoked."""
    gate = Gate()
    executor, invoker = make_executor(script={"busy": [gate]}, concurrency=1)
    busy = executor.submit_call(Call("busy", abs, [1]))
    gate.wait_for(1)
    waiting = executor.submit_call(Call("waiting", abs, [1]))
    assert waiting.cancel()
    assert not busy.cancel()
    gate.open()
    assert busy.result(30) == 1
    executor.shutdown()
    assert [request.task for request in invoker.requests] == ["busy"]


def test_a_shutdown_does_not_wait_for_what_was_cancelled(make_executor):
    """With nothing left but cancelled futures, a shutdown that waits already comes to its end."""
    gate = Gate()
    executor, _ = make_executor(script={"busy": [gate]}, concurrency=1)
    executor.submit_call(Call("busy", abs, [1]))
    gate.wait_for(1)
    assert executor.submit(abs, 1).cancel()
    closing = threading.Thread(target=executor.shutdown, daemon=True)
    closing.start()
    while not executor._pool.closing:
        time.sleep(0.01)
    time.sleep(0.1)  # it waits by now; if not, the test is none, and passes
    gate.open()
    closing.join(20)
    assert not closing.is_alive()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_task_that_would_end_the_process(make_executor, kind):
    """sys.exit() in a task of this process is what it is elsewhere: the end of the task's process."""

    def leave():
        raise kind(3)

    executor, _ = make_executor(script={"task": [leave]})
    with pytest.raises(CrashError, match=rf"ended its process: {kind.__name__}\(3\)"):
        executor.submit_call(Call("task", abs, [1])).result(30)


def test_fewer_threads_than_slots(make_executor, monkeypatch, caplog):
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
    executor, invoker = make_executor(concurrency=4)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        executor.submit(abs, -1)
    allowed = 2
    futures = [executor.submit(time.sleep, 0.02) for _ in range(20)]
    assert [future.result(30) for future in futures] == [None] * 20
    assert invoker.peak <= 2
    assert "no more than 2 invocations at once" in caplog.text
    executor.shutdown()
    assert len(invoker.requests) == 20


def test_no_thread_for_an_alarm(make_executor, monkeypatch):
    """What is to be tried again later is, also where the system allows no thread that waits for that."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    monkeypatch.setattr(tries.RetryPolicy, "after", lambda *_, **__: Again(0.2))
    executor, invoker = make_executor(script={f"task-{i}": [ServiceError("500")] * 2 for i in range(9)})
    futures = [executor.submit_call(Call(f"task-{index}", abs, [-index])) for index in range(9)]
    assert [future.result(30) for future in futures[:8]] == list(range(8))
    executor.shutdown()
    assert futures[8].result(0) == 8
    assert len(invoker.requests) == 27


def test_no_thread_for_any_timer(make_executor, monkeypatch, caplog):
    """A run that fails says so, and what was stopped is told, also where no thread can wait for that."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    gate = Gate()
    script = {"range-0": [UserCodeError("raised")], "range-3": [gate]}
    executor, _ = make_executor(script=script, concurrency=2)
    failed, *_ = ranges(executor, 3, packed_mapper("failing", n_ranges=3))
    with pytest.raises(UserCodeError, match="raised"):
        failed.result(30)
    stopped = executor.submit_call(Call("range-3", abs, [1]))
    gate.wait_for(1)
    executor.cancel_all()
    gate.open()
    with pytest.raises(RunCancelledError, match="stopped"):
        stopped.result(30)
    executor.shutdown()
    assert "1 invocation cannot be stopped in AWS" in caplog.text


def test_stopping_ends_what_runs_and_what_waits(make_executor):
    """After cancel_all every future raises at once, and nothing more is invoked."""
    gate = Gate()
    executor, invoker = make_executor(script={f"task-{index}": [gate] for index in range(2)}, concurrency=2)
    futures = [executor.submit_call(Call(f"task-{index}", abs, [1])) for index in range(10)]
    gate.wait_for(2)
    executor.cancel_all()
    for future in futures:
        with pytest.raises(RunCancelledError, match="stopped"):
            future.result(0)
    gate.open()
    assert executor.submit(abs, -3).result(30) == 3
    assert len(invoker.requests) == 3


class _Later:
    """A policy by which all that fails is tried again, much later."""

    def after(self, errors, jitter, **_):
        return Again(1000.0)


def test_a_run_is_stopped_by_the_digits_of_the_report(make_executor):
    """Those it prints are enough; what names no run ends nothing, and what fits two is an error."""
    gate = Gate()
    script = {"range-0": [gate] * 2}
    executor, _ = make_executor(script=script)
    names = [f"{digit * 7}{tail}" + "0" * 24 for digit, tail in (("a", "1"), ("a", "2"))]
    futures = [ranges(executor, 1, packed_mapper(name, n_ranges=1))[0] for name in names]
    gate.wait_for(2)
    executor.stop("b")
    executor.stop("")
    with pytest.raises(ConfigurationError, match="2 runs that go on"):
        executor.stop("aaaa")
    assert not any(future.done() for future in futures)
    executor.stop(names[0][:8])
    assert isinstance(futures[0].exception(30), RunCancelledError)
    gate.open()
    assert futures[1].exception(30) is None
    executor.stop(names[1][:8])


@pytest.mark.parametrize("waiting", ["for a slot", "for another try"])
def test_ending_one_of_many_takes_no_look_at_the_others(make_executor, waiting, monkeypatch):
    """Thousands of tasks are ended one by one, as Dask does it on its event loop, by a few calls each."""
    gate = Gate()
    script = {"busy": [gate]}
    if waiting == "for another try":
        script |= {f"task-{index}": [ServiceError("500")] for index in range(3000)}
    executor, invoker = make_executor(script=script, concurrency=1)
    monkeypatch.setattr(executor._tries, "_policy", _Later())
    if waiting == "for a slot":
        executor.submit_call(Call("busy", abs, [1]))
        gate.wait_for(1)
    futures = [executor.submit_call(Call(f"task-{index}", abs, [1])) for index in range(3000)]
    if waiting == "for another try":
        while len(invoker.requests) < 3000 or executor._pool.running:
            time.sleep(0.01)
    calls = itertools.count()
    sys.setprofile(lambda _, event, __: next(calls) if event == "call" else None)
    try:
        for future in futures:
            executor.cancel(future)
    finally:
        sys.setprofile(None)
    assert next(calls) < 3000 * 100
    assert all(isinstance(future.exception(0), RunCancelledError) for future in futures)
    assert executor._submitted.keys() <= {job.future for job in executor._pool.running}
    gate.open()


def test_an_interrupted_block_ends_its_tasks(make_executor):
    """Leaving the with block by Ctrl-C does not wait for answers."""
    gate = Gate()
    executor, invoker = make_executor(script={"task": [gate]})

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


def test_what_runs_on_in_aws_is_counted_and_told_in_one_sentence(make_executor, caplog):
    """Three invocations in flight are stopped: the report counts them, a sentence says it; what waited is
    never invoked."""
    gate = Gate()
    executor, invoker = make_executor(script={f"task{i}": [gate] for i in range(3)}, concurrency=3)
    futures = [executor.submit_call(Call(f"task{index}", abs, [1])) for index in range(5)]
    gate.wait_for(3)
    for future in futures:
        executor.cancel(future)
    gate.open()
    executor.shutdown(wait=True)
    assert executor.report().total.dropped == 3
    assert "3 dropped" in str(executor.report())
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(":")[0] for text in told] == ["3 invocations cannot be stopped in AWS"]
    assert len(invoker.requests) == 3


def test_what_is_stopped_on_this_machine_does_not_run_on(make_executor, caplog):
    """Environments of the emulator end with the wait for them: nothing is dropped, nothing said."""
    gate = Gate()
    invoker = ScriptedInvoker("local", {"task": [gate]})
    executor, _ = make_executor(local=invoker)
    executor.execution = "local"
    future = executor.submit_call(Call("task", abs, [1]))
    gate.wait_for(1)
    executor.cancel(future)
    gate.open()
    executor.shutdown(wait=True)
    assert (executor.report().total.dropped, caplog.records) == (0, [])


def test_a_delay_before_a_retry_is_cut_short_by_a_stop(make_executor):
    """A task that waits to be tried again is ended as well."""
    executor, invoker = make_executor(script={"task": [ThrottledError("429")] * 30}, concurrency=1)
    future = executor.submit_call(Call("task", abs, [1]))
    while not invoker.requests:
        time.sleep(0.01)
    executor.cancel(future)
    with pytest.raises(RunCancelledError):
        future.result(0)
    assert executor.submit(abs, -1).result(10) == 1


def test_shutdown_waits_and_accepts_no_more(make_executor):
    """Shutdown waits for results, closes the invokers, and refuses later tasks."""
    executor, invoker = make_executor()
    futures = [executor.submit(abs, -index) for index in range(10)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert invoker.closed
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_the_switch_sends_what_has_not_started_the_new_way(make_executor):
    """Ranges in flight finish where they are, the others run under the new execution."""
    gate, local = Gate(), ScriptedInvoker("local")
    executor, remote = make_executor(
        script={f"range-{index}": [gate] for index in range(2)}, concurrency=2, local=local
    )
    futures = ranges(executor, 6, packed_mapper("run", n_ranges=6))
    gate.wait_for(2)
    executor.execution = "local"
    assert all(future.result(30) for future in futures[2:])
    gate.open()
    assert all(future.result(30) for future in futures[:2])
    assert sorted(request.range_index for request in remote.requests) == [0, 1]
    assert sorted(request.range_index for request in local.requests) == [2, 3, 4, 5]
    assert local.peak <= 2
    assert executor.report().runs[0].executions == ("lambda", "local")


def test_an_unknown_execution_changes_nothing(make_executor):
    """A typo in the switch is an error, and the execution stays."""
    executor, _ = make_executor()
    with pytest.raises(ConfigurationError, match="no execution named 'lokal'"):
        executor.execution = "lokal"
    assert executor.execution == "lambda"


def test_local_files_never_go_to_another_machine(make_executor):
    """A range of files on this machine fails before anything is invoked, naming a file and the way out."""
    executor, invoker = make_executor()
    mapper = packed_mapper("run", local_inputs=("/data/a.root", "/data/b.root"))
    with pytest.raises(
        InputError, match=r"cannot read files of this machine: /data/a.root.*execution='local'"
    ):
        ranges(executor, 1, mapper)[0].result(30)
    assert invoker.requests == []


def test_nothing_is_lost_when_many_threads_submit(make_executor):
    """Tasks submitted from many threads at once are each done once."""
    executor, invoker = make_executor(concurrency=16)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        futures = list(pool.map(lambda index: executor.submit(abs, -index), range(500)))
    assert [future.result(30) for future in futures] == list(range(500))
    assert len(invoker.requests) == 500


class TestRefused:
    """Requests that AWS refuses, because others use what the account has, are no failures."""

    def test_they_wait(self, make_executor, caplog):
        """Each task is done in its first try, the refusals are counted apart, and the user is told once."""
        script = {f"task-{index}": [ThrottledError("429")] for index in range(2, 5)}
        executor, invoker = make_executor(script=script, concurrency=4)
        futures = [executor.submit_call(Call(f"task-{index}", abs, [-index])) for index in range(8)]
        assert [future.result(60) for future in futures] == list(range(8))
        total = executor.report().total
        assert (total.refused, total.retries, total.failures) == (3, 0, 0)
        assert {request.attempt for request in invoker.requests} == {1}
        assert caplog.text.count("the others wait") == 1

    def test_as_many_go_on_as_were_accepted(self, make_executor):
        """While some are in flight, no more are tried than AWS took."""
        gate = Gate()
        script = {"a": [gate], "b": [gate], "c": [ThrottledError("429")] * 1}
        executor, invoker = make_executor(script=script, concurrency=3)
        futures = [executor.submit_call(Call(name, abs, [-1])) for name in "abcdef"]
        gate.wait_for(2)
        while not executor.report().total.refused:
            time.sleep(0.01)
        time.sleep(0.2)  # more would be tried by now
        assert len(invoker.requests) == 3
        gate.open()
        assert [future.result(30) for future in futures] == [1] * 6
        assert executor.report().total.refused == 1

    def test_a_quota_that_is_known_is_kept(self, make_executor):
        """What the account does not allow is not asked for."""
        small = ScriptedInvoker("lambda")
        small.quota = 2
        executor, _ = make_executor(concurrency=50, **{"lambda": small})
        assert executor.concurrency == 2
        assert [future.result(30) for future in [executor.submit(abs, -1) for _ in range(20)]] == [1] * 20
        assert small.peak <= 2

    def test_patience_ends(self, make_executor, monkeypatch):
        """Where nothing at all is answered for a quarter of an hour, the error says so."""
        monkeypatch.setattr(tries, "_PATIENCE_S", 0.3)
        executor, _ = make_executor(script={"task": [ThrottledError("429")] * 99})
        with pytest.raises(ThrottledError):
            executor.submit_call(Call("task", abs, [-1])).result(60)
        assert executor.report().total.failures == 1


class TestDivided:
    """Ranges that are too large for the function are divided, and the parts merged."""

    @pytest.fixture
    def run(self, events_file):
        """Runs the ranges of a real graph by the real handler, with errors by a script."""

        def pack(n_ranges):
            frame = RDataFrame("Events", events_file)
            # A graph of its own: what is left of another test's run would be taken.
            total = frame.Filter(f"true /* {uuid.uuid4()} */").Count()
            return packing.pack(frame._headnode, [total.node], n_ranges)

        def run(script, n_ranges=2, packed=None, **options):
            packed = packed or pack(n_ranges)
            invoker = ScriptedHandler(script)
            settings = Settings.resolve(execution="local", local_threads=2, **options)
            with LambdaExecutor(settings=settings, openers={"local": lambda _: invoker}) as executor:
                bodies = [future.result(60) for future in ranges(executor, n_ranges, packed.mapper)]
                report = executor.report().total
            merged = Merge(packed.mapper.space, packed.mapper.division[0])(bodies)
            (blob,) = packed.finish(merged)
            return wire.loads(blob).GetValue(), report, invoker

        run.pack = pack
        return run

    @pytest.mark.parametrize("error", [FunctionTimeoutError("slow"), OutOfMemoryError("large")])
    def test_the_count_is_right(self, run, error):
        """One that meets it twice is divided twice; the run has the ranges that it had."""
        count, report, invoker = run({"range-0": [error], "range-0.1": [error]})
        assert count == 1000
        assert (report.ranges, report.done, report.retries, report.failures) == (2, 2, 2, 0)
        tasks = sorted(request.task for request in invoker.requests)
        assert tasks == ["range-0", "range-0.0", "range-0.1", "range-0.1.0", "range-0.1.1", "range-1"]

    def test_the_whole_is_kept(self, run):
        """The next try of the run takes it, and does not find out again that it is too large."""
        packed = run.pack(2)
        run({"range-0": [FunctionTimeoutError("slow")]}, packed=packed)
        count, _, invoker = run({"range-0": [FunctionTimeoutError("slow")]}, packed=packed)
        assert (count, invoker.requests) == (1000, [])

    def test_one_cluster_is_the_smallest_part(self, run):
        """A part that always takes too long ends the run, after a bounded number of tries."""
        slow = defaultdict(lambda: [FunctionTimeoutError("slow")] * 9)
        with pytest.raises(FunctionTimeoutError):
            run(slow, 1, max_retry_share=100.0)

    def test_a_run_that_fails_everywhere_ends_soon(self, run):
        """It has a limit of further tries, and the error says so."""
        slow = defaultdict(lambda: [FunctionTimeoutError("slow")] * 9)
        with pytest.raises(FunctionTimeoutError, match="has had 20 further tries, and gets no more"):
            run(slow, 4)

    def test_a_part_that_fails_ends_the_others(self, make_executor):
        """The whole fails with its error, and its run with it: what waits is not invoked."""
        gate = Gate()

        def slow():
            gate()
            raise FunctionTimeoutError("slow")

        script = {"range-0": [slow], "range-0.0": [UserCodeError("raised")]}
        executor, invoker = make_executor(script=script, concurrency=1)
        first, second, *_ = ranges(executor)
        gate.open()
        assert isinstance(first.exception(30), UserCodeError)
        assert second.exception(30) is first.exception()
        assert [request.task for request in invoker.requests] == ["range-0", "range-0.0"]
        assert executor.report().total.failures == 1

    def test_what_writes_files_is_not_divided(self, make_executor):
        """Its files are named by the range; it is tried once more."""
        executor, invoker = make_executor(script={"range-0": [FunctionTimeoutError("slow")] * 9})
        with pytest.raises(FunctionTimeoutError):
            ranges(executor, 1, packed_mapper("run", writes=True))[0].result(30)
        assert [request.task for request in invoker.requests] == ["range-0"] * 2

    def test_a_range_that_is_cancelled_is_with_its_parts(self, make_executor):
        """Cancelling the future of a divided range ends its parts."""
        gate = Gate()
        script = {"range-0": [FunctionTimeoutError("slow")], "range-0.0": [gate], "range-0.1": [gate]}
        executor, invoker = make_executor(script=script, concurrency=2)
        (future, *_) = ranges(executor, 1)
        gate.wait_for(2)
        executor.cancel(future)
        assert isinstance(future.exception(0), RunCancelledError)
        gate.open()
        assert executor.submit(abs, -3).result(30) == 3
        assert len(invoker.requests) == 4


class ScriptedHandler(LocalInvoker):
    """The real handler in this process, whose answers are errors first, by a script."""

    def __init__(self, script):
        super().__init__()
        self.script, self.requests = script, []

    def invoke(self, request, cancellation):
        self.requests.append(request)
        if request.task in self.script or isinstance(self.script, defaultdict):
            errors = self.script[request.task]
            if errors:
                self.script[request.task] = errors[1:]
                raise errors[0]
        return super().invoke(request, cancellation)


class TestNothingWaitsForever:
    """Whatever fails beside a task, its future is settled, and others go on."""

    def test_a_watcher_that_fails(self, make_executor, caplog):
        """A display whose terminal is gone is not called again, and changes nothing of the tasks."""
        called = []

        def watch(progress):
            called.append(progress)
            raise BrokenPipeError("the terminal is gone")

        executor, _ = make_executor()
        executor.ledger.watch(watch)
        assert [executor.submit(abs, -index).result(20) for index in range(3)] == [0, 1, 2]
        assert len(called) == 1
        assert "the terminal is gone" in caplog.text
        executor.shutdown()
        assert executor.ledger.in_flight == 0

    @pytest.mark.parametrize("where", ["start", "answer", "end"])
    def test_a_defect(self, make_executor, monkeypatch, where):
        """It is raised by the future of the task that it met; the slot is free for the next one."""
        executor, _ = make_executor(concurrency=1)
        good = getattr(executor.tracks, where)

        def bad(*args, **options):
            monkeypatch.setattr(executor.tracks, where, good)
            raise LookupError("a defect")

        monkeypatch.setattr(executor.tracks, where, bad)
        assert isinstance(executor.submit(abs, -1).exception(20), LookupError)
        assert executor.submit(abs, -2).result(20) == 2
        executor.shutdown()
