"""The results that are booked on a frame: which are computed together, and what becomes of them."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dask.base import get_annotations, get_scheduler
from dask.threaded import get as threaded_get
from distributed import Client

from dask_root_lambda.destination import current_client
from dask_root_lambda.plan import archive, arrivals, unfinished
from dask_root_lambda.plan.graph import RunGraph
from dask_root_lambda.plan.previews import Preview
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Finish, PackedMapper
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    CrashError,
    DamagedBlobError,
    FunctionTimeoutError,
    GraphError,
    IncompleteResultError,
    MissingBlobError,
    OutOfMemoryError,
    RemoteError,
)
from dask_root_lambda.protocol.intervals import Division
from dask_root_lambda.protocol.task import Skipped
from dask_root_lambda.rdf import cuts, distrdf, following, heads, snapshots, values
from dask_root_lambda.rdf.following import Update
from dask_root_lambda.rdf.visualize import Visualization
from lambda_runtime.locking import making

logger = logging.getLogger(__name__)

_TRIES = 2
"""How often a run is made whose partial results are not where they were put."""


class Booked(Protocol):
    """A result that is booked."""

    skipped: tuple[Skipped, ...]
    """What its value does not have, because it could not be read."""

    @property
    def node(self) -> Any:
        """DistRDF's node of its action."""

    @property
    def computed(self) -> bool:
        """Whether its value is here."""

    def keep(self, blob: bytes) -> None:
        """Take the value, as a blob."""

    def GetValue(self) -> Any:  # noqa: N802  (ROOT's name)
        """Return the value."""


@dataclass(frozen=True)
class Failure:
    """Results that failed together, of which nobody knows yet which one it was."""

    nodes: frozenset[int]
    """Numbers of DistRDF's nodes of those that are pending still."""
    of_user: bool
    """Whether the user's code failed. Else the environment ended: by its limits of time or memory."""


def together(asked: int, pending: Set[int], failures: Iterable[Failure]) -> frozenset[int]:
    """Choose the results that are computed in one pass with one that is asked for.

    They are all that are pending, without those that failed before. One that failed by the user's code
    is computed alone; those whose environment ended are tried again as they were.

    Parameters
    ----------
    asked
        Number of the node that is asked for.
    pending
        Numbers of all that are booked and not computed yet.
    failures
        What failed before.
    """
    failed = list(failures)
    own = [failure for failure in failed if asked in failure.nodes]
    if any(failure.of_user for failure in own):
        return frozenset({asked})
    if own:
        return own[-1].nodes
    return frozenset(pending | {asked}).difference(*(failure.nodes for failure in failed))


@dataclass(eq=False)
class Lowering:
    """Results that are computed in one pass, as a Dask graph."""

    space: RunSpace
    graph: RunGraph
    finish: Finish
    division: Division
    places: Mapping[int, int]
    """Number of DistRDF's node -> place among the graph's results."""
    bookings: Bookings
    searching: bool = False
    """Whether the first entries are read only, which may have too few rows for a Display."""
    keep_days: int = 0
    """Days for which the results are kept for later sessions; 0 for not at all."""
    _failed: bool = False
    _remembered: bool = False

    def arrived(self, blobs: Sequence[bytes]) -> None:
        """Keep the values, for the results that wait for one."""
        unfinished.end(self.space)
        if self.searching and not all(wire.loads(blobs[place]).is_full for place in self.places.values()):
            return
        if self.keep_days:
            archive.keep(self.space, blobs, self.keep_days)
        skipped: tuple[Skipped, ...] = wire.loads(blobs[-1]) if len(blobs) > len(self.places) else ()
        for each in skipped:
            logger.warning("%s", each)
        self.bookings.keep({number: blobs[place] for number, place in self.places.items()}, skipped)

    def failed(self, error: BaseException) -> None:
        """Remember it, and what failed together, where that is a reason to compute it apart."""
        self.bookings.last_error, self.bookings.last_division = error, self.division
        if not self._failed:
            self._failed = True
            self.bookings.count_failure(self.space.run)
        if isinstance(error, IncompleteResultError):
            # What it has kept is not to be taken again.
            unfinished.end(self.space)
        # Several threads tell of one failure, and the user may let go of a result meanwhile.
        reason = isinstance(error, RemoteError | CrashError | FunctionTimeoutError | OutOfMemoryError)
        if reason and not self._remembered:
            self._remembered = True
            of_user = isinstance(error, RemoteError | CrashError)
            self.bookings.remember(frozenset(self.places), of_user=of_user)


