"""Nothing is started beyond a limit of costs, and what was computed is kept."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.config import Settings
from dask_root_lambda.cost.prices import NO_PRICES
from dask_root_lambda.execution import stragglers
from dask_root_lambda.execution.budget import Spending, refusal
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.execution.ledger import Ledger
from dask_root_lambda.plan import unfinished
from dask_root_lambda.protocol.errors import CostLimitError, ThrottledError
from tests.invokers import Gate, ScriptedInvoker, packed_mapper, ranges

from .test_ledger import Clock, Place, invocation

USD = ScriptedInvoker.prices.usd(ScriptedInvoker.bill)
"""What each invocation of the scripted invoker costs."""


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.001, 100))
def test_what_is_in_flight_counts(usd, in_flight_usd, limit_usd):
    """By what it will cost; without a limit nothing is refused."""
    spending = Spending(usd, 10, in_flight_usd, left=3)
    assert refusal(spending, None, "x") is None
    assert (refusal(spending, limit_usd, "x") is not None) == (usd + in_flight_usd > limit_usd)


def test_each_run_is_foreseen_by_its_own_cost():
    """Invocations of a dear run do not count as those of a cheap one that is computed beside."""
    ledger = Ledger(Clock())
    cheap, dear, new = (ledger.begin(name, 9, Place()) for name in ("cheap", "dear", "new"))
    for _ in range(9):
        ledger.add(cheap, invocation(usd=1.0, read=()), Place())
    ledger.add(dear, invocation(usd=21.0, read=()), Place())
    with ledger.invoking(cheap), ledger.invoking(dear), ledger.invoking(dear), ledger.invoking(new):
        assert ledger.spending(dear).foreseen_usd == 21.0 + 2 * 21.0
        assert ledger.spending(new).foreseen_usd == 0.0
        # Nothing is known of the new one: it may cost as much as all in the mean.
        assert ledger.spending().foreseen_usd == 30.0 + 1.0 + 2 * 21.0 + 3.0
    assert ledger.spending().foreseen_usd == 30.0


@pytest.fixture
def run():
    """Run ranges one at a time under limits; their futures, and the executor."""
    executors = []

    def run(n_ranges=10, **limits):
        settings = Settings.resolve(execution="lambda", concurrency=1, **limits)
        invoker = ScriptedInvoker("lambda")
        executor = LambdaExecutor(settings=settings, openers={"lambda": lambda _: invoker})
        executors.append(executor)
        futures = ranges(executor, n_ranges, packed_mapper("run", n_ranges=n_ranges))
        return [future.exception(30) for future in futures], executor, invoker

    yield run
    for executor in executors:
        executor.shutdown(wait=False)


@pytest.mark.parametrize("limit", ["max_cost_usd", "max_run_cost_usd"])
def test_nothing_starts_beyond_the_limit(run, limit):
    """Of ten ranges four are run; the error says what was spent, and what the rest would cost."""
    errors, executor, invoker = run(**{limit: 4.5 * USD})
    assert len(invoker.requests) == 4
    assert errors[:4] == [None] * 4
    assert all(isinstance(error, CostLimitError) for error in errors[4:])
    assert f"{4 * USD:.4f} were spent" in str(errors[4])
    assert "The 6 ranges left would cost" in str(errors[4])
    assert executor.report().total.usd == pytest.approx(4 * USD)


def test_a_limit_of_a_run_is_each_runs(run):
    """The next run has its own; the limit of all together is the executor's."""
    _, executor, invoker = run(3, max_run_cost_usd=3.5 * USD)
    more = ranges(executor, 3, packed_mapper("other", n_ranges=3))
    assert [future.exception(30) for future in more] == [None] * 3
    assert len(invoker.requests) == 6


def test_runs_share_the_limit(build):
    """Of three frames in one compute each gets a third of what is allowed, and all say why they ended."""
    executor, invoker = build({}, concurrency=1, max_cost_usd=12.5 * USD)
    with executor._pool.lock:
        futures = [
            future
            for name in ("first", "second", "third")
            for future in ranges(executor, 10, packed_mapper(name, n_ranges=10))
        ]
    errors = [future.exception(30) for future in futures]
    assert [sum(error is None for error in errors[start : start + 10]) for start in (0, 10, 20)] == [4] * 3
    assert {type(error) for error in errors if error is not None} == {CostLimitError}
    assert len(invoker.requests) == 12


