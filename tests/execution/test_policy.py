"""What is tried again, how often, and after how long: tables of what happened and what follows."""

from __future__ import annotations

import pytest

from dask_root_lambda.execution.policy import RetryPolicy
from dask_root_lambda.protocol.errors import (
    AccessError,
    CompilationError,
    CorruptBlobError,
    CrashError,
    FunctionTimeoutError,
    InputError,
    MissingBlobError,
    MissingMapperError,
    NoAnswerError,
    NotReadyError,
    OutOfMemoryError,
    RunCancelledError,
    ServiceError,
    StoreError,
    ThrottledError,
    UnreachableError,
    UserCodeError,
    VersionMismatchError,
)

POLICY = RetryPolicy(max_attempts=4, max_crashes=2, max_throttles=60, base_delay_s=0.2, max_delay_s=20.0)
T, S, C, M = ThrottledError("429"), ServiceError("500"), CrashError("signal"), MissingMapperError("gone")


@pytest.mark.parametrize(
    ("errors", "tried_again"),
    [
        ([S], True),
        ([S, S, S], True),
        ([S, S, S, S], False),
        ([T] * 59, True),
        ([T] * 60, False),
        ([NotReadyError("409")] * 12, True),
        ([T] * 20 + [S, S, S], True),
        ([S, S, S] + [T] * 20, True),
        ([S, T, S, T, S, T, S], False),
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
    """Throttled tries have a limit of their own, crashes and lost graphs lower ones, the rest share one."""
    assert (POLICY.delay_s(errors, 0.5) is not None) == tried_again


@pytest.mark.parametrize(
    "kind",
    [
        AccessError,
        CompilationError,
        FunctionTimeoutError,
        InputError,
        MissingBlobError,
        NoAnswerError,
        OutOfMemoryError,
        RunCancelledError,
        UserCodeError,
        VersionMismatchError,
    ],
)
def test_what_would_only_fail_again_is_not_tried_again(kind):
    """User code, the dataset, credentials and limits fail alike a second time."""
    assert POLICY.delay_s([kind("no")], 0.5) is None


@pytest.mark.parametrize(
    "kind", [StoreError, CorruptBlobError, UnreachableError, ServiceError, ThrottledError]
)
def test_what_may_pass_is_tried_again(kind):
    """Storage, transport and the service recover."""
    assert POLICY.delay_s([kind("maybe")], 0.5) is not None


def test_delays_double_up_to_a_limit():
    """Each try waits twice as long as the one before, at most the longest delay."""
    delays = [POLICY.delay_s([T] * count, 0.999_999) for count in range(1, 12)]
    assert delays[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6], rel=1e-4)
    assert delays[-1] == pytest.approx(20.0, rel=1e-4)


def test_jitter_spreads_the_second_half():
    """Tasks that failed together come back between half the delay and all of it."""
    assert POLICY.delay_s([S], 0.0) == pytest.approx(0.1)
    assert POLICY.delay_s([S], 0.999_999) == pytest.approx(0.2, rel=1e-4)
