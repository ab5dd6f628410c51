"""Computing a graph, and seeing on the way what its ranges have given.

The tree of merges takes the partial results of ranges as they come. What is shown on the way is merged beside
it, of the same partial results, by steps that are not part of the graph: on a cluster where the partial
results lie, so that only what is shown travels, however large or many they are.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic as _now_s
from typing import Any, Protocol

import dask.local
import dask.multiprocessing
import dask.threaded
from dask.typing import Key
from distributed import Client, Future

from dask_root_lambda.plan.graph import RunGraph
from dask_root_lambda.plan.pace import Pace
from dask_root_lambda.plan.previews import Preview, Previewed, on_worker
from dask_root_lambda.plan.steps import Finish
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import RunCancelledError
from dask_root_lambda.protocol.task import PartialResult
from lambda_runtime.locking import making
from lambda_runtime.runner import SHARED

logger = logging.getLogger(__name__)

_SCHEDULERS = (dask.threaded.get, dask.local.get_sync, dask.multiprocessing.get)
"""Dask's own that tell, in this process, when a task is done."""
_HELD_BYTES = 256_000_000
"""What is kept of partial results for the next update at most, where they are large: more are left out."""

Blobs = tuple[bytes, ...]


class Computation(Protocol):
    """A graph that is being computed."""

    arrived: SimpleQueue[Any]
    """The partial results of ranges as they are done, in a form of its own, and None when all is over."""

    def preview(self, parts: Sequence[Any]) -> Sequence[Previewed]:
        """Merge partial results that have arrived; together the answers have seen what these have."""

    def leave(self, part: Any) -> None:
        """Leave a partial result out that has arrived."""

    def result(self) -> Blobs:
        """Return the results of the graph, or raise what it failed by."""

    def close(self) -> None:
        """End it if it is not over."""


@dataclass(frozen=True)
class Update:
    """What there is of some results of a run that goes on."""

    values: Sequence[Any] | None
    """Mergeable objects, made for this; None while there is nothing yet."""
    entries: int
    """Entries that were processed for them."""
    share: float
    """Part of all entries that these are, from 0 to 1; estimated where not all files have been opened."""


def follow(
    get: Callable[..., Any], graph: RunGraph, step: Preview, finish: Finish
) -> Generator[Update, None, Blobs]:
    """Compute a graph; yield what its ranges have given so far, and return its results.

    The first update comes when the computation has begun, and is empty: the caller opens windows meanwhile.
    An update that fails ends the updates, never the computation.

    Parameters
    ----------
    get
        Of a client, or one of Dask's own schedulers; of others, nothing is seen on the way.
    graph
        What is computed.
    step
        Chooses what is seen.
    finish
        The last step of the graph, which knows the length of the dataset.
    """
    computation = _begun(get, graph, step)
    if computation is None:
        (blobs,) = get(graph.graph, [graph.finished])
        return tuple(blobs)
    try:
        yield Update(None, 0, 0.0)
        yield from _updates(computation, Pace(len(graph.ranges)), finish)
        return computation.result()
    finally:
        computation.close()


