"""Into how many ranges a run is divided where the user leaves it to us: one pure rule."""

from __future__ import annotations

from dataclasses import dataclass

_SHORTEST_S, _LONGEST_S = 2.0, 60.0
"""Seconds that a range should take. Shorter ones cost more in starting than they gain, longer ones lose more
when they are lost, and come nearer to Lambda's limit of 900 s."""

_WAVES = 4
"""Ranges that each slot gets, at least: with one each, the slowest is what everybody waits for."""


@dataclass(frozen=True)
class Choice:
    """Into how many ranges, and why."""

    n_ranges: int
    why: str


def as_asked(n_asked: int, n_ranges: int) -> str:
    """Say why a run has so many ranges whose number the user has given."""
    if n_ranges >= n_asked:
        return f"{n_ranges:,} ranges, as asked for"
    ranges = "1 range" if n_ranges == 1 else f"{n_ranges:,} ranges"
    return f"{ranges} and not {n_asked:,}, as asked for, because no more of them would have entries"


def without_history(slots: int, clusters: int) -> Choice:
    """Choose for a graph that nothing is known of.

    Parameters
    ----------
    slots
        Ranges that run at once.
    clusters
        Clusters of the dataset: what cannot be divided further; at least 1.
    """
    n_ranges = max(1, min(slots, clusters))
    limit = f"{slots:,} run at once" if slots <= clusters else f"there are about {clusters:,} clusters"
    return Choice(n_ranges, f"{n_ranges:,} ranges, because {limit}")


def by_work(work_s: float, slots: int, clusters: int, *, source: str) -> Choice:
    """Choose for a graph of which it is known how long it works.

    Parameters
    ----------
    work_s
        Seconds that all ranges take together, in warm environments.
    slots, clusters
        As above.
    source
        Where that is known from.
    """
    range_s = min(max(work_s / (_WAVES * slots), _SHORTEST_S), _LONGEST_S)
    n_ranges = max(1, min(round(work_s / range_s), clusters))
    ranges = "1 range" if n_ranges == 1 else f"{n_ranges:,} ranges"
    why = f"{ranges} of {work_s / n_ranges:,.1f} s, because {source} took {work_s:,.1f} s of work"
    return Choice(n_ranges, why)
