"""Intervals: names that survive, divisions without gaps, unions in which nothing counts twice."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dask_root_lambda.protocol.errors import IncompleteResultError
from dask_root_lambda.protocol.intervals import Interval, divided, divided_entries, joined, union


def whole(length):
    return (Interval(Fraction(0), Fraction(length)),)


@given(st.fractions(0, 1000), st.fractions(0, 1000))
def test_a_name_survives(one, other):
    """What is read of a name is the interval; the name is a part of a key of a store."""
    interval = Interval(*sorted((one, other)))
    assert Interval.parse(str(interval)) == interval
    assert not set(str(interval)) - set("0123456789_-")


@pytest.mark.parametrize("name", ["", "1", "2-1", "1-2-3", "a-b", "-1-2", "1_0-2"])
def test_what_is_no_interval(name):
    """Anything else is an error."""
    with pytest.raises((ValueError, ZeroDivisionError)):
        Interval.parse(name)


@given(st.integers(1, 500), st.integers(1, 500))
def test_a_division_of_files_has_no_gap(files, parts):
    """There are as many parts as asked for, of one length, and together they are the whole."""
    division = divided(files, parts)
    assert {part.stop - part.start for part in division} == {Fraction(files, parts)}
    assert len(division) == parts
    assert union(division) == whole(files)


@given(st.integers(0, 500), st.integers(1, 500))
@example(0, 3)
def test_a_division_of_entries_has_whole_ones(entries, parts):
    """No part has a half entry, or one more than another has, and none is empty unless all are."""
    division = divided_entries(entries, parts)
    sizes = {part.stop - part.start for part in division}
    assert all(size.denominator == 1 for size in sizes)
    assert max(sizes) - min(sizes) <= 1
    assert len(division) == max(1, min(parts, entries))
    assert union(division) == whole(entries)


@given(st.data())
def test_a_union_takes_any_order(data):
    """Parts that are united one by one, in any order, are the whole once all are there, and not before."""
    parts = list(divided(3, data.draw(st.integers(2, 30))))
    shuffled = data.draw(st.permutations(parts))
    united = ()
    for part in shuffled:
        assert united != whole(3)
        united = union((*united, part))
    assert united == whole(3)


@given(st.integers(2, 30), st.data())
def test_nothing_is_united_twice(n_parts, data):
    """A part that is there already, or overlaps with one that is, is an error."""
    parts = divided(3, n_parts)
    again = data.draw(st.sampled_from([*parts, Interval(Fraction(1, 100), Fraction(5, 2))]))
    with pytest.raises(IncompleteResultError, match="would count twice"):
        union((*parts, again))


def test_an_empty_dataset_is_counted_once():
    """So is the one range of a dataset without entries."""
    (part,) = divided_entries(0, 1)
    with pytest.raises(IncompleteResultError):
        union((part, part))


@given(st.integers(1, 6), st.integers(1, 60), st.data())
def test_joined_intervals_read_the_same_and_none_reads_nothing(files, parts, data):
    """Joining leaves the dataset whole; what is read in stays apart; some stay as asked."""
    division = divided(files, parts)
    read_in = set(data.draw(st.lists(st.sampled_from(division))))
    kept = set(data.draw(st.lists(st.sampled_from(division), max_size=2)))
    result = joined(division, lambda each: each not in read_in, kept)
    assert union(result) == whole(files)
    assert kept <= set(result)

    def read(interval):
        return [each for each in read_in if interval.start <= each.start and each.stop <= interval.stop]

    assert all(len(read(interval)) <= 1 for interval in result)
    if not kept:
        assert len(result) == max(1, len(read_in))