def test_without_a_limit_all_is_run(run):
    """That is the default."""
    errors, _, _ = run()
    assert errors == [None] * 10


@pytest.fixture
def build():
    """Makes executors with a script and limits."""
    made = []

    def build(script, concurrency=4, local=None, **limits):
        settings = Settings.resolve(execution="lambda", concurrency=concurrency, **limits)
        invoker = ScriptedInvoker("lambda", script)
        executor = LambdaExecutor(
            settings=settings, openers={"lambda": lambda _: invoker, "local": lambda _: local}
        )
        made.append(executor)
        return executor, invoker

    yield build
    for executor in made:
        executor.shutdown(wait=False)


def test_what_waits_after_a_refusal_is_not_in_flight(build):
    """Ranges that AWS has refused cost nothing while they wait: two of four are run for the price of two."""
    gate, together, free = Gate(), threading.Barrier(3), threading.Event()

    def refuse():
        if not free.is_set():
            if executor.report().total.refused == 0:
                together.wait(20)
            raise ThrottledError("429")

    refused = {f"range-{index}": [refuse] * 99 for index in (1, 2, 3)}
    executor, _ = build({"range-0": [gate], **refused}, max_cost_usd=2.5 * USD)
    futures = ranges(executor, 4, packed_mapper("run", n_ranges=4))
    gate.wait_for(1)
    wait_until(lambda: executor.report().total.refused >= 3 and executor.ledger.invocations == 1)
    assert executor.ledger.in_flight == 4
    free.set()
    gate.open()
    assert sum(future.exception(30) is None for future in futures) == 2
    assert executor.report().total.usd == pytest.approx(2 * USD)


def test_a_second_try_keeps_to_the_limit(build, monkeypatch):
    """It counts as in flight; where it would cost too much, the first try goes on, and nothing fails."""
    monkeypatch.setattr(stragglers, "SHORTEST_S", 0.2)
    gate = Gate()
    executor, invoker = build({"range-0": [gate]}, concurrency=2, max_cost_usd=6.5 * USD)
    futures = ranges(executor, 6, packed_mapper("run", n_ranges=6))
    assert [future.exception(30) for future in futures[1:]] == [None] * 5
    wait_until(lambda: executor.report().total.second_tries == 1)
    executor._pool.wait(1.0)
    gate.open()
    assert futures[0].exception(30) is None
    assert len(invoker.requests) == 6


def test_what_is_kept_is_taken_beyond_the_limit(build, tmp_path, monkeypatch):
    """It was paid before."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    mapper = packed_mapper("kept")
    unfinished.file(mapper.run, mapper.space.session).parent.mkdir(parents=True)
    first, _ = build({})
    assert [future.exception(30) for future in ranges(first, 3, mapper)] == [None] * 3
    executor, invoker = build({}, max_cost_usd=0.5 * USD)
    assert ranges(executor, 1, packed_mapper("run", n_ranges=1))[0].exception(30) is None
    assert [future.exception(30) for future in ranges(executor, 3, mapper)] == [None] * 3
    assert len(invoker.requests) == 1


def test_what_costs_nothing_goes_on(build):
    """After the limit is reached in AWS, the rest can be run in this process."""
    local = ScriptedInvoker("local")
    local.prices = NO_PRICES
    executor, _ = build({}, local=local, concurrency=1, max_cost_usd=1.5 * USD)
    errors = [future.exception(30) for future in ranges(executor, 3, packed_mapper("run"))]
    assert [type(error) for error in errors] == [type(None), CostLimitError, CostLimitError]
    executor.execution = "local"
    assert [future.exception(30) for future in ranges(executor, 3, packed_mapper("run"))] == [None] * 3


def wait_until(happened):
    deadline_s = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)
