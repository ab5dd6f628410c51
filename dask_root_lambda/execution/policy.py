"""Whether and when a task is tried again: pure decisions from what happened so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dask_root_lambda.protocol.errors import (
    CrashError,
    DaskRootLambdaError,
    MissingMapperError,
    ThrottledError,
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often a failed task is tried again, and how long is waited before."""

    max_attempts: int = 4
    """Tries of a task whose error may pass, the first included; throttled tries do not count."""
    max_crashes: int = 2
    """Tries of a task whose process ends: user code that crashes, crashes again."""
    max_throttles: int = 60
    """Tries that found no free concurrency; with the longest delay, about twenty minutes."""
    max_missing_mappers: int = 2
    """Tries that did not find the graph in the store; before each it is put there."""
    base_delay_s: float = 0.2
    max_delay_s: float = 20.0

    def delay_s(self, errors: Sequence[DaskRootLambdaError], jitter: float) -> float | None:
        """Decide what follows the last of ``errors``, which are all errors of one task in order.

        Parameters
        ----------
        errors
            At least one.
        jitter
            A random number in [0, 1): delays are spread over half their length, so that tasks which
            failed together do not come back together.

        Returns
        -------
        float or None
            Seconds to wait before the next try; None to give up.
        """
        last = errors[-1]
        limit = self._limit(last)
        count = sum(_limited_as(error) == _limited_as(last) for error in errors)
        if not last.retryable or count >= limit:
            return None
        delay_s = min(self.max_delay_s, self.base_delay_s * 2.0 ** (count - 1))
        return delay_s * (0.5 + 0.5 * jitter)

    def _limit(self, error: DaskRootLambdaError) -> int:
        limits = {
            CrashError: self.max_crashes,
            MissingMapperError: self.max_missing_mappers,
            ThrottledError: self.max_throttles,
        }
        return limits.get(_limited_as(error), self.max_attempts)


def _limited_as(error: DaskRootLambdaError) -> type[DaskRootLambdaError]:
    """Return the error class whose retry limit applies to an error."""
    own = (CrashError, MissingMapperError, ThrottledError)
    return next((kind for kind in own if isinstance(error, kind)), DaskRootLambdaError)
