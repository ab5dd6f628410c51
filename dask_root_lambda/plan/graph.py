"""The Dask graph of a run: its ranges, a tree of merges, and the check that ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import DataNode, List, Task, TaskRef
from dask.tokenize import tokenize
from dask.typing import Key

from dask_root_lambda.plan import reduction
from dask_root_lambda.plan.steps import Finish, Merge, PackedMapper
from dask_root_lambda.protocol.intervals import Interval

PREFIX = "rdf-"
"""What the keys of all tasks of runs begin with: others name tasks ``range-...`` and ``merge-...``, too."""

_Part = tuple[Key, Interval]
"""The key of a partial result, and what it has seen."""


@dataclass(frozen=True)
class RunGraph:
    """The graph of a run, and where its results are."""

    graph: HighLevelGraph
    merged: Key
    """Key of the merged partial result, a `Body`."""
    finished: Key
    """Key of the results: per action, in booking order, the blob of a mergeable object."""
    ranges: tuple[Key, ...]
    """Keys of the partial results of its ranges, each a `Body`."""


def build(
    mapper: PackedMapper,
    finish: Finish,
    *,
    fan_in: int,
    merge_on_lambda: bool = False,
    failures: int = 0,
    annotations: Mapping[str, Any] | None = None,
) -> RunGraph:
    """Build the graph of a run.

    Nothing in it says where a step runs: that is decided by the worker that it comes to, which may have the
    executor or not; see `dask_root_lambda.gateway.LambdaPlugin`.

    Parameters
    ----------
    mapper
        Graph and dataset; all ranges depend on it, so it travels to each worker once.
    finish
        Checks the merged result and splits it.
    fan_in
        Partial results merged by one task.
    merge_on_lambda
        Whether workers that have the executor merge there as well.
    failures
        How often the run has failed. It has other keys then: an error under one of its keys may still be on
        its way to Dask's scheduler, which would take it for that of the new try.
    annotations
        Dask's annotations of all its tasks.
    """
    run = task_name(mapper, failures)
    name, finished = f"{PREFIX}mapper-{run}", finish_key(run)
    leaves: list[_Part] = [(range_key(run, each.index), each.interval) for each in mapper.ranges]
    merge = Merge(mapper.space, mapper.division[0], on_lambda=merge_on_lambda)
    merges, merged = _merges(f"{PREFIX}merge-{run}", merge, leaves, fan_in)
    tasks: dict[Key, Any] = {
        name: DataNode(name, mapper),
        **{key: Task(key, step, TaskRef(name)) for (key, _), step in zip(leaves, mapper.ranges, strict=True)},
        **merges,
        finished: Task(finished, finish, TaskRef(merged)),
    }
    # One layer: Dask goes through the layers of every collection that it computes, and each result is one.
    layer = f"run-{run}"
    graph = HighLevelGraph({layer: MaterializedLayer(tasks)}, {layer: set()})
    # Not those that hold here, which Dask takes of itself: it adds those that hold where it computes.
    graph.layers[layer].annotations = dict(annotations or {}) or None
    return RunGraph(graph, merged, finished, tuple(key for key, _ in leaves))


def of_known(mapper: PackedMapper, blobs: tuple[bytes, ...]) -> RunGraph:
    """Build the graph of a run whose results are known: nothing is left to run.

    Parameters
    ----------
    mapper
        Names the run.
    blobs
        Its results, as a run gives them.
    """
    finished = f"{PREFIX}kept-{task_name(mapper)}"
    layer: dict[Key, Any] = {finished: DataNode(finished, blobs)}
    return RunGraph(
        HighLevelGraph({finished: MaterializedLayer(layer)}, {finished: set()}), finished, finished, ()
    )


def task_name(mapper: PackedMapper, failures: int = 0) -> str:
    """Name the tasks of a try of a run: those of another division, or of the next try, are others."""
    return str(tokenize(mapper.run, [str(interval) for interval in mapper.division], failures))


def range_key(run: str, index: int) -> tuple[str, int]:
    """Return the key of a range, by the name of its run's tasks and its number from 0."""
    return f"{PREFIX}range-{run}", index


def finish_key(run: str) -> str:
    """Return the key of the last task of a run, by the name of its tasks."""
    return f"{PREFIX}finish-{run}"


def run_of(finish: str) -> str:
    """Return the name of the tasks of a run, by the key of the last one."""
    return finish.removeprefix(finish_key(""))


def _merges(name: str, merge: Merge, leaves: list[_Part], fan_in: int) -> tuple[dict[Key, Task], Key]:
    """Return the tasks of the merge tree, and the key of its root: the leaf itself if there is one."""
    tasks: dict[Key, Task] = {}
    below = leaves
    for level, groups in enumerate(reduction.plan(len(leaves), fan_in)):
        here: list[_Part] = []
        for index, group in enumerate(groups):
            inputs = [below[each] for each in group]
            part = inputs[0]
            if len(inputs) > 1:
                interval = Interval(inputs[0][1].start, inputs[-1][1].stop)
                part = (name, level, index), interval
                step = replace(merge, interval=interval)
                tasks[part[0]] = Task(part[0], step, List(*(TaskRef(key) for key, _ in inputs)))
            here.append(part)
        below = here
    return tasks, below[0][0]