def _updates(computation: Computation, pace: Pace, finish: Finish) -> Generator[Update, None, None]:
    waiting: list[Any] = []
    total: PartialResult | None = None
    # How large partial results are is not known before the first update, which comes with the first of them.
    n_done, most = 0, sys.maxsize
    while True:
        with suppress(Empty):
            part = computation.arrived.get(timeout=pace.wait_s(_now_s(), n_done) if waiting else None)
            if part is None:
                return
            n_done += 1
            if len(waiting) < most:
                waiting.append(part)
            else:
                computation.leave(part)
            continue
        began_s = _now_s()
        try:
            added = computation.preview(waiting)
            if added:
                with making:
                    total = SHARED.added(total, (each.blob for each in added))
                most = max(1, _HELD_BYTES // max(each.part_bytes for each in added))
        except Exception as error:  # of a cluster or a store: the run itself tells what is wrong there
            logger.debug("no more partial results are shown: %s", error)
            return
        waiting = []
        if total is not None:
            yield _update(total, finish)
        pace.showed(began_s, _now_s())


def _update(total: PartialResult, finish: Finish) -> Update:
    with making:
        values = wire.copied(total.values)
    return Update(values, total.processed, finish.share(total.processed, total.entries_by_file))


def _begun(get: Callable[..., Any], graph: RunGraph, step: Preview) -> Computation | None:
    client = getattr(get, "__self__", None)
    if isinstance(client, Client):
        return _OnCluster(client, graph, step)
    return _InThread(get, graph, step) if get in _SCHEDULERS else None


class _OnCluster:
    """A graph on a cluster. Futures of its ranges keep their partial results there until they are merged."""

    def __init__(self, client: Client, graph: RunGraph, step: Preview) -> None:
        self.arrived: SimpleQueue[Future[Any] | None] = SimpleQueue()
        self._client = client
        self._step = step
        self._finished, *ranges = client.get(graph.graph, [graph.finished, *graph.ranges], sync=False)
        self._ranges: dict[Key, Future[Any]] = {future.key: future for future in ranges}
        self._finished.add_done_callback(lambda _: self.arrived.put(None))
        for future in ranges:
            future.add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        if future.status == "finished":
            self.arrived.put(future)

    def preview(self, parts: Sequence[Future[Any]]) -> Sequence[Previewed]:
        """See `Computation.preview`: on the workers that hold them, so that only what is seen travels."""
        keys: defaultdict[str, list[Key]] = defaultdict(list)
        for key, holders in self._client.who_has(list(parts)).items():
            for holder in list(holders)[:1]:
                keys[holder].append(key)
        run, step = self._client.run, self._step
        found = [run(on_worker, step, theirs, workers=[holder])[holder] for holder, theirs in keys.items()]
        for future in parts:
            self.leave(future)
        return [each for each in found if each is not None]

    def leave(self, part: Future[Any]) -> None:
        """See `Computation.leave`."""
        self._ranges.pop(part.key).release()

    def result(self) -> Blobs:
        """See `Computation.result`."""
        return tuple(self._client.gather(self._finished))

    def close(self) -> None:
        """Give everything back; what nobody wants any more is ended."""
        for future in (self._finished, *self._ranges.values()):
            future.release()
        self._ranges.clear()


class _InThread:
    """A graph that one of Dask's own schedulers computes, in a thread of its own."""

    def __init__(self, get: Callable[..., Any], graph: RunGraph, step: Preview) -> None:
        self.arrived: SimpleQueue[Any] = SimpleQueue()
        self._step = step
        self._ranges = frozenset(graph.ranges)
        self._closed = False
        self._blobs: Blobs = ()
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._compute, get, graph), daemon=True)
        self._thread.start()

    def _compute(self, get: Callable[..., Any], graph: RunGraph) -> None:
        try:
            (blobs,) = get(graph.graph, [graph.finished], callbacks=[(None, None, None, self._done, None)])
            self._blobs = tuple(blobs)
        except BaseException as error:
            self._error = error
        finally:
            self.arrived.put(None)

    def _done(self, key: Key, value: Any, *_: Any) -> None:
        """Take the value of a task; a scheduler calls this, and ends by what it raises."""
        if self._closed:
            raise RunCancelledError("the run was stopped")
        if key in self._ranges:
            self.arrived.put(value)

    def preview(self, parts: Sequence[Any]) -> Sequence[Previewed]:
        """See `Computation.preview`."""
        return [self._step(parts)]

    def leave(self, part: Any) -> None:
        """See `Computation.leave`: nothing else holds it."""

    def result(self) -> Blobs:
        """See `Computation.result`."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._blobs

    def close(self) -> None:
        """Let it end with the task that is done next."""
        self._closed = True