class Hold:
    """Keeps a node in its graph until it goes; a result has one, and what ROOT's results outlive by.

    Parameters
    ----------
    bookings
        Those of its frame.
    node
        DistRDF's node.
    """

    def __init__(self, bookings: Bookings, node: Any) -> None:
        self._bookings = bookings
        self._node = node

    def __del__(self) -> None:
        self._bookings.release(self._node)


class Bookings:
    """A head node, and the results that are booked on it.

    Parameters
    ----------
    head
        DistRDF's head node.
    client
        Whose cluster computes results that are touched; None is as Dask is configured.
    """

    def __init__(self, head: Any, client: Client | None = None) -> None:
        self.head = head
        self.client = client
        self._results: weakref.WeakKeyDictionary[Booked, Mapping[str, Any]] = weakref.WeakKeyDictionary()
        """Result -> Dask's annotations when it was booked, without the executor."""
        self._lock = threading.Lock()
        """Held to add to the results and to list them: values arrive in threads of Dask's."""
        self._failures: list[Failure] = []
        self._failed_runs: Counter[str] = Counter()
        self._varied: frozenset[int] = frozenset()
        """Numbers of the nodes of cuts whose variations were booked, and are not held any more."""
        self.last_error: BaseException | None = None
        """What the last run that failed was ended by."""
        self.last_division: Division | None = None
        """How that run was divided."""
        self._changes = 0
        self._state: Any = None
        self._lowerings: dict[int, Lowering] = {}

    def add(self, result: Booked) -> None:
        """Book a result, under the annotations that hold now.

        Raises
        ------
        GraphError
            It writes where another does that is booked and not computed yet.
        """
        if snapshots.output(result.node):
            snapshots.check_apart(result.node, [other.node for other in self._pending()])
        annotations = {name: value for name, value in get_annotations().items() if name != "executor"}
        with self._lock:
            self._results[result] = annotations
        self._changes += 1

    def drop(self, result: Booked) -> None:
        """Leave a result out that is no longer wanted, even if something holds it."""
        with self._lock:
            self._results.pop(result, None)
        self.release(result.node)

    def release(self, node: Any) -> None:
        """Leave a result out that the user does not hold any more; DistRDF does so by its flag."""
        node.has_user_references = False
        if cuts.is_variation(node):
            self._varied |= cuts.above(node)
        self._failures = [failure for failure in self._failures if node.node_id not in failure.nodes]
        self._changes += 1

    def keep(self, blobs: Mapping[int, bytes], skipped: tuple[Skipped, ...] = ()) -> None:
        """Give pending results their values, by the numbers of their nodes, and say what these lack."""
        for result in self._pending():
            if result.node.node_id in blobs:
                result.skipped = skipped
                result.keep(blobs[result.node.node_id])
        left = (replace(failure, nodes=failure.nodes - blobs.keys()) for failure in self._failures)
        self._failures = [failure for failure in left if failure.nodes]
        self._changes += 1

    def count_failure(self, run: str) -> None:
        """Count that a run failed: what is lowered next is another try, under other keys."""
        self._failed_runs[run] += 1
        self._changes += 1

    def remember(self, nodes: frozenset[int], *, of_user: bool) -> None:
        """Remember results that failed together."""
        failure = Failure(nodes.intersection(result.node.node_id for result in self._pending()), of_user)
        if failure.nodes and failure not in self._failures:
            self._failures.append(failure)
            self._changes += 1

    def lower(self, asked: Booked) -> Lowering:
        """Lower a result, with those that are computed in the same pass, to a Dask graph.

        Until something changes, the results of one pass get the same graph.
        """
        state = self._changes, self._listed(), distrdf.surroundings(self.head, self.client)
        if state != self._state:
            self._state, self._lowerings = state, {}
        number = asked.node.node_id
        if number not in self._lowerings:
            group = self.group(asked)
            lowering = self._lower(self._with_variations(group))
            self._lowerings.update((result.node.node_id, lowering) for result in group)
        return self._lowerings[number]

    def group(self, asked: Booked) -> list[Booked]:
        """Return the results that are computed in one pass with one, in booking order."""
        # A run that was stopped may still arrive: the one that is asked for is among them, pending or not.
        pending = {result.node.node_id: result for result in (*self._pending(), asked)}
        numbers = together(asked.node.node_id, pending.keys(), self._failures)
        results = [result for number, result in sorted(pending.items()) if number in numbers]
        return [result for result in results if heads.alike(asked.node, result.node)]

    def change(self) -> None:
        """Lower anew what is computed from now on."""
        self._changes += 1

    def alone(self, asked: Booked) -> tuple[PackedMapper, int]:
        """Pack a result without the others, and tell its place among the results of that run.

        It is divided as the last run that failed was: errors name the ranges of that.
        """
        actions = [result.node for result in self._with_variations([asked])]
        wanted = heads.needed_by_all(actions)
        packed = distrdf.pack_apart(self.head, actions, self.client, wanted, self.last_division)
        return packed.mapper, [node.node_id for node in packed.actions].index(asked.node.node_id)

    def run(self, asked: Booked) -> None:
        """Compute a result, and those of the same pass, and keep their values.

        Raises
        ------
        GraphError
            The client is asynchronous.
        """
        if heads.is_search(asked.node):
            return self._search(asked)
        compute = self._compute if self.head.drawables_dict is None else self._visualize
        for _ in range(_TRIES - 1):
            # What is gone from the store, or damaged there, is computed again, and nothing else.
            with suppress(MissingBlobError, DamagedBlobError):
                return compute(asked)
        return compute(asked)

    def follow(self, asked: Booked, wanted: Sequence[Booked]) -> Iterator[Update]:
        """Compute a result, and those of the same pass; yield on the way what there is of some of them.

        Parameters
        ----------
        asked
            The result that is computed.
        wanted
            Those of its pass that are yielded.

        Raises
        ------
        GraphError
            The client is asynchronous.
        """
        get, lowering = self._get(), self.lower(asked)
        step = Preview(lowering.space, tuple(lowering.places[each.node.node_id] for each in wanted))
        try:
            blobs = yield from following.follow(get, lowering.graph, step, lowering.finish)
        except BaseException as error:
            lowering.failed(error)
            raise
        if not asked.computed:
            lowering.arrived(blobs)

    def together(self, asked: Booked, results: Iterable[Booked]) -> list[Any]:
        """Return those of some results that are computed in one pass with the one that is asked for."""
        places = self.lower(asked).places
        return [result for result in results if result.node.node_id in places]

    def drawn(self, asked: Booked) -> list[Booked]:
        """Return the results that are drawn while one is computed: `LiveVisualize` was called with them."""
        drawables = self.head.drawables_dict or {}
        pending = {result.node.node_id: result for result in self._pending()}
        marked = [pending[number] for number in drawables if number in pending]
        return self.together(asked, marked) if marked else []

    def _visualize(self, asked: Booked) -> None:
        """Compute a result as `run` does, and draw those of its pass that are to be drawn."""
        drawn, drawables = self.drawn(asked), self.head.drawables_dict
        if not drawn:
            return self._compute(asked)
        visualization = Visualization([drawables[result.node.node_id] for result in drawn])
        try:
            for update in self.follow(asked, drawn):
                if update.values is None:
                    visualization.open()
                else:
                    with making:
                        shown = [values.value(each) for each in update.values]
                    visualization.show(shown, update.share)
            visualization.show([result.GetValue() for result in drawn], 1.0)
            self.head.drawables_dict = {
                number: callbacks
                for number, callbacks in drawables.items()
                if number not in {result.node.node_id for result in drawn}
            }
        finally:
            visualization.close()

    def _get(self) -> Callable[..., Any]:
        """Return what computes a graph.

        Raises
        ------
        GraphError
            The client is asynchronous, or Dask is configured to use one and none is open.
        """
        try:
            return get_scheduler(scheduler=self.client) or threaded_get
        except RuntimeError as error:
            if (self.client or current_client()) is None:
                raise GraphError(
                    "Dask is configured to compute with a client (scheduler: dask.distributed), and none is "
                    "open; clients that are not closed in the reverse order of their opening leave it so. "
                    "Open a client, or compute in this process with `dask.config.set(scheduler=None)`"
                ) from error
            raise GraphError(
                "a client that is asynchronous computes a result when it is asked to: "
                "`await client.compute(result)`; Snapshot and AsNumpy are results where they are lazy"
            ) from error

    def _search(self, asked: Booked) -> None:
        """Look for rows among the first entries, and among more where they are too few."""
        wanted = heads.FIRST_SEARCH
        while not asked.computed:
            self._run(asked, self._lower([asked], wanted))
            wanted *= heads.SEARCH_GROWTH

    def _compute(self, asked: Booked) -> None:
        self._run(asked, self.lower(asked))

    def _run(self, asked: Booked, lowering: Lowering) -> None:
        get = self._get()
        try:
            (blobs,) = get(lowering.graph.graph, [lowering.graph.finished])
        except BaseException as error:
            lowering.failed(error)
            raise
        if not asked.computed:
            lowering.arrived(blobs)

    def held(self) -> list[Booked]:
        """Return the results that the user holds, computed or not."""
        with self._lock:
            return list(self._results)

    def _pending(self) -> list[Booked]:
        return [result for result in self.held() if not result.computed]

    def _listed(self) -> tuple[int, ...]:
        """Return the cuts that a report of the frame itself lists, where one is pending."""
        if not any(cuts.is_report_of_frame(result.node) for result in self._pending()):
            return ()
        return tuple(node.node_id for node in cuts.held(self.head))

    def _with_variations(self, results: list[Booked]) -> list[Booked]:
        """Add all variations that are held, computed or not, where a report of the frame lists them."""
        if not any(cuts.is_report_of_frame(result.node) for result in results):
            return results
        cuts.check(self.head, self._varied)
        varied = [result for result in self.held() if cuts.is_variation(result.node)]
        return sorted({*results, *varied}, key=lambda result: int(result.node.node_id))

    def _lower(self, results: Sequence[Booked], wanted: int | None = None) -> Lowering:
        actions = [result.node for result in results]
        # Of annotations that differ the last one holds.
        annotations = {name: value for result in results for name, value in self._results[result].items()}
        searching = wanted is not None
        if wanted is None:
            wanted = heads.needed_by_all(actions)
        lowered = distrdf.lower(self.head, actions, self.client, self._failed_runs, annotations, wanted)
        places = {node.node_id: place for place, node in enumerate(lowered.actions)}
        searching = searching and not lowered.whole
        space, graph, finish = lowered.space, lowered.graph, lowered.finish
        division, keep_days = lowered.division, lowered.keep_days
        lowering = Lowering(space, graph, finish, division, places, self, searching, keep_days)
        arrivals.listen(space.run, lowering)
        return lowering
