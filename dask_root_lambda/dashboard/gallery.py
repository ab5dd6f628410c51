"""The results that the page draws, as a scheduler has them: while runs go on, and when they are done.

Of a run that goes on, what its ranges and merges have given lies on workers. The scheduler knows where, and
has it merged beside the run while somebody looks. Nothing is kept for that, and nothing done for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dask._expr import ProhibitReuse
from distributed.protocol.pickle import dumps

from dask_root_lambda.dashboard import finished
from dask_root_lambda.dashboard.looking import Looking
from dask_root_lambda.dashboard.shapes import Shape
from dask_root_lambda.plan import graph
from dask_root_lambda.plan.pace import Pace
from dask_root_lambda.plan.previews import Preview
from dask_root_lambda.plan.steps import Finish, MapRange, Merge
from dask_root_lambda.protocol import wire

logger = logging.getLogger(__name__)

_PERIOD_S = 0.5
_ANSWER_S = 60.0
"""How long a worker may take: partial results may lie in a store."""
_COST_SHARE = 0.01
"""Part of the time of a run that its pictures may take, after the first few."""
_RUNS_AT_ONCE = 3
"""Runs that go on of which pictures are made: those that began last."""
_RUNS_KEPT = 8
_LATE_S = 5.0
"""How much later than a worker the scheduler may know that a run is done."""
_KNOWN = 256
"""Results that are not asked for again; several workers keep a few each."""
MOST_PICTURES = 8
"""Most pictures that the page shows, of all runs together."""


@dataclass(frozen=True)
class Picture:
    """A result, as far as it is computed."""

    run: str
    """Key of the last task of its run."""
    name: str
    share: float
    """Part of the entries that are in it, from 0 to 1."""
    complete: bool
    """Whether it is the result."""
    shape: Shape

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**vars(self), "shape": self.shape.plain()}


@dataclass
class _Live:
    """A run that goes on."""

    state: Any
    """The scheduler's state of its last task: of a run that is computed again, it is another."""
    pace: Pace
    seen: frozenset[Any] = frozenset()
    """Keys of the partial results in its pictures."""
    processed: int = 0
    over_s: float = -math.inf
    """When its results came. Where the run goes on long after, they were those of the time before."""


