"""The limit of what runs may cost: nothing is started that would go beyond it, as far as can be foreseen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spending:
    """What a run, or all of them, has cost so far."""

    usd: float
    """Cost of what was answered, USD."""
    invocations: int
    """How many these were."""
    in_flight_usd: float
    """What invocations that are being made will cost, with the one that is to be started, USD: each as much
    as those of its run before."""
    left: int = 0
    """Ranges that are not done."""

    @property
    def usd_each(self) -> float:
        """Mean cost of an invocation so far; 0 before the first is answered."""
        return self.usd / self.invocations if self.invocations else 0.0

    @property
    def foreseen_usd(self) -> float:
        """Cost once what is in flight is answered."""
        return self.usd + self.in_flight_usd


def refusal(spending: Spending, limit_usd: float | None, setting: str) -> str | None:
    """Say why nothing more may be started; None where it may.

    Parameters
    ----------
    spending
        What was spent.
    limit_usd
        The limit; None for none.
    setting
        Name of its setting.
    """
    if limit_usd is None or spending.foreseen_usd <= limit_usd:
        return None
    rest_usd = spending.left * spending.usd_each
    return (
        f"nothing more is started: of {limit_usd:g} USD allowed, {spending.usd:.4f} were spent, and "
        f"{spending.foreseen_usd:.4f} with what is in flight. The {spending.left:,} ranges left would "
        f"cost about {rest_usd:.4f} USD. What was computed is kept: raise {setting}, and compute again"
    )
