"""Slow ranges get a second try, and the first answer counts."""

from __future__ import annotations

import threading
from contextlib import suppress

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.execution import encoding, jobs, stragglers
from dask_root_lambda.execution.stragglers import Durations, slow_after_s
from dask_root_lambda.plan import unfinished
from dask_root_lambda.protocol.errors import CrashError, ServiceError, UserCodeError
from tests.invokers import Gate, packed_mapper, ranges

SECONDS = st.lists(st.floats(0.1, 900), min_size=1).map(sorted)


@given(SECONDS, st.integers(1, 1000))
def test_nothing_is_slow_before_most_are_done(done_s, n_ranges):
    """Half of the ranges, and some, have to be done; then three times the median is slow, but no moment."""
    limit_s = slow_after_s(done_s, n_ranges)
    if len(done_s) < n_ranges / 2 or len(done_s) < 4:
        assert limit_s is None
    else:
        assert limit_s >= max(2.0, 3 * done_s[0])
        assert limit_s <= max(2.0, 3 * done_s[-1])


@given(SECONDS.filter(lambda done_s: len(done_s) >= 4))
def test_in_the_end_less_is_slow(done_s):
    """Never more than before; of ranges that take about as long, one that takes a quarter longer."""
    before_s = slow_after_s(done_s, len(done_s))
    limit_s = slow_after_s(done_s, len(done_s), in_the_end=True)
    assert min(5.0, before_s) <= limit_s <= before_s
    assert slow_after_s([9.5, 10.0, 10.0, 10.5] * 10, 50, in_the_end=True) <= 12.5
    # A half takes half as long, and may be as late.
    half_s = slow_after_s(done_s, len(done_s), in_the_end=True, share=0.5)
    assert limit_s - half_s <= 0.5 * done_s[-1] * (1 + 1e-9)
    assert min(5.0, before_s) <= half_s <= limit_s
    assert slow_after_s([10.0] * 40, 50, in_the_end=True, share=0.5) == pytest.approx(6.5)
    # A few that waited for new environments change nothing.
    assert slow_after_s([10.0] * 35 + [15.0] * 5, 50, in_the_end=True) <= 12.5


@given(st.integers(4, 500))
def test_second_tries_cost_little(n_ranges):
    """However many are slow, a tenth of the ranges is tried once more, or two."""
    durations = Durations(n_ranges)
    for _ in range(n_ranges):
        durations.add(1.0)
    assert not durations.allows(2.9)
    assert 2 <= sum(durations.allows(1000.0) for _ in range(n_ranges)) <= max(2, n_ranges / 10 + 1)


@given(st.integers(4, 500), st.integers(0, 400))
def test_what_tells_nothing_is_left_out(n_ranges, n_others):
    """Ranges that an earlier try has left make no other look slow, and not the others seem many."""
    durations = Durations(n_ranges + n_others)
    for _ in range(n_others):
        durations.leave_out()
    for _ in range(n_ranges - 1):
        durations.add(100.0)
    assert durations.enough == (n_ranges > 4)
    assert not durations.allows(299.0)
    assert not durations.complete
    durations.add(100.0)
    assert durations.complete


