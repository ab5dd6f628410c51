"""How long a run takes still, as its ranges so far tell.

Durations of ranges are taken for log-normal: they spread by a factor, and some are much longer. Ranges that
run count as longer than they have taken: the first of many that began together are the shortest, and would
stand for all. The ranges that are left are dealt the quantiles of that distribution, and the slots in which
they run, in turn.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist, fmean

from dask_root_lambda.execution.ledger import Progress

_STANDARD = NormalDist()
_SPREAD = 0.25
"""Standard deviation of the logarithms that is assumed as long as nothing is known."""
_SPREAD_WEIGHT = 0.15
"""Weight of that assumption: that of durations whose squared standard scores have this sum."""
_LEAST_SPREAD, _MOST_SPREAD = 0.01, 1.0
_ENOUGH_LATER = 2
"""Durations of ranges that did not start first, by which those that are left are judged: what environments do
at first besides their start, such as to compile, is not known, and in none of these."""
_SOON = 0.1
"""Part of the ranges within which there are so many; where more run at once, the first ones have to do."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_SHORTEST_S = 1e-3


def of(progress: Progress, now_s: float, slots: int) -> float | None:
    """Estimate the seconds until the ranges of a run are done; None as long as too little is known.

    Parameters
    ----------
    progress
        How far the run is.
    now_s
        By the clock of the ledger.
    slots
        How many of its ranges run at once.
    """
    n_ranges, done = progress.report.ranges, progress.ranges_done
    left_over = max(0, done - len(progress.ended_s))
    if done >= n_ranges:
        return None
    return left_s(
        progress.begun_s,
        progress.ended_s,
        now_s,
        n_ranges=n_ranges - left_over,
        slots=slots,
        start_s=progress.start_s,
    )


def left_s(
    begun_s: Sequence[float],
    ended_s: Sequence[float],
    now_s: float,
    *,
    n_ranges: int,
    slots: int,
    start_s: float = 0.0,
) -> float | None:
    """Estimate the seconds until ranges are done, from when they began and ended.

    Ranges are taken to end in the order in which they began. It makes little difference: where many run at
    once they began together, or are one like the other.

    Parameters
    ----------
    begun_s
        When ranges began, in order.
    ended_s
        When ranges ended, in order.
    now_s
        By the same clock.
    n_ranges
        How many ranges the run has.
    slots
        How many run at once.
    start_s
        How long an environment takes to start, by which the first ranges are longer than the others.
    """
    begun_s, ended_s = tuple(begun_s), tuple(ended_s)  # which grow meanwhile
    if not ended_s:
        return None
    done = [end - begin for begin, end in zip(begun_s, ended_s, strict=False)]
    running = [now_s - begin for begin in begun_s[len(done) :]]
    n_first = sum(begin < ended_s[0] for begin in begun_s)
    waiting = max(0, n_ranges - len(begun_s))
    few = len(done) - n_first < _ENOUGH_LATER
    if few and waiting and slots <= n_ranges * _SOON:
        return None
    first, others = running[: max(0, n_first - len(done))], running[max(0, n_first - len(done)) :]
    if few:
        longer = _fitted(done[:n_first], first)
        shorter = _shorter(longer, start_s)
    else:
        longer = shorter = _fitted(done[n_first:], others)
    rests = [*_rests(longer, first), *_rests(shorter, others)]
    return _makespan(rests, _dealt(shorter, waiting), max(1, slots))


def _shorter(durations: NormalDist, seconds: float) -> NormalDist:
    """Return the distribution of durations that are shorter by so many seconds, though not by nearly all."""
    typical_s = math.exp(durations.mean)
    return NormalDist(math.log(max(typical_s - seconds, typical_s / 20)), durations.stdev)


def _fitted(done: Sequence[float], running: Sequence[float]) -> NormalDist:
    """Fit a normal distribution to the logarithms of durations, some of which are only known to be longer.

    The logarithms are a line over the standard scores of the durations, by the estimate of Kaplan and Meier
    of which part is shorter than each.
    """
    scores, logarithms = [], []
    surviving, at_risk = 1.0, len(done) + len(running)
    longer = sorted(running)
    for seconds in sorted(done):
        while longer and longer[0] < seconds:
            longer.pop(0)
            at_risk -= 1
        before, surviving = surviving, surviving * (1 - 1 / at_risk)
        at_risk -= 1
        scores.append(_STANDARD.inv_cdf(1 - (before + surviving) / 2))
        logarithms.append(math.log(max(seconds, _SHORTEST_S)))
    score, logarithm = fmean(scores), fmean(logarithms)
    products = ((x - score) * (y - logarithm) for x, y in zip(scores, logarithms, strict=True))
    squares = ((x - score) ** 2 for x in scores)
    slope = (math.fsum(products) + _SPREAD_WEIGHT * _SPREAD) / (math.fsum(squares) + _SPREAD_WEIGHT)
    spread = min(_MOST_SPREAD, max(_LEAST_SPREAD, slope))
    return NormalDist(logarithm - spread * score, spread)


def _rests(durations: NormalDist, running: Sequence[float]) -> Iterator[float]:
    """Yield how long each range that runs has to go."""
    for index, elapsed in enumerate(running):
        below = durations.cdf(math.log(max(elapsed, _SHORTEST_S)))
        quantile = below + (1 - below) * _spread_out(index, len(running))
        yield max(0.0, _duration(durations, quantile) - elapsed)


def _dealt(durations: NormalDist, n: int) -> Iterator[float]:
    return (_duration(durations, _spread_out(index, n)) for index in range(n))


def _duration(durations: NormalDist, quantile: float) -> float:
    return math.exp(durations.inv_cdf(min(max(quantile, 1e-9), 1 - 1e-9)))


def _spread_out(index: int, n: int) -> float:
    """Return one of ``n`` numbers between 0 and 1 that are spread evenly, in an order that looks random."""
    step = max(1, round(n * _GOLDEN))
    while math.gcd(step, n) != 1:
        step += 1
    return (index * step % n + 0.5) / n


def _makespan(rests: Sequence[float], waiting: Iterator[float], slots: int) -> float:
    """Return when all is done: what waits begins where something ends."""
    free = sorted(rests)
    free += [0.0] * (slots - len(free))
    heapq.heapify(free)
    last = max(free, default=0.0)
    for seconds in waiting:
        end = heapq.heappop(free) + seconds
        heapq.heappush(free, end)
        last = max(last, end)
    return last
