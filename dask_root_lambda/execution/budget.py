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
    in_flight: int
    """Invocations that are being made, with the one that is to be started."""
    left: int = 0
    """Ranges that are not done."""

    @property
    def usd_each(self) -> float:
        """Mean cost of an invocation so far; 0 before the first is answered."""
        return self.usd / self.invocations if self.invocations else 0.0

    @property
    def foreseen_usd(self) -> float:
        """Cost once what is in flight is answered, if it costs as much as what came before."""
        return self.usd + self.in_flight * self.usd_each


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
