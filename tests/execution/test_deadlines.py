"""How long an answer is worth waiting for, and what happens when a deadline has passed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda import LambdaExecutor
from dask_root_lambda.config import Settings
from dask_root_lambda.execution.deadlines import MOST_TRIES, Deadlines
from dask_root_lambda.protocol.errors import DeadlineError
from tests.invokers import Gate, ScriptedInvoker, packed_mapper, ranges

DEADLINES = Deadlines(factor=5.0, shortest_s=10.0)
SECONDS = st.lists(st.floats(0.01, 900), max_size=40).map(sorted)
ENOUGH = st.lists(st.floats(0.01, 900), min_size=3, max_size=40).map(sorted)


class TestTheRule:
    """`Deadlines.lost_after_s` knows nothing but what the run's ranges took."""

    @given(SECONDS, st.integers(1, MOST_TRIES + 1))
    def test_nothing_is_lost_early(self, done_s, tries):
        """Not before a few are done, nor before ten seconds, or several times what is usual; a range has
        three tries at once at most."""
        lost_s = DEADLINES.lost_after_s(done_s, tries)
        if len(done_s) < 3 or tries >= MOST_TRIES:
            assert lost_s is None
        else:
            assert lost_s >= max(10.0, 5.0 * done_s[len(done_s) // 2])
            assert lost_s <= max(10.0, 5.0 * done_s[-1]) * 2 ** (tries - 1)

    @given(ENOUGH, st.floats(0.1, 10))
    def test_it_scales_with_the_ranges(self, done_s, factor):
        """Ranges that take so many times as long are waited for that much longer."""
        free = Deadlines(factor=5.0, shortest_s=0.0)
        scaled = free.lost_after_s([factor * each for each in done_s])
        assert scaled == pytest.approx(factor * free.lost_after_s(done_s))

    @given(ENOUGH)
    def test_a_second_try_is_waited_for_twice_as_long(self, done_s):
        """A range that is slow, and not lost, gets its time."""
        assert DEADLINES.lost_after_s(done_s, 2) == 2 * DEADLINES.lost_after_s(done_s)

    def test_ranges_of_ten_seconds(self):
        """A lost answer is not waited for a quarter of an hour, but 50 s."""
        assert DEADLINES.lost_after_s([10.0] * 20) == 50.0

    @given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, 1e6), st.floats(1, 1e6))
    def test_limits_of_the_user(self, range_took_s, more_s, range_s, run_s):
        """The error names the limit that has passed, the run's first; within both there is none."""
        run_took_s = range_took_s + more_s
        error = Deadlines(5, 10, range_s, run_s).passed(run_took_s, run_took_s - range_took_s, 0.0)
        if run_took_s > run_s:
            assert "deadline.run-s" in str(error)
        elif run_took_s - (run_took_s - range_took_s) > range_s:
            assert "deadline.range-s" in str(error)
        else:
            assert error is None


@pytest.fixture
def build():
    """Makes executors with a script and settings, whose gates open with the test."""
    made, gates = [], []

    def make(script, concurrency=2, **settings):
        invoker = ScriptedInvoker("lambda", script)
        resolved = Settings.resolve(execution="lambda", concurrency=concurrency, **settings)
        made.append(LambdaExecutor(settings=resolved, openers={"lambda": lambda _: invoker}))
        gates.extend(each for outcomes in script.values() for each in outcomes if isinstance(each, Gate))
        return made[-1], invoker

    yield make
    for gate in gates:
        gate.open()
    for executor in made:
        executor.shutdown(wait=False)


def test_answers_that_are_lost_twice(build):
    """Long before half of the ranges are done, and beyond what stragglers may cost, a range whose answer does
    not come is tried again, and once more; what the lost ones say later changes nothing."""
    lost = [Gate(), Gate()]
    stuck = Gate()
    # One slot waits until the end: a quarter of the ranges is done.
    script = {"range-0": lost, **{f"range-{index}": [stuck] for index in range(5, 16)}}
    executor, invoker = build(script, concurrency=16, answer_min_s=0.3, answer_factor=1.0)
    futures = ranges(executor, 16, packed_mapper("run", n_ranges=16))
    assert futures[0].result(30)
    stuck.open()
    assert [future.result(30) for future in futures]
    assert [request.task for request in invoker.requests].count("range-0") == 3
    for gate in lost:
        gate.open()
    executor.shutdown()
    total = executor.report().total
    assert (total.done, total.failures, executor.ledger.in_flight) == (16, 0, 0)


def test_a_slow_range_is_not_ended(build):
    """It is tried beside, and when it answers first, its answer counts."""
    slow, later = Gate(), Gate()
    executor, _ = build({"range-0": [slow, later, later]}, answer_min_s=0.3, answer_factor=1.0)
    futures = ranges(executor, 6, packed_mapper("run", n_ranges=6))
    slow.wait_for(1)
    later.wait_for(1)
    slow.open()
    assert futures[0].result(30)


@pytest.mark.parametrize("limit", ["range", "run"])
def test_the_users_deadlines(build, limit):
    """A range that is at work for too long, and what waits, fails with the setting that says so; nothing is
    invoked afterwards."""
    gate = Gate()
    executor, invoker = build({"range-0": [gate]}, concurrency=1, **{f"{limit}_deadline_s": 0.5})
    began_s = time.monotonic()
    futures = ranges(executor, 3, packed_mapper("run", n_ranges=3))
    error = futures[0].exception(30)
    assert isinstance(error, DeadlineError)
    assert f"deadline.{limit}-s allows 0.5" in str(error)
    assert 0.5 <= time.monotonic() - began_s < 5
    if limit == "run":
        assert all(isinstance(future.exception(5), DeadlineError) for future in futures)
        gate.open()
        executor.shutdown()
        assert len(invoker.requests) == 1


def test_a_range_that_just_begins_is_not_overdue(build, monkeypatch):
    """A look in the moment between its begin and its first try finds no range that began long ago."""
    executor, _ = build({}, range_deadline_s=60)
    watch = executor._tries._watch
    begun = watch.begun

    def looked_at(job):
        watch._look()
        begun(job)
        watch._look()

    monkeypatch.setattr(watch, "begun", looked_at)
    assert [future.exception(20) for future in ranges(executor)] == [None] * 3
