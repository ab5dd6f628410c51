"""Nothing is started beyond a limit of costs, and what was computed is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.config import Settings
from dask_root_lambda.execution.budget import Spending, refusal
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.protocol.errors import CostLimitError
from tests.invokers import ScriptedInvoker, packed_mapper, ranges

USD = ScriptedInvoker.prices.usd(ScriptedInvoker.bill)
"""What each invocation of the scripted invoker costs."""


@given(st.floats(0, 100), st.integers(1, 100), st.integers(1, 100), st.floats(0.001, 100))
def test_what_is_in_flight_counts(usd, invocations, in_flight, limit_usd):
    """At the mean cost of what came before; without a limit nothing is refused."""
    spending = Spending(usd, invocations, in_flight, left=3)
    assert refusal(spending, None, "x") is None
    over = usd + in_flight * usd / invocations > limit_usd
    assert (refusal(spending, limit_usd, "x") is not None) == over


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


def test_without_a_limit_all_is_run(run):
    """That is the default."""
    errors, _, _ = run()
    assert errors == [None] * 10
