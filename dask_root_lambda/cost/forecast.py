"""What a run will have cost, and when it will be done, as far as its ranges so far tell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Forecast:
    """What is foreseen of a run."""

    usd: float
    """What it will have cost, at list price."""
    left_s: float
    """Seconds until its ranges are done."""


def forecast(
    left: int, done_s: Sequence[float], running_s: Sequence[float], slots: int, usd: float
) -> Forecast | None:
    """Foresee a run; None before its first range is done.

    Ranges that are left cost as much as those that are done did in the mean, and take the median of their
    time: the first ones, which start environments, and stragglers do not count for more than others. One that
    runs has the rest of that time before it, and at least a tenth where it has taken longer already.

    Parameters
    ----------
    left
        Ranges that are not done, those included that run.
    done_s
        Seconds that each range took that was invoked and is done.
    running_s
        Seconds that each range has taken so far that runs.
    slots
        How many run at once.
    usd
        What was spent.
    """
    if not done_s:
        return None
    each_s = statistics.median(done_s)
    rest_s = [max(each_s - elapsed_s, each_s / 10) for elapsed_s in running_s[:left]]
    waiting = left - len(rest_s)
    work_s = math.fsum(rest_s) + waiting * each_s
    # The work is shared, and no range is done sooner than by itself.
    longest_s = max([*rest_s, each_s if waiting else 0.0], default=0.0)
    return Forecast(usd + usd / len(done_s) * left, max(work_s / max(1, slots), longest_s))
