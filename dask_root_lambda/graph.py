"""The Dask graph of a run: one layer of ranges, a tree of merges, one key per result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import DataNode, List, Task, TaskRef
from dask.typing import Key

from dask_root_lambda import reduction
from dask_root_lambda.call import Finish, MapRange, Merge, PackedMapper, Select


@dataclass(frozen=True)
class Placement:
    """Which executor of the workers runs what; None is their default."""

    ranges: str | None = None
    merges: str | None = None
    offers: Callable[[str], bool] = lambda _: True
    """Whether the workers that the graph is sent to have an executor."""


@dataclass(frozen=True)
class RunGraph:
    """The graph of a run, and where its results are."""

    graph: HighLevelGraph
    merged: Key
    """Key of the merged partial result, a `Body`."""
    results: tuple[Key, ...]
    """Per action, in booking order, the key of its result: the blob of a mergeable object."""


def build(
    mapper: PackedMapper, finish: Finish, n_results: int, *, fan_in: int, placement: Placement
) -> RunGraph:
    """Build the graph of a run. Only its layer of ranges, and merges where asked, are annotated.

    Parameters
    ----------
    mapper
        Graph and dataset; all ranges depend on it, so it travels to each worker once.
    finish
        Checks the merged result and splits it.
    n_results
        Actions of the graph.
    fan_in
        Partial results merged by one task.
    placement
        Which executors run ranges and merges.
    """
    names = {part: f"{part}-{mapper.run}" for part in ("mapper", "range", "merge", "finish", "result")}
    leaves: list[Key] = [(names["range"], index) for index in range(mapper.n_ranges)]
    ranges = {key: Task(key, MapRange(index), TaskRef(names["mapper"])) for index, key in enumerate(leaves)}
    merges, merged = _merges(names["merge"], mapper.run, leaves, fan_in)
    results: list[Key] = [(names["result"], index) for index in range(n_results)]
    layers = {
        names["mapper"]: MaterializedLayer({names["mapper"]: DataNode(names["mapper"], mapper)}),
        names["range"]: _PlacedLayer(ranges, placement.ranges, placement.offers),
        names["merge"]: _PlacedLayer(merges, placement.merges, placement.offers),
        names["finish"]: MaterializedLayer({names["finish"]: Task(names["finish"], finish, TaskRef(merged))}),
        names["result"]: MaterializedLayer(
            {key: Task(key, Select(index), TaskRef(names["finish"])) for index, key in enumerate(results)}
        ),
    }
    below: dict[str, set[str]] = {
        names["mapper"]: set(),
        names["range"]: {names["mapper"]},
        names["merge"]: {names["range"]},
        names["finish"]: {names["merge"], names["range"]},
        names["result"]: {names["finish"]},
    }
    return RunGraph(HighLevelGraph(layers, below), merged, tuple(results))


def _merges(name: str, run: str, leaves: list[Key], fan_in: int) -> tuple[dict[Key, Task], Key]:
    """Return the tasks of the merge tree, and the key of its root: the leaf itself if there is one."""
    tasks: dict[Key, Task] = {}
    below = leaves
    for level, groups in enumerate(reduction.plan(len(leaves), fan_in)):
        here: list[Key] = []
        for index, group in enumerate(groups):
            inputs = [below[each] for each in group]
            if len(inputs) > 1:
                key = (name, level, index)
                tasks[key] = Task(key, Merge(run), List(*map(TaskRef, inputs)))
                inputs = [key]
            here += inputs
        below = here
    return tasks, below[0]


class _PlacedLayer(MaterializedLayer):
    """A layer annotated with an executor wherever the workers have it.

    A graph may be sent to another cluster than the current one, or than the one it was made for; a worker
    fails a task with an annotation that it does not know. So the annotation is that of when it is sent,
    which pickles it.
    """

    def __init__(self, tasks: dict[Key, Task], executor: str | None, offers: Callable[[str], bool]) -> None:
        self._executor = executor
        self._offers = offers
        super().__init__(tasks)

    @property
    def annotations(self) -> dict[str, str] | None:
        """What Dask is told of these tasks."""
        if self._executor is None or not self._offers(self._executor):
            return None
        return {"executor": self._executor}

    @annotations.setter
    def annotations(self, _: object) -> None:
        """Keep Dask's constructor from setting what is decided later."""

    def __reduce__(self) -> Any:
        return MaterializedLayer, (self.mapping, self.annotations)
