"""What follows a failure: another try, more memory, a division, or the end; by what happened so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dask_root_lambda.protocol.errors import (
    CrashError,
    DaskRootLambdaError,
    FunctionTimeoutError,
    MissingMapperError,
    NoAnswerError,
    OutOfMemoryError,
)


@dataclass(frozen=True)
class Again:
    """Try the task again."""

    delay_s: float
    """Seconds to wait before."""


@dataclass(frozen=True)
class Divide:
    """Divide the range, and try its parts."""


@dataclass(frozen=True)
class Grow:
    """Try the task at the next memory tier."""


Decision = Again | Divide | Grow | None
"""What follows; None is the end."""

_OVER_LIMITS = (FunctionTimeoutError, OutOfMemoryError)
"""Errors of a task that is too large for the function, or met a slow moment."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often a failed task is tried again, and how long is waited before."""

    max_attempts: int = 4
    """Tries of a task whose error may pass, the first included."""
    max_crashes: int = 2
    """Tries of a task whose process ends: user code that crashes, crashes again."""
    max_missing_mappers: int = 2
    """Tries that did not find the graph in the store; before each it is put there."""
    max_unanswered: int = 3
    """Tries without an answer; each may have taken the whole deadline."""
    max_timeouts: int = 2
    """Tries that took too long, of a task that cannot be divided."""
    max_share: float = 1.0
    """Tries after the first of a whole run, as a part of its ranges."""
    few: int = 20
    """Tries after the first that any run may have, however few its ranges are."""
    base_delay_s: float = 0.2
    max_delay_s: float = 20.0

    def after(
        self,
        errors: Sequence[DaskRootLambdaError],
        jitter: float,
        *,
        divisible: bool = False,
        larger: bool = False,
    ) -> Decision:
        """Decide what follows the last of ``errors``, which are all errors of one task in order.

        Refusals of the service (429) are none of them: see `dask_root_lambda.execution.concurrency`.

        Parameters
        ----------
        errors
            At least one.
        jitter
            A random number in [0, 1): the delay is that part of the longest that is due, so that tasks which
            failed together do not come back together ("full jitter").
        divisible
            Whether the task is a range that can be divided.
        larger
            Whether there is a function with more memory than the one that it was tried on.
        """
        last = errors[-1]
        if isinstance(last, OutOfMemoryError) and larger:
            return Grow()
        if isinstance(last, _OVER_LIMITS) and divisible:
            return Divide()
        count = Counter(map(_limited_as, errors))[_limited_as(last)]
        if not last.retryable or count >= self._limit(last):
            return None
        return Again(jitter * min(self.max_delay_s, self.base_delay_s * 2.0 ** (len(errors) - 1)))

    def allows(self, retries: int, n_ranges: int) -> bool:
        """Tell whether a run may have another try, after so many of its ranges."""
        return retries < max(self.few, self.max_share * n_ranges)

    def _limit(self, error: DaskRootLambdaError) -> int:
        limits = {
            CrashError: self.max_crashes,
            FunctionTimeoutError: self.max_timeouts,
            MissingMapperError: self.max_missing_mappers,
            NoAnswerError: self.max_unanswered,
        }
        return limits.get(_limited_as(error), self.max_attempts)


def _limited_as(error: DaskRootLambdaError) -> type[DaskRootLambdaError]:
    """Return the error class whose retry limit applies to an error."""
    own = (CrashError, FunctionTimeoutError, MissingMapperError, NoAnswerError, OutOfMemoryError)
    return next((kind for kind in own if isinstance(error, kind)), DaskRootLambdaError)
