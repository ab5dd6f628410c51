"""The Dask graph: one annotated layer of ranges, a tree of merges, a key per result."""

from __future__ import annotations

import pytest
from dask.sizeof import sizeof
from dask.utils import key_split
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_root_lambda import graph
from dask_root_lambda.call import Finish, MapRange, Merge, PackedMapper
from dask_root_lambda.graph import Placement
from dask_root_lambda.protocol.task import Body

RUN = "b1f0954a221593573ce35ceac860dd40"


def built(n_ranges=20, n_results=3, fan_in=8, placement=None):
    mapper = PackedMapper(RUN, b"x" * 1000, "digest", n_ranges)
    return graph.build(
        mapper, Finish(RUN, 1, None), n_results, fan_in=fan_in, placement=placement or Placement("lambda")
    )


def functions(layer):
    return {type(task.func) for task in layer.values() if hasattr(task, "func")}


def test_only_the_layer_of_ranges_is_annotated():
    """Merges and the rest run where the worker runs its own tasks."""
    layers = built().graph.layers
    annotated = {name: layer.annotations for name, layer in layers.items() if layer.annotations}
    assert annotated == {f"range-{RUN}": {"executor": "lambda"}}
    assert functions(layers[f"range-{RUN}"]) == {MapRange}


def test_merges_can_be_sent_to_lambda_too():
    """Where merges are placed, they are annotated, and nothing else."""
    layers = built(placement=Placement("lambda", "lambda")).graph.layers
    assert {name for name, layer in layers.items() if layer.annotations} == {f"range-{RUN}", f"merge-{RUN}"}


def test_without_an_executor_nothing_is_annotated():
    """A cluster without the executor runs the same graph on its workers."""
    assert not any(layer.annotations for layer in built(placement=Placement()).graph.layers.values())


@settings(max_examples=30, deadline=None)
@given(n_ranges=st.integers(1, 100), fan_in=st.integers(2, 12))
def test_the_graph_merges_every_range_once(n_ranges, fan_in):
    """Walking down from the merged result meets every range exactly once, in order."""
    run = built(n_ranges, fan_in=fan_in)
    tasks = dict(run.graph)

    def leaves(key):
        task = tasks[key]
        if isinstance(task.func, MapRange):
            return [task.func.index]
        assert isinstance(task.func, Merge)
        assert 2 <= len(task.dependencies) <= fan_in
        return [leaf for item in task.args[0].args for leaf in leaves(item.key)]

    assert leaves(run.merged) == list(range(n_ranges))


def test_the_mapper_is_in_the_graph_once():
    """Ranges hold their index; the mapper is one key that all of them depend on."""
    layers = built(n_ranges=50).graph.layers
    assert len(layers[f"mapper-{RUN}"]) == 1
    assert all(task.dependencies == {f"mapper-{RUN}"} for task in layers[f"range-{RUN}"].values())


def test_names_say_what_runs():
    """Dask's dashboard groups tasks by these names."""
    names = {key_split(key) for key in dict(built(n_ranges=20).graph)}
    assert names == {"mapper", "range", "merge", "finish", "result"}


def test_a_partial_result_is_as_large_as_its_bytes():
    """Dask moves and spills by size: what it is told is true."""
    assert sizeof(Body.of(b"x" * 100_000)) == pytest.approx(100_000, rel=0.01)
    assert sizeof(PackedMapper("run", b"x" * 100_000, "d", 1)) == pytest.approx(100_000, rel=0.01)
