"""What is foreseen of a run stays within what is possible, and ends at what was spent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.cost.forecast import forecast

seconds = st.floats(0.01, 900)
several = st.lists(seconds, max_size=50)


@given(st.integers(0, 2000), st.lists(seconds, min_size=1, max_size=50), several, st.integers(0, 1000))
def test_time_is_at_least_the_work_over_the_slots(left, done_s, running_s, slots):
    """No run ends before its last range, nor sooner than all slots together could do it; one slot adds up."""
    running_s = running_s[:left]
    least_s, most_s = min(done_s) / 10, left * max(done_s)
    left_s = forecast(left, done_s, running_s, slots, 1.0).left_s
    assert left_s >= 0
    assert left_s <= most_s * (1 + 1e-9)
    if left:
        assert left_s >= least_s * (1 - 1e-9)
    waiting = left - len(running_s)
    assert left_s >= waiting * min(done_s) / max(1, slots) * (1 - 1e-9)


@given(st.lists(seconds, min_size=1, max_size=50), st.floats(0, 100))
def test_at_the_end_nothing_is_foreseen(done_s, usd):
    """When no range is left, no time is, and the cost is what was spent."""
    foreseen = forecast(0, done_s, [], 8, usd)
    assert (foreseen.left_s, foreseen.usd) == (0.0, usd)


@given(st.integers(0, 500), st.lists(seconds, min_size=1, max_size=50), several, st.integers(1, 1000))
def test_more_slots_and_fewer_ranges_are_never_slower(left, done_s, running_s, slots):
    """One slot more does not add time, and neither does one range less that waits."""
    running_s = running_s[:left]
    now = forecast(left, done_s, running_s, slots, 1.0)
    assert forecast(left, done_s, running_s, slots + 1, 1.0).left_s <= now.left_s * (1 + 1e-9)
    more = forecast(left + 1, done_s, running_s, slots, 1.0)
    assert more.left_s >= now.left_s * (1 - 1e-9)
    assert more.usd >= now.usd


@given(st.integers(1, 100), st.integers(1, 100), seconds, st.integers(1, 64), st.floats(0, 10))
def test_equal_ranges_are_foreseen_exactly(done, left, each_s, slots, usd):
    """If all ranges take as long and cost as much, the time is rounds of slots, at most one round off."""
    foreseen = forecast(left, [each_s] * done, [], slots, usd)
    rounds = math.ceil(left / slots)
    assert (rounds - 1) * each_s <= foreseen.left_s + 1e-9
    assert foreseen.left_s <= rounds * each_s * (1 + 1e-9)
    assert foreseen.usd == pytest.approx(usd * (done + left) / done)


def test_nothing_is_known_before_the_first():
    """Before a range is done there is no forecast."""
    assert forecast(10, [], [1.0], 4, 0.0) is None


def test_the_first_ranges_start_environments():
    """Two slow ones among seven do not make the rest slow."""
    assert forecast(20, [12.0, 11.0, *[1.0] * 5], [], 2, 0.1).left_s == 10.0
