"""Each kind of failure has one treatment, which is documented."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from dask_root_lambda.execution.policy import Divide, Grow, RetryPolicy
from dask_root_lambda.invocation import aws
from dask_root_lambda.protocol import errors
from dask_root_lambda.protocol.errors import DaskRootLambdaError, ThrottledError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "failures.md"
ROW = re.compile(r"\| `(\w+)` \| [^|]+ \| ([^|]+) \|")
FAMILIES = {"DaskRootLambdaError", "ExecutionEnvironmentError", "RemoteError"}
"""Raised by nothing but their subclasses."""
KINDS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, DaskRootLambdaError) and name not in FAMILIES
}
DOCUMENTED = dict(ROW.findall(DOCUMENT.read_text()))


def treatment(kind):
    """Return what follows an error of a kind, in the words of the table."""
    if issubclass(kind, ThrottledError):
        return "waits, outside of the limit of tries"  # TestRefused, in test_executor
    policy = RetryPolicy()
    tries = next(n for n in range(1, 99) if policy.after([kind("")] * n, 0.5) is None)
    divided = policy.after([kind("")], 0.5, divisible=True) == Divide()
    if policy.after([kind("")], 0.5, divisible=True, larger=True) == Grow():
        assert divided
        assert tries == 1
        return "the next memory tier; at the top divided; then the end"
    if divided:
        return f"divided; what cannot be divided gets {tries} tries"
    return "the end" if tries == 1 else f"{tries} tries"


def test_the_table_is_complete():
    """Every error class has a row, and no other."""
    assert DOCUMENTED.keys() == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_the_table_says_what_the_policy_does(name):
    """Number of tries, division, memory, or the end."""
    assert DOCUMENTED[name] == treatment(KINDS[name])


def test_what_aws_answers_is_in_the_table():
    """Each of its codes, and each error of its SDK, is of a kind that has a treatment."""
    by_code = (kind for kind, _ in (*aws._BY_CODE.values(), *aws._BY_STATUS.values()))
    by_type = (kind for _, kind, _ in aws._BY_TYPE)
    assert {kind.__name__ for kind in (*by_code, *by_type)} <= DOCUMENTED.keys()
