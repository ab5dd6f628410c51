"""Which parts of a dataset are run first, and how the rest is divided around them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from dask_root_lambda.plan import sampling
from dask_root_lambda.protocol.intervals import Interval, divided

LENGTHS = st.integers(1, 3000)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 100_000))
def test_samples_are_disjoint_and_few(length, clusters):
    """At most eight, and at most a half of the dataset unless it has one cluster."""
    plan = sampling.chosen(length, clusters)
    samples = plan.intervals
    assert 1 <= len(samples) <= 8
    assert all(one.stop <= other.start for one, other in pairwise(samples))
    assert samples[0].start >= 0
    assert samples[-1].stop <= length
    covered = sum(each.stop - each.start for each in samples)
    assert covered <= length / 2 or clusters == 1


@settings(deadline=None)
@given(LENGTHS, st.integers(50, 100_000))
def test_samples_differ_in_size(length, clusters):
    """Of a dataset with clusters enough, some are larger: what is fixed is told from what grows."""
    sizes = {each.stop - each.start for each in sampling.chosen(length, clusters).then}
    assert len(sizes) == 2


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 5000), st.integers(1, 2000))
def test_the_rest_is_divided_around_them(length, clusters, n_ranges):
    """The division covers the dataset without gaps, and each sample is one of its ranges."""
    samples = sampling.chosen(length, clusters).intervals
    division = sampling.around(samples, length, n_ranges)
    assert division[0].start == 0
    assert division[-1].stop == length
    assert all(one.stop == other.start for one, other in pairwise(division))
    assert all(each.start < each.stop for each in division)
    assert set(samples) <= set(division)


@settings(deadline=None)
@given(LENGTHS, st.integers(100, 2000))
def test_about_as_many_as_asked_for(length, n_ranges):
    """Of a large number of ranges, a few more or less."""
    samples = sampling.chosen(length, 10_000).intervals
    assert abs(len(sampling.around(samples, length, n_ranges)) - n_ranges) <= 9


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 500))
def test_samples_of_a_division(length, n_ranges):
    """Samples of a division that is decided are ranges of it, each once."""
    division = divided(length, n_ranges)
    plan = sampling.of_division(division)
    assert set(plan.intervals) <= set(division)
    assert len(set(plan.intervals)) == len(plan.intervals) <= max(1, n_ranges // 2)


def test_one_cluster():
    """All of a dataset that cannot be divided is the sample."""
    assert sampling.chosen(1, 1).intervals == (Interval(Fraction(0), Fraction(1)),)
