"""How many invocations may run at a time: in the account, and in functions that reserve a part of it.

Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html and, for the reasons,
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dask_root_lambda.emulator.errors import InvalidParameterError, TooManyRequestsError

# AWS keeps this much of the account's concurrency for functions without a reservation.
UNRESERVED_MINIMUM = 100


class ScalingRate:
    """How fast functions may start environments: a bucket of starts each, which fills again.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html.

    Parameters
    ----------
    starts
        Size of the bucket.
    period_s
        Time in which an empty bucket fills.
    now_s
        The clock.
    """

    def __init__(self, starts: int, period_s: float, now_s: Callable[[], float]) -> None:
        self._starts = starts
        self._period_s = period_s
        self._now_s = now_s
        self._left: dict[str, tuple[float, float]] = {}

    def start(self, function: str) -> None:
        """Count one start of a function's environment.

        Raises
        ------
        TooManyRequestsError
            If it starts too many.
        """
        now_s = self._now_s()
        left, since_s = self._left.get(function, (float(self._starts), now_s))
        left = min(self._starts, left + (now_s - since_s) * self._starts / self._period_s)
        if left < 1:
            self._left[function] = (left, now_s)
            raise TooManyRequestsError("ConcurrentInvocationLimitExceeded")
        self._left[function] = (left - 1, now_s)


class Concurrency:
    """Counts what runs, and refuses what is too much.

    Parameters
    ----------
    account_limit
        Invocations at a time, of all functions together.
    """

    def __init__(self, account_limit: int) -> None:
        self.account_limit = account_limit
        """Invocations at a time, of all functions together."""
        self.reserved: dict[str, int] = {}
        """By function: what is kept for it, and is its limit."""
        self._running: Counter[str] = Counter()

    @property
    def unreserved_limit(self) -> int:
        """What functions without a reservation share."""
        return max(0, self.account_limit - sum(self.reserved.values()))

    @property
    def total(self) -> int:
        """Invocations of all functions that run now."""
        return self._running.total()

    def running(self, function: str) -> int:
        """Invocations of a function that run now."""
        return self._running[function]

    def enter(self, function: str) -> None:
        """Count one invocation in.

        Raises
        ------
        TooManyRequestsError
            If a limit is reached.
        """
        limit = self.reserved.get(function)
        if limit is not None:
            if self._running[function] >= limit:
                raise TooManyRequestsError("ReservedFunctionConcurrentInvocationLimitExceeded")
        elif self._unreserved_running() >= self.unreserved_limit:
            raise TooManyRequestsError("ConcurrentInvocationLimitExceeded")
        self._running[function] += 1

    def leave(self, function: str) -> None:
        """Count one invocation out."""
        self._running[function] -= 1
        if not self._running[function]:
            del self._running[function]

    def reserve(self, function: str, amount: int) -> None:
        """Keep a part of the account's concurrency for a function.

        Raises
        ------
        InvalidParameterError
            If it leaves too little for the other functions.
        """
        others = sum(limit for name, limit in self.reserved.items() if name != function)
        # A new account, of 10 or 50, may reserve nothing.
        minimum = min(UNRESERVED_MINIMUM, self.account_limit)
        if self.account_limit - others - amount < minimum:
            raise InvalidParameterError(
                "Specified ReservedConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{minimum}]."
            )
        self.reserved[function] = amount

    def _unreserved_running(self) -> int:
        if not self.reserved:
            return self._running.total()
        return sum(count for name, count in self._running.items() if name not in self.reserved)
