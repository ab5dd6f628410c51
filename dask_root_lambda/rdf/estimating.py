"""What results are going to take and cost, by running a few ranges of them first."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dask.task_spec import DataNode, Task, TaskRef
from dask.typing import Key
from distributed import Client, Worker

from dask_root_lambda import destination
from dask_root_lambda.config import Settings
from dask_root_lambda.cost.estimate import Estimate, Rest, Sample, extrapolate, pace
from dask_root_lambda.cost.prices import NO_PRICES, Prices
from dask_root_lambda.gateway import EXECUTOR, GatewayExecutor
from dask_root_lambda.plan import archive, sampling, secret, sizing, unfinished
from dask_root_lambda.plan.graph import PREFIX
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import MapRange, PackedMapper
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError
from dask_root_lambda.protocol.intervals import Division, Interval
from dask_root_lambda.rdf import dataset, heads, packing, snapshots
from dask_root_lambda.rdf.bookings import Bookings
from dask_root_lambda.rdf.frame import Result


def estimate(result: Result) -> Estimate:
    """Estimate what a result costs and takes, with all that is booked on its frame and not computed yet.

    At most eight ranges are run, and paid; their results are kept, and the run takes them. Where the number
    of ranges is left to us, the run is divided around them by what they took.

    Parameters
    ----------
    result
        A result that is not computed yet.

    Returns
    -------
    Estimate
        Cost in USD at list price, wall time in seconds, each with an interval; the number of ranges; the
        recommended memory.

    Raises
    ------
    ConfigurationError
        No client is there whose workers have the executor.
    GraphError
        The result is computed already, was kept by an earlier session or needs the first entries only, the
        client is asynchronous, or a Snapshot would be written.

    Examples
    --------
    >>> h = df.Histo1D(("pt", "", 100, 0, 100), "Muon_pt")
    >>> print(estimate(h))
    >>> h.Draw()
    """
    bookings = result.bookings
    client = _client(bookings.client)
    if result.computed:
        raise GraphError(f"{result!r}: there is nothing left to estimate")
    actions = [each.node for each in bookings.group(result)]
    if any(map(snapshots.output, actions)):
        raise GraphError("samples of a Snapshot would write files: estimate before you book it")
    if any(heads.needed(node) is not None or heads.is_search(node) for node in actions):
        raise GraphError(
            f"{result!r} needs the first entries only: compute it, that is no more than an estimate"
        )
    sampler = _Sampler(bookings, client)
    packed = packing.pack(bookings.head, actions, bookings.head.npartitions, client, sampler.begin)
    try:
        keep_days = Settings.resolve().keep_results_days if packed.repeatable else 0
        if keep_days and archive.find(packed.mapper.space, keep_days) is not None:
            raise GraphError(f"{result!r} was kept by an earlier session: touch it, that costs nothing")
        return sampler.run(packed.mapper)
    finally:
        sampler.active = False
        bookings.change()


def _client(client: Client | None) -> Client:
    client = client or destination.current_client()
    if client is None or not destination.has_executor(client):
        raise ConfigurationError(
            "there is nothing to estimate without a LambdaCluster: make one, and a client of it, first"
        )
    if client.asynchronous:
        raise GraphError("an asynchronous client cannot estimate: use a synchronous one")
    return client


@dataclass(frozen=True)
class _Seen:
    """What an executor tells of a run."""

    samples: tuple[Sample, ...]
    prices: tuple[Prices, ...]


def _seen(run: str, dask_worker: Worker) -> _Seen:
    """Return what a worker's executor tells of a run; distributed calls this on the worker."""
    gateway = dask_worker.executors.get(EXECUTOR)
    if not isinstance(gateway, GatewayExecutor):
        return _Seen((), ())
    ledger = gateway.executor.ledger
    return _Seen(ledger.samples(run), ledger.prices)


def _in_waves(first: Mapping[str, _Seen], both: Mapping[str, _Seen]) -> list[Sample]:
    """Return samples, those of the first wave marked, of what workers told after one wave and after both."""
    n_first = {worker: len(seen.samples) for worker, seen in first.items()}
    marked = [replace(sample, first=True) for seen in first.values() for sample in seen.samples]
    then = (seen.samples[n_first.get(worker, 0) :] for worker, seen in both.items())
    return [*marked, *(sample for samples in then for sample in samples)]


