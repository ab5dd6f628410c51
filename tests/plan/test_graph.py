"""The Dask graph: ranges, a tree of merges, and the check of what they add up to."""

from __future__ import annotations

import itertools

import pytest
from dask.sizeof import sizeof
from dask.utils import key_split
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_root_lambda.plan import graph
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Finish, MapRange, Merge
from dask_root_lambda.protocol.intervals import union
from dask_root_lambda.protocol.task import Body
from tests.invokers import KEY, packed_mapper

FINISH = Finish(RunSpace("run", KEY, "session"), 3, None)
RUN = "b1f0954a221593573ce35ceac860dd40"


def built(n_ranges=20, fan_in=8):
    mapper = packed_mapper(RUN, b"x" * 1000, n_ranges=n_ranges)
    return graph.build(mapper, Finish(mapper.space, n_ranges, None), fan_in=fan_in)


def test_nothing_is_annotated():
    """The same graph goes to any cluster: its workers know where to run what."""
    assert not any(layer.annotations for layer in built().graph.layers.values())


@settings(max_examples=30, deadline=None)
@given(n_ranges=st.integers(1, 100), fan_in=st.integers(2, 12))
def test_the_graph_merges_every_range_once(n_ranges, fan_in):
    """Walking down from the merged result meets every range exactly once, in order."""
    run = built(n_ranges, fan_in=fan_in)
    tasks = dict(run.graph)

    def leaves(key):
        task = tasks[key]
        if isinstance(task.func, MapRange):
            return [task.func]
        assert isinstance(task.func, Merge)
        assert 2 <= len(task.dependencies) <= fan_in
        below = [leaf for item in task.args[0].args for leaf in leaves(item.key)]
        assert union(leaf.interval for leaf in below) == (task.func.interval,)
        return below

    assert [leaf.index for leaf in leaves(run.merged)] == list(range(n_ranges))


def test_the_mapper_is_in_the_graph_once():
    """Ranges hold their index; the mapper is one key that all of them depend on."""
    tasks = dict(built(n_ranges=50).graph)
    ranges = [task for task in tasks.values() if isinstance(getattr(task, "func", None), MapRange)]
    assert len(ranges) == 50
    assert {key_split(key) for task in ranges for key in task.dependencies} == {"rdf-mapper"}
    assert len({key for task in ranges for key in task.dependencies}) == 1


def test_another_division_or_try_has_other_keys():
    """Dask does not take a range for that of the same number of another division, or of the try before."""
    graphs = [built(20), built(10), graph.build(packed_mapper(RUN), FINISH, fan_in=8, failures=1)]
    graphs += [graph.build(packed_mapper(RUN), FINISH, fan_in=8)]
    keys = [set(dict(each.graph)) for each in graphs]
    assert not any(one & other for one, other in itertools.combinations(keys, 2))


def test_no_key_of_a_seal_is_shown():
    """What Dask logs and shows of a task, its functions and arguments, does not have the key in it."""
    shown = repr([list(dict(built().graph).values()), built().graph])
    assert "RunSpace" in shown
    assert repr(KEY)[2:-1] not in shown


def test_names_say_what_runs():
    """Dask's dashboard groups tasks by these names."""
    names = {key_split(key) for key in dict(built(n_ranges=20).graph)}
    assert names == {"rdf-mapper", "rdf-range", "rdf-merge", "rdf-finish"}


def test_a_partial_result_is_as_large_as_its_bytes():
    """Dask moves and spills by size: what it is told is true."""
    assert sizeof(Body.of(b"x" * 100_000)) == pytest.approx(100_000, rel=0.01)
    assert sizeof(packed_mapper("run", b"x" * 100_000)) == pytest.approx(100_000, rel=0.01)
