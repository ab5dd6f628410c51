"""Ranges are divided before they are tried, from what those before took: in time, and in the end of a run."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.execution import forecast, stragglers
from dask_root_lambda.execution.forecast import Rate
from dask_root_lambda.plan import unfinished
from dask_root_lambda.protocol.errors import FunctionTimeoutError, UserCodeError
from dask_root_lambda.protocol.intervals import Interval, union
from dask_root_lambda.protocol.task import Body
from tests.invokers import Gate, ScriptedInvoker, packed_mapper, ranges

SIZES = st.lists(st.integers(1, 10**12), min_size=1, max_size=6)
SEEN = st.lists(st.tuples(st.floats(1.0, 1e10), st.floats(1e-3, 900.0)), min_size=1, max_size=30)


def rate_of(seen):
    rate = Rate()
    for size, seconds in seen:
        rate = rate.seen(size, seconds)
    return rate


@given(SEEN, st.floats(1.0, 1e10))
def test_no_longer_than_the_slowest_nor_shorter_than_the_mean(seen, size):
    """Per unit; as it is proportional to the size, the halves of a range take half as long."""
    longest_s, rates = rate_of(seen).longest_s(size), [seconds / size for size, seconds in seen]
    mean = math.exp(sum(map(math.log, rates)) / len(rates))
    assert mean * size * 0.999 <= longest_s <= max(rates) * size * 1.001
    assert rate_of(seen).longest_s(size / 2) == pytest.approx(longest_s / 2)


@given(SEEN, st.floats(1.0, 1e10), st.floats(0.01, 100.0))
def test_a_machine_twice_as_slow_takes_twice_as_long(seen, size, factor):
    """The forecast has no unit of its own."""
    slower = rate_of([(size, seconds * factor) for size, seconds in seen])
    assert slower.longest_s(size) == pytest.approx(factor * rate_of(seen).longest_s(size), rel=1e-6)


def test_one_slow_range_among_many_is_no_forecast():
    """One that is a hundred times slower does not divide the others; if half are, it does."""
    seen = [(1.0, 10.0)] * 200
    assert rate_of([*seen, (1.0, 900.0)]).longest_s(1.0) < 30
    assert rate_of([(1.0, 10.0), (1.0, 900.0)] * 5).longest_s(1.0) > 500
    assert Rate().longest_s(1.0) == 0


@given(SIZES, st.data())
def test_sizes_of_parts_add_up(sizes, data):
    """Halves, and halves of halves, read what the whole does, once."""
    bounds = st.fractions(0, len(sizes), max_denominator=64)
    start, stop = sorted((data.draw(bounds), data.draw(bounds)))
    parts = [Interval(start, stop)]
    if start == stop:
        return
    for _ in range(3):
        parts = [half for part in parts for half in part.halves]
    whole = Interval(start, stop)
    assert union(parts) == (whole,)
    assert sum(forecast.size(sizes, part) for part in parts) == pytest.approx(forecast.size(sizes, whole))


def test_entries_without_files():
    """Where there are no files, a range is as long as it has entries."""
    assert forecast.size((), Interval(Fraction(100), Fraction(350))) == 250


class Timed(ScriptedInvoker):
    """Takes ten seconds for each 100 bytes, and 100 s at most."""

    timeout_s = 100.0

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def invoke(self, request, cancellation):
        seconds = forecast.size(self.sizes, request.interval) / 10
        if seconds > self.timeout_s:
            self.requests.append(request)
            raise FunctionTimeoutError("100 s")
        self.bill = replace(self.bill, duration_s=seconds)
        return super().invoke(request, cancellation)


def run(make_executor, sizes, monkeypatch):
    """Run a range for each file, one after the other; the tasks in order, and the report."""
    merged = Body.of(b"merged")
    monkeypatch.setattr("dask_root_lambda.execution.jobs.Merge.__call__", lambda *_: merged)
    invoker = Timed(sizes)
    executor, _ = make_executor(concurrency=1, **{"lambda": invoker})
    mapper = packed_mapper("run", n_ranges=len(sizes), sizes=sizes)
    for future in ranges(executor, len(sizes), mapper):
        future.result(30)
    return [request.task for request in invoker.requests], executor.report().total


def test_a_large_file_is_divided_first(make_executor, monkeypatch):
    """Three ranges took 10 s; that of a file 20 times as large becomes four that take 50 s each."""
    tasks, total = run(make_executor, (100, 100, 100, 2000), monkeypatch)
    parts = [f"range-3.{first}.{second}" for first in (0, 1) for second in (0, 1)]
    assert tasks == ["range-0", "range-1", "range-2", *parts]
    assert (total.split, total.retries, total.done, total.failures) == (3, 0, 4, 0)


def test_the_first_that_runs_out_of_time_is_the_last(make_executor, monkeypatch):
    """Where all take too long, one does, and the others are divided before."""
    tasks, total = run(make_executor, (1200,) * 8, monkeypatch)
    assert tasks[:3] == ["range-0", "range-0.0", "range-0.1"]
    assert tasks[3:] == [f"range-{index}.{half}" for index in range(1, 8) for half in (0, 1)]
    assert (total.split, total.retries) == (7, 1)


def test_short_limits_foresee_nothing(make_executor, monkeypatch):
    """Where starting takes as long as the limit, only what ran out of time is divided."""
    monkeypatch.setattr(forecast, "SHORTEST_LIMIT_S", 101.0)
    _, total = run(make_executor, (1200,) * 8, monkeypatch)
    assert (total.split, total.retries) == (0, 8)


def test_what_fits_is_not_divided(make_executor, monkeypatch):
    """Ranges that take most of the time limit are run as they are."""
    tasks, total = run(make_executor, (880, 400, 880, 890), monkeypatch)
    assert tasks == ["range-0", "range-1", "range-2", "range-3"]
    assert total.split == 0


class TestTheEnd:
    """Ranges that begin when fewer wait than may run are divided: the run would wait for them."""

    N_RANGES = 8
    LAST = ("range-6.0", "range-6.1", "range-7.0", "range-7.1")

    @pytest.fixture
    def run(self, make_executor, monkeypatch):
        """Runs eight ranges of 10 s, as functions say, two at a time; the futures, executor and invoker."""
        monkeypatch.setattr("dask_root_lambda.execution.jobs.Merge.__call__", lambda *_: Body.of(b"merged"))

        def run(script=None, execution="lambda", seconds=10.0, **options):
            invoker = ScriptedInvoker(execution, script)
            invoker.timeout_s, invoker.bill = 900.0, replace(invoker.bill, duration_s=seconds)
            executor, _ = make_executor(concurrency=2, **{execution: invoker})
            executor.execution = execution
            mapper = packed_mapper("run", n_ranges=self.N_RANGES, **options)
            return ranges(executor, self.N_RANGES, mapper), executor, invoker

        return run

    def test_the_last_ranges_are_divided(self, run):
        """Those before are not; each counts as one."""
        futures, executor, invoker = run()
        assert all(future.result(30) for future in futures)
        tasks = sorted(request.task for request in invoker.requests)
        begun = [f"range-{index}" for index in range(5)] + list(self.LAST)
        # Both threads may have taken a range when they look how many wait.
        assert tasks in (sorted([*begun, "range-5"]), sorted([*begun, "range-5.0", "range-5.1"]))
        total = executor.report().total
        assert (total.split, total.done, total.retries, total.failures) == (len(tasks) - 8, 8, 0, 0)

    @pytest.mark.parametrize(
        "options", [{"seconds": 3.9}, {"writes": True}, {"execution": "emulated"}, {"execution": "local"}]
    )
    def test_where_it_would_not_pay(self, run, options):
        """Short ranges; those whose number names a file; and on this machine, where all cores are busy."""
        futures, executor, invoker = run(**options)
        assert all(future.result(30) is not None for future in futures)
        assert len(invoker.requests) == self.N_RANGES
        assert executor.report().total.split == 0

    def test_what_the_client_would_be_long_in_merging(self, run, monkeypatch):
        """Large results are merged by functions only."""
        monkeypatch.setattr(forecast, "LARGEST_ANSWER_BYTES", 3)
        futures, _, invoker = run()
        assert all(future.result(30) is not None for future in futures)
        assert len(invoker.requests) == self.N_RANGES

    def test_a_slow_half_is_tried_once_more(self, run, monkeypatch):
        """Like a range; the first answer counts, and the other is not waited for."""
        monkeypatch.setattr(stragglers, "END_SHORTEST_S", 0.2)
        monkeypatch.setattr(stragglers, "SHORTEST_S", 60.0)
        gate = Gate()
        futures, executor, invoker = run({"range-7.1": [gate]})
        assert all(future.result(30) for future in futures)
        gate.open()
        executor.shutdown()
        assert [request.task for request in invoker.requests].count("range-7.1") == 2
        total = executor.report().total
        assert (total.second_tries, total.done, total.failures) == (1, 8, 0)
        assert executor.ledger.in_flight == 0

    def test_a_half_that_fails_ends_all_tries_of_the_other(self, run, monkeypatch):
        """The range has failed; nothing of it runs on."""
        monkeypatch.setattr(stragglers, "END_SHORTEST_S", 0.2)
        monkeypatch.setattr(stragglers, "SHORTEST_S", 60.0)
        slow, failing = Gate(), Gate()

        def fail():
            failing()
            raise UserCodeError("raised")

        futures, executor, _ = run({"range-7.0": [fail, fail], "range-7.1": [slow, slow]})
        slow.wait_for(1)
        failing.wait_for(1)
        failing.open()
        assert isinstance(futures[7].exception(30), UserCodeError)
        slow.open()
        executor.shutdown()
        # The halves of the range before may have waited for both slots: nothing of a run that fails is begun.
        assert executor.report().total.failures in (1, 2)
        assert executor.ledger.in_flight == 0

    def test_a_half_that_was_done_is_not_done_again(self, run, tmp_path, monkeypatch):
        """A run that is tried again takes it, and computes the other."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        mapper = packed_mapper("run", n_ranges=self.N_RANGES)
        unfinished.file(mapper.run, mapper.space.session).parent.mkdir(parents=True)
        gate = Gate()
        futures, first, _ = run({"range-7.1": [gate, gate]})
        assert [future.result(30) for future in futures[:7]]
        gate.wait_for(1)
        end_s = time.monotonic() + 30
        while len(first._pool.running) > 1:
            assert time.monotonic() < end_s
            time.sleep(0.01)
        first.shutdown(wait=False)
        futures, second, invoker = run()
        gate.open()
        assert all(future.result(30) for future in futures)
        assert [request.task for request in invoker.requests] == ["range-7.1"]
        second.shutdown()