class _Sampler:
    """Runs a few ranges of a graph, and divides the rest around them."""

    def __init__(self, bookings: Bookings, client: Client) -> None:
        self.active = True
        """Whether what it leaves is still its own: then the run may take it."""
        self._head = bookings.head
        self._client = client
        self._slots = destination.slots(client)

    def begin(self, data: dataset.Dataset, graph: str, identity: str) -> tuple[RunSpace, Division, str]:
        """Begin a run of the samples only; see `dask_root_lambda.rdf.packing.pack`."""
        self._data, self._graph = data, graph
        self._user = secret.of_user()
        self._run = self._user.run(identity)
        space = unfinished.begin(self._user, self._run, uuid.uuid4().hex, lambda: self.active)
        # What an earlier estimate has left would tell nothing, as it would not be run.
        space = replace(space, adopted=())
        self._asked = self._head.npartitions
        if self._asked is not None:
            self._division: Division | None = data.divided(self._asked)
        else:
            self._division = unfinished.decided(self._user, self._run)
        if self._division is not None:
            self._plan = sampling.of_division(self._division)
        else:
            self._plan = sampling.chosen(data.length, dataset.clusters(self._head))
        return space, self._plan.intervals, "samples for an estimate"

    def run(self, mapper: PackedMapper) -> Estimate:
        """Run the samples; return the estimate."""
        first = self._measured(mapper, self._plan.first)
        both = self._measured(mapper, self._plan.then) if self._plan.then else first
        samples = _in_waves(first, both)
        rest, why = self._rest(samples)
        prices = [each for seen in both.values() for each in seen.prices]
        return extrapolate(samples, rest, prices[-1] if prices else NO_PRICES, why=why)

    def _measured(self, mapper: PackedMapper, intervals: Sequence[Interval]) -> dict[str, _Seen]:
        """Run ranges at once; return what each worker's executor tells of their run so far."""
        name = f"{PREFIX}sample-{uuid.uuid4().hex}"
        places = {interval: index for index, interval in enumerate(mapper.division)}
        steps: dict[Key, MapRange] = {
            (name, index): MapRange(places[interval], interval) for index, interval in enumerate(intervals)
        }
        graph: dict[Key, Any] = {f"{name}-mapper": DataNode(f"{name}-mapper", mapper)}
        graph |= {key: Task(key, step, TaskRef(f"{name}-mapper")) for key, step in steps.items()}
        self._client.get(graph, list(steps))
        seen: dict[str, _Seen] = self._client.run(_seen, mapper.run)
        return seen

    def _rest(self, samples: Sequence[Sample]) -> tuple[Rest, str]:
        """Divide what was not sampled, where that is left to us, and extrapolate its number of entries."""
        run = self._plan.intervals
        sampled = sum(map(self._data.size, run))
        per_size = sum(each.size for each in samples) / sampled if sampled else 0.0
        left = max(0.0, self._data.whole_size - sampled) * per_size
        if self._division is None:
            division, why = self._divided(samples, left)
        else:
            division = self._division
            begun = f"{len(division):,} ranges, as it was begun before"
            why = begun if self._asked is None else sizing.as_asked(self._asked, len(division))
        n_left = len(division) - len(run)
        return Rest(left, n_left, min(self._slots, max(1, n_left))), why

    def _divided(self, samples: Sequence[Sample], left: float) -> tuple[Division, str]:
        known = pace(samples)
        work_s = known.work_s(left, 1)
        room = max(1, dataset.clusters(self._head) - len(samples))
        choice = sizing.by_work(work_s, self._slots, room, source="samples")
        plan = sampling.around(self._plan.intervals, self._data.length, choice.n_ranges + len(samples))
        plan = self._data.joined(plan, kept=self._plan.intervals)
        division = unfinished.division(self._user, self._run, lambda: plan)
        left_s = f"{work_s:,.1f} s of work"
        return division, f"{len(division):,} ranges: {len(samples)} sampled, the others with {left_s}"
