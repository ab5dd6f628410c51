"""What is tried again, how often, and after how long: tables of what happened and what follows."""

from __future__ import annotations

import pytest

from dask_root_lambda.execution.policy import Again, Divide, RetryPolicy
from dask_root_lambda.protocol.errors import (
    AccessError,
    CompilationError,
    CorruptBlobError,
    CrashError,
    FunctionTimeoutError,
    InputError,
    KilledError,
    MissingBlobError,
    MissingMapperError,
    NoAnswerError,
    OutOfMemoryError,
    RunCancelledError,
    ServiceError,
    StoreError,
    UnreachableError,
    UserCodeError,
    VersionMismatchError,
)

POLICY = RetryPolicy(max_attempts=4, max_crashes=2, base_delay_s=0.2, max_delay_s=20.0)
S, C, M = ServiceError("500"), CrashError("signal"), MissingMapperError("gone")
N, L = NoAnswerError("lost"), FunctionTimeoutError("slow")


@pytest.mark.parametrize(
    ("errors", "tried_again"),
    [
        ([S], True),
        ([S, S, S], True),
        ([S, S, S, S], False),
        ([N, N], True),
        ([N, N, N], False),
        ([L], True),
        ([L, L], False),
        ([S, S, S, L], True),
        ([C], True),
        ([C, C], False),
        ([S, C], True),
        ([C, S, C], False),
        ([M], True),
        ([M, M], False),
        ([S, S, M], True),
        ([M, C], True),
    ],
)
def test_limits(errors, tried_again):
    """Crashes, lost graphs, lost answers and time-outs have limits of their own, the rest share one."""
    assert (POLICY.after(errors, 0.5) is not None) == tried_again


@pytest.mark.parametrize(
    "kind",
    [
        AccessError,
        CompilationError,
        InputError,
        OutOfMemoryError,
        RunCancelledError,
        UserCodeError,
        VersionMismatchError,
    ],
)
def test_what_would_only_fail_again_is_not_tried_again(kind):
    """User code, the dataset, credentials and limits fail alike a second time."""
    assert POLICY.after([kind("no")], 0.5) is None


@pytest.mark.parametrize(
    "kind", [StoreError, CorruptBlobError, UnreachableError, ServiceError, MissingBlobError, KilledError]
)
def test_what_may_pass_is_tried_again(kind):
    """Storage, transport and the service recover."""
    assert POLICY.after([kind("maybe")], 0.5) is not None


@pytest.mark.parametrize("kind", [FunctionTimeoutError, OutOfMemoryError])
def test_a_range_that_is_too_large_is_divided(kind):
    """Whatever went wrong before; a plain call cannot be divided."""
    assert POLICY.after([S, kind("too large")], 0.5, divisible=True) == Divide()
    assert POLICY.after([kind("too large"), S], 0.5, divisible=True) == Again(pytest.approx(0.2))
    assert POLICY.after([S, kind("too large")], 0.5) != Divide()


def test_a_run_has_a_limit_too():
    """As many further tries as it has ranges, and a few in any case."""
    assert POLICY.allows(19, 1)
    assert not POLICY.allows(20, 1)
    assert POLICY.allows(99, 100)
    assert not POLICY.allows(100, 100)


def test_delays_double_up_to_a_limit():
    """Each try waits twice as long as the one before, at most the longest delay."""
    patient = RetryPolicy(max_attempts=20)
    delays = [patient.after([S] * count, 0.999_999).delay_s for count in range(1, 12)]
    assert delays[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6], rel=1e-4)
    assert delays[-1] == pytest.approx(20.0, rel=1e-4)


def test_jitter_spreads_all_of_it():
    """Tasks that failed together come back between at once and the whole delay."""
    assert POLICY.after([S], 0.0) == Again(0.0)
    assert POLICY.after([S], 0.999_999) == Again(pytest.approx(0.2, rel=1e-4))
