"""Updates come soon, and later on cost a small part of the time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dask_root_lambda.plan.pace import Pace, share


def simulated(n_ranges, range_s, update_s):
    """Let ranges end one by one, show updates when they are due; return when each was shown."""
    pace, shown, now_s, seen = Pace(n_ranges), [], 0.0, 0
    for done in range(1, n_ranges):
        now_s = max(now_s, done * range_s)
        wait_s = pace.wait_s(now_s, done)
        if wait_s < range_s and seen < done:
            began_s = now_s + wait_s
            now_s = began_s + update_s
            pace.showed(began_s, now_s)
            shown.append(now_s)
            seen = done
    return shown


@settings(deadline=None)
@given(n_ranges=st.integers(64, 1000), range_s=st.floats(0.05, 60.0), share_of_range=st.floats(0.01, 0.2))
def test_at_least_five_in_the_first_half(n_ranges, range_s, share_of_range):
    """Where ranges end one by one."""
    shown = simulated(n_ranges, range_s, share_of_range * range_s)
    assert sum(each <= n_ranges * range_s / 2 for each in shown) >= 5


@settings(deadline=None)
@given(update_s=st.floats(0.001, 20.0))
def test_what_they_cost(update_s):
    """However long an update takes, from the ninth on they take no more than a twentieth of the time."""
    shown = simulated(10_000, 0.1, update_s)
    after = shown[8:]
    assert len(after) * update_s <= 0.05 * 1000 + update_s


def test_nothing_is_due_before_something_is_done():
    """The first is due at once when a range is done, the next after as long as the first took."""
    pace = Pace(64)
    assert pace.wait_s(0.0, 1) == 0
    pace.showed(0.0, 2.0)
    assert pace.wait_s(2.0, 30) == 2.0
    assert pace.wait_s(5.0, 30) == 0


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 1000)), st.floats(0, 1))
def test_the_share_of_entries(entries_by_file, part):
    """It is exact when all files have been opened, and from 0 to 1 before."""
    known = sum(entries_by_file.values())
    estimate = share(int(part * known), entries_by_file, n_files=10)
    assert 0 <= estimate <= 1
    if len(entries_by_file) == 10 and known:
        assert estimate == int(part * known) / known


def test_the_share_without_files():
    """Of a number of entries it is exact."""
    assert share(25, {}, n_files=0, entries=100) == 0.25
    assert share(0, {}, n_files=3) == 0