class TestSecondTries:
    """By the executor, against a service that does what a script says."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch):
        monkeypatch.setattr(stragglers, "SHORTEST_S", 0.2)

    @pytest.fixture
    def run(self, make_executor):
        """Runs ranges of which the first is slow in its first try: it waits at a gate."""

        def run(then=(), n_ranges=6, **options):
            gate = Gate()
            executor, invoker = make_executor(script={"range-0": [gate, *then]}, concurrency=2)
            mapper = packed_mapper("run", n_ranges=n_ranges, **options)
            return ranges(executor, n_ranges, mapper), executor, invoker, gate

        return run

    def test_the_first_answer_counts(self, run):
        """The slow try is ended, the range is counted once, and the report says that it was tried twice."""
        futures, executor, invoker, gate = run()
        assert [future.result(30) for future in futures]
        gate.open()
        total = executor.report().total
        assert (total.done, total.second_tries, total.retries, total.failures) == (6, 1, 0, 0)
        assert [request.task for request in invoker.requests].count("range-0") == 2
        executor.shutdown()
        assert executor.ledger.in_flight == 0

    def test_in_the_end_a_second_try_comes_sooner(self, run, monkeypatch):
        """Nothing waits, and a slot is free: what is slow then has not to be three times as slow."""
        monkeypatch.setattr(stragglers, "FACTOR", 1e6)
        monkeypatch.setattr(stragglers, "END_SHORTEST_S", 0.2)
        futures, executor, _, gate = run()
        assert [future.result(30) for future in futures]
        gate.open()
        assert executor.report().total.second_tries == 1

    def test_a_second_try_that_fails_changes_nothing(self, run):
        """The slow one goes on, and its answer counts."""
        futures, executor, invoker, gate = run(then=[UserCodeError("raised")])
        [future.result(30) for future in futures[1:]]
        while [request.task for request in invoker.requests].count("range-0") < 2:
            gate.arrived.acquire(timeout=0.01)
        gate.open()
        assert futures[0].result(30)
        executor.shutdown()
        assert executor.report().total.failures == 0

    def test_both_fail(self, make_executor):
        """Then the range has failed, once."""
        gate = Gate()

        def fail():
            gate()
            raise UserCodeError("of the first try")

        script = {"range-0": [fail, *[CrashError("signal")] * 2]}
        executor, invoker = make_executor(script=script, concurrency=2)
        futures = ranges(executor, 6, packed_mapper("run", n_ranges=6))
        [future.result(30) for future in futures[1:]]
        while [request.task for request in invoker.requests].count("range-0") < 3:
            gate.arrived.acquire(timeout=0.01)
        assert not futures[0].done()
        gate.open()
        assert isinstance(futures[0].exception(30), UserCodeError)
        executor.shutdown()
        assert executor.report().total.failures == 1
        assert executor.ledger.in_flight == 0

    def test_a_second_try_is_tried_again(self, run):
        """Errors that may pass do not end it."""
        futures, executor, _, gate = run(then=[ServiceError("500")])
        assert [future.result(30) for future in futures]
        gate.open()
        assert executor.report().total.retries == 1

    def test_what_writes_files_is_tried_once(self, run):
        """Two tries of a Snapshot would write the same file."""
        futures, executor, invoker, gate = run(writes=True)
        [future.result(30) for future in futures[1:]]
        assert not gate.arrived.acquire(timeout=0.2) or not gate.arrived.acquire(timeout=0.8)
        assert executor.report().total.second_tries == 0
        gate.open()
        assert futures[0].result(30)
        assert len(invoker.requests) == 6

    def test_a_cancelled_range_is_with_both_tries(self, run):
        """Neither is counted twice, nor runs on."""
        futures, executor, invoker, gate = run()
        [future.result(30) for future in futures[1:]]
        executor.cancel_all()
        gate.open()
        executor.shutdown()
        assert executor.ledger.in_flight == 0
        assert len(invoker.requests) <= 7

    def test_what_has_answered_is_not_slow(self, make_executor, monkeypatch):
        """However long its result is unpacked."""
        gate, unpack = Gate(), encoding.result

        def slowly(call, request, invocation):
            if call.task == "range-0":
                gate()
            return unpack(call, request, invocation)

        monkeypatch.setattr(encoding, "result", slowly)
        executor, invoker = make_executor(concurrency=2)
        futures = ranges(executor, 6, packed_mapper("run", n_ranges=6))
        assert [future.result(30) for future in futures[1:]]
        gate.wait_for(1)
        assert not gate.arrived.acquire(timeout=1.0)
        gate.open()
        assert futures[0].result(30)
        assert (len(invoker.requests), executor.report().total.second_tries) == (6, 0)

    def test_a_second_try_of_what_is_done_is_not_invoked(self, make_executor):
        """It is asked for while the range is running, and starts when that has just been done."""
        gate, mapper = Gate(), packed_mapper("run", n_ranges=1)
        executor, invoker = make_executor(script={"range-0": [gate]})
        (future,) = ranges(executor, 1, mapper)
        gate.wait_for(1)
        (job,) = executor._pool.running
        again = job.again()
        gate.open()
        assert future.result(30)
        executor._pool.submit_first([again])
        executor.shutdown()
        assert len(invoker.requests) == 1
        assert executor.ledger.in_flight == 0

    def test_both_fail_at_once(self, make_executor, monkeypatch):
        """Each sees the other go on before either gives up: then one of them has to fail all the same."""
        gate, both = Gate(), threading.Barrier(2)

        def fail():
            gate()
            raise UserCodeError("raised")

        def has_twin(job):
            found = any(each is not job for each in job.alive)
            if found and job.call.task == "range-0":
                with suppress(threading.BrokenBarrierError):
                    both.wait(1)
            return found

        executor, _ = make_executor(script={"range-0": [fail] * 9}, concurrency=2)
        futures = ranges(executor, 6, packed_mapper("run", n_ranges=6))
        gate.wait_for(2)
        monkeypatch.setattr(jobs.Job, "has_twin", property(has_twin))
        gate.open()
        assert isinstance(futures[0].exception(20), UserCodeError)
        executor.shutdown()
        assert executor.ledger.in_flight == 0

    @pytest.fixture
    def resumed(self, make_executor, tmp_path, monkeypatch):
        """A run of 18 ranges, of which an earlier try has left twelve."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        mapper = packed_mapper("resumed", n_ranges=18)
        unfinished.file(mapper.run, mapper.space.session).parent.mkdir(parents=True)
        first, _ = make_executor()
        assert [future.result(30) for future in ranges(first, 12, mapper)]
        return mapper

    def test_what_an_earlier_try_has_left_is_no_measure(self, resumed, make_executor):
        """Twelve ranges that are there at once do not make the other ones look slow."""
        gate = Gate()
        executor, invoker = make_executor(script={f"range-{index}": [gate] for index in range(12, 18)})
        futures = ranges(executor, 18, resumed)
        assert [future.result(30) for future in futures[:12]]
        gate.wait_for(4)
        assert not gate.arrived.acquire(timeout=1.0)
        gate.open()
        assert [future.result(30) for future in futures]
        assert (len(invoker.requests), executor.report().total.second_tries) == (6, 0)

    def test_of_those_that_are_left_a_slow_one_is_found(self, resumed, make_executor):
        """What was there already does not count among those of which half has to be done."""
        gate = Gate()
        executor, invoker = make_executor(script={"range-17": [gate]})
        assert [future.result(30) for future in ranges(executor, 18, resumed)]
        gate.open()
        assert (len(invoker.requests), executor.report().total.second_tries) == (7, 1)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("lost", [{}, {"dask-root-lambda.deadline.answer-min-s": 0.5}], ids=["slow", "lost"])
def test_an_environment_that_takes_long_to_start_stays(tmp_path, lost):
    """It is waited for: ended with a try that another overtakes, it would be as cold for the next run."""
    faults = tmp_path / "faults.yaml"
    faults.write_text("lambda: [{kind: slow-start, delay_s: 2.5}]")
    with (
        dask.config.set({"dask-root-lambda.emulated.faults": str(faults), **lost}),
        LambdaCluster(execution="emulated", concurrency=2, dashboard_address=None) as cluster,
        cluster.get_client(),
    ):
        frame = RDataFrame(64, npartitions=16).Define("x", "gSystem->Sleep(10); return double(rdfentry_);")
        cold_starts = []
        for concurrency in (1, 2, 2):
            cluster.concurrency = concurrency
            assert frame.Sum("x").GetValue() == 2016
            cold_starts.append(cluster.report().total.cold_starts)
        total = cluster.report().total
    assert cold_starts == [1, 2, 2]
    assert (total.second_tries, total.untold) == (0, 0)
