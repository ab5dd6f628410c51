"""What a run is doing, in words and figures: the text that bars and lines show."""

from __future__ import annotations

from collections.abc import Iterator

from dask_root_lambda.execution import remaining
from dask_root_lambda.execution.ledger import Progress

_START_S = 3.0
"""How long an environment starts, as long as none has told."""


def phase(progress: Progress, now_s: float) -> str:
    """Name what a run is doing.

    An environment tells nothing before its first range is done. Until then it starts, for as long as others
    took, and compiles the graph.

    Parameters
    ----------
    progress
        How far it is.
    now_s
        By the clock of the ledger.
    """
    report = progress.report
    if progress.ranges_done >= report.ranges:
        return "merging"
    if report.done or progress.ranges_done:
        return "running"
    began_s = progress.begun_s[0] if progress.begun_s else now_s
    new = set(report.executions) != {"local"} and progress.in_flight > progress.environments
    starting = new and now_s - began_s < (progress.start_s or _START_S)
    return "starting environments" if starting else "compiling"


def figures(progress: Progress, now_s: float, slots: int) -> Iterator[str]:
    """Yield what is known in figures: entries in a second, cost, time left.

    Parameters
    ----------
    progress
        How far the run is.
    now_s
        By the clock of the ledger.
    slots
        How many of its ranges run at once.
    """
    report = progress.report
    if report.entries:
        yield f"{report.entries_per_s:,.0f} entries/s"
    if report.usd:
        yield f"{report.usd:.4f} USD"
    seconds = remaining.of(progress, now_s, slots)
    if seconds is not None:
        yield f"about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Write a duration as precisely as anybody wants to know how long something takes still."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
