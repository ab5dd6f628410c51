"""The time that a run takes still is within a factor of two after a tenth of its ranges."""

from __future__ import annotations

import heapq
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_root_lambda.execution.remaining import left_s


def simulated(n_ranges, slots, spread, start_s, seed):
    """Run ranges whose durations are log-normal around a second; return when each began and ended."""
    drawn = random.Random(seed)
    free = [0.0] * min(slots, n_ranges)
    begun, ended = [], []
    for index in range(n_ranges):
        begin = heapq.heappop(free)
        end = begin + math.exp(drawn.gauss(0, spread))
        if index < slots:
            end += start_s * drawn.uniform(0.9, 1.1)
        begun.append(begin)
        ended.append(end)
        heapq.heappush(free, end)
    return sorted(begun), sorted(ended)


def estimated(begun, ended, n_done, slots, start_s):
    """Return the estimate when so many ranges are done, as a multiple of the truth."""
    now = ended[n_done - 1]
    known = [begin for begin in begun if begin <= now]
    estimate = left_s(known, ended[:n_done], now, n_ranges=len(begun), slots=slots, start_s=start_s)
    return estimate / (ended[-1] - now)


@settings(deadline=None)
@given(
    n_ranges=st.integers(64, 2000),
    at_once=st.floats(0.001, 0.2),
    spread=st.floats(0.0, 0.35),
    start_s=st.sampled_from([0.0, 0.5, 5.0]),
    seed=st.integers(0, 1000),
)
def test_within_a_factor_of_two_after_a_tenth(n_ranges, at_once, spread, start_s, seed):
    """Where ranges run one after the other in each slot, whatever their number and their spread."""
    slots = max(1, round(n_ranges * at_once))
    begun, ended = simulated(n_ranges, slots, spread, start_s, seed)
    n_done = math.ceil(n_ranges / 10)
    if slots <= n_ranges / 10:
        # It may be the one or other range later: what began first may have compiled only.
        n_done = max(n_done, slots + 2)
    assert 0.5 <= estimated(begun, ended, n_done, slots, start_s) <= 2


@pytest.mark.parametrize("spread", [0.1, 0.2, 0.3])
def test_where_all_ranges_run_at_once(spread):
    """Though the first that are done are the shortest, most estimates are within a factor of two."""
    ratios = []
    for seed in range(50):
        begun, ended = simulated(200, 1000, spread, 3.0, seed)
        ratios.append(estimated(begun, ended, 20, 1000, 3.0))
    assert sum(0.5 <= ratio <= 2 for ratio in ratios) >= 35


def test_the_ends_of_a_run():
    """Nothing is known before the first range is done, and nothing is left after the last."""
    assert left_s([0.0, 0.0], [], 1.0, n_ranges=9, slots=2) is None
    assert left_s([0.0, 0.0, 1.0], [1.0], 1.0, n_ranges=99, slots=2) is None, "it may have compiled only"
    assert left_s([0.0, 0.0], [1.0, 1.1], 1.1, n_ranges=2, slots=2) == 0.0


def test_ranges_that_take_no_time():
    """Ranges that are empty, or were computed before, are done at once."""
    assert left_s([0.0] * 20, [0.0] * 10, 0.0, n_ranges=20, slots=2) < 1.0
