"""The merge tree takes every leaf once, in order."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.plan.reduction import plan


@given(n_leaves=st.integers(1, 2000), fan_in=st.integers(2, 40))
def test_every_leaf_is_merged_once_and_in_order(n_leaves, fan_in):
    """Following the plan on lists keeps the leaves' order and loses or repeats none."""
    values = [[leaf] for leaf in range(n_leaves)]
    for level in plan(n_leaves, fan_in):
        values = [list(chain.from_iterable(values[index] for index in group)) for group in level]
    assert values == [list(range(n_leaves))]


@given(n_leaves=st.integers(2, 2000), fan_in=st.integers(2, 40))
def test_groups_are_small_and_balanced(n_leaves, fan_in):
    """No group is larger than the fan-in; those of a level differ by one at most."""
    for level in plan(n_leaves, fan_in):
        sizes = [len(group) for group in level]
        assert max(sizes) <= fan_in
        assert max(sizes) - min(sizes) <= 1


@given(n_leaves=st.integers(2, 2000), fan_in=st.integers(2, 40))
def test_the_tree_is_no_deeper_than_needed(n_leaves, fan_in):
    """The depth is the logarithm of the leaves to the base of the fan-in, rounded up."""
    depth, reach = 0, 1
    while reach < n_leaves:
        depth, reach = depth + 1, reach * fan_in
    assert len(plan(n_leaves, fan_in)) == depth


def test_one_leaf_needs_no_merge():
    """A single partial result is the result."""
    assert plan(1, 8) == []


@pytest.mark.parametrize(("n_leaves", "fan_in"), [(0, 8), (-1, 8), (10, 1), (10, 0)])
def test_nonsense_is_refused(n_leaves, fan_in):
    """No leaves, or a fan-in that merges nothing, cannot be planned."""
    with pytest.raises(ValueError, match="cannot merge"):
        plan(n_leaves, fan_in)