class Gallery:
    """What there is of the results of the last runs.

    Parameters
    ----------
    scheduler
        Dask's scheduler, on whose event loop everything here happens.
    workers
        Returns the addresses of those that have the executor.
    """

    def __init__(self, scheduler: Any, workers: Callable[[], list[str]]) -> None:
        self._scheduler = scheduler
        self._workers = workers
        self._pictures: dict[str, tuple[Picture, ...]] = {}
        """Pictures of each run; runs are in the order in which they were first seen."""
        self._live: dict[str, _Live] = {}
        self._known: deque[str] = deque(maxlen=_KNOWN)
        """Names of the results that workers have told."""
        self._asking = asyncio.Lock()
        self._looking = Looking(self._ask_on, _PERIOD_S)

    def look(self) -> list[Picture]:
        """Return the pictures, those of the latest runs first, and have them made for a while."""
        self._looking.look()
        return self.pictures()

    def pictures(self) -> list[Picture]:
        """Return the pictures that there are."""
        latest = [picture for run in reversed(self._pictures.values()) for picture in run]
        return latest[:MOST_PICTURES]

    def close(self) -> None:
        """Ask no more."""
        self._looking.close()

    async def ask(self) -> list[Picture]:
        """Have the workers asked for what is new, where that is due, and return the pictures."""
        async with self._asking:
            workers = self._workers()
            live = dict(self._runs()) if workers else {}
            for key in live.keys() & self._pictures.keys() - self._live.keys():
                # It is computed again, and the latest now.
                self._pictures[key] = self._pictures.pop(key)
            self._live = {key: self._of(key, state) for key, state in live.items()}
            for key, state in live.items():
                with _of_others():
                    await self._ask_for(key, state, workers)
            for worker in workers:
                with _of_others():
                    await self._ask_for_finished(worker)
        return self.pictures()

    async def _ask_on(self) -> float:
        await self.ask()
        return _PERIOD_S

    def _runs(self) -> Iterator[tuple[str, Any]]:
        """Yield key and state of the last tasks of the runs that go on and have something to draw."""
        prefix, tasks, found = f"{graph.PREFIX}range-", self._scheduler.tasks, 0
        for name in reversed(list(self._scheduler.task_groups)):
            if not name.startswith(prefix) or found == _RUNS_AT_ONCE:
                continue
            key = graph.finish_key(name.removeprefix(prefix))
            state = tasks.get(key)
            step = _step(state)
            if isinstance(step, Finish) and step.drawn and state.state not in ("memory", "erred"):
                found += 1
                yield key, state

    def _of(self, key: str, state: Any) -> _Live:
        known = self._live.get(key)
        return known if known is not None and known.state is state else _Live(state, self._pace(key))

    def _pace(self, key: str) -> Pace:
        return Pace(sum(self._group(key).states.values()), _COST_SHARE)

    def _group(self, key: str) -> Any:
        return self._scheduler.task_groups[graph.range_key(graph.run_of(key), 0)[0]]

    async def _ask_for(self, key: str, state: Any, workers: list[str]) -> None:
        """Renew the pictures of a run that goes on, if that is due and there is more in them."""
        live, began_s = self._live[key], time.monotonic()
        states = self._group(key).states
        n_done = states["memory"] + states["released"] + states["forgotten"]
        if began_s < live.over_s + _LATE_S or live.pace.wait_s(began_s, n_done) > 0:
            return
        parts = _frontier(state)
        keys = frozenset(part.key for part in parts)
        if not keys or keys == live.seen:
            return
        try:
            partial = await self._merged(_step(state), parts, workers)
        finally:
            live.pace.showed(began_s, time.monotonic())
        # A part that was merged meanwhile is not where it was: then there would be less to see than before.
        if partial is None or partial.processed <= live.processed:
            return
        live.seen, live.processed = keys, partial.processed
        finish = _step(state)
        share = finish.share(partial.processed, partial.entries_by_file)
        self._keep(key, [name for _, name in finish.drawn], partial.shapes, share, complete=False)

    async def _merged(self, finish: Finish, parts: list[Any], workers: list[str]) -> finished.Partial | None:
        preview = dumps(Preview(finish.space, tuple(place for place, _ in finish.drawn)))
        held: dict[str, list[Any]] = {}
        for part in parts:
            holders = (holder.address for holder in part.who_has or ())
            if (holder := next((each for each in holders if each in workers), None)) is not None:
                held.setdefault(holder, []).append(part.key)
        calls = [
            self._call(holder, finished.PARTIAL_OPERATION, preview=preview, keys=keys)
            for holder, keys in held.items()
        ]
        blobs = [blob for blob in await asyncio.gather(*calls) if blob is not None]
        if not blobs:
            return None
        blob = await self._call(next(iter(held)), finished.SHAPES_OPERATION, blobs=blobs)
        return wire.loads_as(finished.Partial, blob)

    async def _ask_for_finished(self, worker: str) -> None:
        told = await self._call(worker, finished.FINISHED_OPERATION, known=list(self._known))
        for name, each in (wire.loads_as(dict, told) if told is not None else {}).items():
            self._known.append(name)
            if each.run in self._live:
                self._live[each.run].over_s = time.monotonic()
            else:
                self._pictures.pop(each.run, None)
            self._keep(each.run, each.names, each.shapes, 1.0, complete=True)

    async def _call(self, worker: str, operation: str, **message: Any) -> Any:
        return await asyncio.wait_for(getattr(self._scheduler.rpc(worker), operation)(**message), _ANSWER_S)

    def _keep(self, key: str, names: Any, shapes: Any, share: float, *, complete: bool) -> None:
        self._pictures[key] = tuple(
            Picture(key, name, share, complete, shape) for name, shape in zip(names, shapes, strict=True)
        )
        while len(self._pictures) > _RUNS_KEPT:
            del self._pictures[next(iter(self._pictures))]


@contextmanager
def _of_others() -> Iterator[None]:
    """Let what fails in the block cost one picture, and no more: a run itself tells what is wrong with it."""
    try:
        yield
    except Exception as error:  # of a worker, a store, or what a user's class raises
        logger.debug("a result is not shown: %r", error)


def _frontier(finish: Any) -> list[Any]:
    """Return the tasks whose values are there, and together are all that there is, each part once.

    A merge has what its inputs had, which may be there still: they are not looked at.
    """
    found, waiting = [], [finish]
    while waiting:
        for state in waiting.pop().dependencies:
            step = _step(state)
            if isinstance(step, MapRange | Merge) and state.state == "memory":
                found.append(state)
            elif isinstance(step, Merge):
                waiting.append(state)
    return found


def _step(state: Any) -> Any:
    """Return the function of a task; of one that Dask has wrapped, its own."""
    task = getattr(state, "run_spec", None)
    function = getattr(task, "func", None)
    if task is not None and function is ProhibitReuse._identity:
        return getattr(task.args[0], "func", None)
    return function
