"""ROOT, and the three operations: map a range, merge partial results, call a function.

The same code runs in a function's environment and, under local execution or Dask's own schedulers, in
the user's process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import ROOT

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import IncompleteResultError, InputError, ProtocolError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import DataFile, PartialResult, Skipped
from lambda_runtime import ending, keeping, merging, ntuple_reads, room, skipping, snapshots
from lambda_runtime.diagnostics import user_code
from lambda_runtime.event_loop import EventLoop
from lambda_runtime.keeping import Place
from lambda_runtime.mappers import LoadedMapper, Mappers
from lambda_runtime.remote import objects
from lambda_runtime.snapshots import Written
from lambda_runtime.stopping import OnStop

ROOT_VERSION = ".".join(str(ROOT.__version__).split(".")[:2])
"""ROOT's minor version, such as ``6.40``."""

# ROOT looks these namespaces up anew at every use, 0.2 ms each time. DistRDF uses them ten times per range,
# and once per merged object, which can take longer than merging it.
for _name in ("Detail", "Internal", "RDF"):
    vars(ROOT)[_name] = getattr(ROOT, _name)

# Ranges of one process may run in several threads; ROOT has to know before the first of them starts.
ROOT.EnableThreadSafety()


class Runner:
    """The operations, with what a process keeps between them: mappers and compiled graphs.

    Parameters
    ----------
    shared
        See `EventLoop`.
    """

    def __init__(self, *, shared: bool) -> None:
        self._mappers = Mappers()
        self._event_loop = EventLoop(shared=shared)

    @ending.at_work()
    def map(
        self,
        digest: str,
        fetch: Callable[[], bytes],
        index: int,
        interval: Interval,
        on_stop: OnStop | None = None,
        place: Place | None = None,
    ) -> tuple[bytes, int]:
        """Run one range of a dataset through its graph.

        Parameters
        ----------
        digest
            Name of the mapper's blob; see `dask_root_lambda.protocol.wire.digest`.
        fetch
            Gets the blob; called only where the mapper is not known yet.
        index
            Number of the range in its run.
        interval
            What it reads.
        on_stop
            Lets the event loop be ended. Needed where the range runs in a process that must go on; it costs
            a filter at the head of the graph.
        place
            Where what is fetched of far files is kept; None if it is not.

        Returns
        -------
        blob, entries
            The blob of a `PartialResult`, and how many entries were processed.

        Raises
        ------
        InputError
            A file of the range is not the one that the client saw.
        CompilationError, UserCodeError
            The user's code did not compile, or raised.
        ProtocolError
            The dataset has no such range.
        """
        loaded = self._mappers.get(digest, fetch)
        whole = partial(self._run, loaded, index, on_stop, place)
        result = skipping.run(loaded.mapper, interval, whole) if loaded.mapper.skips else whole(interval)
        with user_code("the graph"):
            return wire.dumps(result), result.processed

    def _run(
        self,
        loaded: LoadedMapper,
        index: int,
        on_stop: OnStop | None,
        place: Place | None,
        interval: Interval,
    ) -> PartialResult:
        data_range = loaded.range(index, interval)
        loaded.check_files(data_range)
        files = loaded.files_of(data_range)
        read = [(file.url, file.identity) for file in files]
        if loaded.mapper.source == "rntuple":
            ntuple_reads.prepare(url for url, _ in read)
        # What was read has to be right before anything that was written of it is seen.
        nodes = loaded.program.nodes
        near = keeping.keeping(place, _shares(files, interval), ntuples=loaded.mapper.source == "rntuple")
        with snapshots.stored(on_stop) as values, objects.reading(read), near, room.written_whole(nodes):
            if loaded.mapper.source != "entries":
                room.check(nodes, loaded.mapper.files, interval)
            result = self._event_loop.run(loaded, data_range, interval, on_stop)
            values += result.values or ()
        return result

    @ending.at_work()
    def merge(self, blobs: Iterable[bytes]) -> bytes:
        """Merge partial results, in order, into a new one; the inputs stay as they are.

        Raises
        ------
        IncompleteResultError
            Something would count twice.
        """
        return self._merged(blobs, lambda part: part)

    @ending.at_work()
    def added(self, total: PartialResult | None, blobs: Iterable[bytes]) -> PartialResult:
        """Merge partial results into one that stays in this process, where there is one; it changes.

        Raises
        ------
        IncompleteResultError
            Something would count twice.
        """
        merged = self._united(total, blobs, lambda part: part)
        assert merged is not None, "there are blobs"
        return merged

    @ending.at_work()
    def preview(self, blobs: Iterable[bytes], places: Sequence[int]) -> bytes:
        """Merge some of the values of partial results into a new one; the inputs stay as they are.

        Parameters
        ----------
        blobs
            Blobs of partial results.
        places
            Which of their values are wanted.

        Raises
        ------
        IncompleteResultError
            Something would count twice.
        """
        return self._merged(blobs, partial(_chosen, places=places))

    @ending.at_work()
    def finish(
        self,
        blob: bytes,
        *,
        n_files: int,
        entries: int | None,
        stop: Fraction | None = None,
        at_least: int | None = None,
    ) -> tuple[tuple[bytes, ...], tuple[Skipped, ...]]:
        """Check a merged result against its dataset and split it into one blob per action.

        Parameters
        ----------
        blob
            Blob of the merged `PartialResult`.
        n_files
            Length of the dataset's file table.
        entries
            Entries of a dataset without files.
        stop
            Where the part ends that was asked for, which begins with the dataset; None for all of it.
        at_least
            Entries that event loops have to see, where they need not see all that are in the files.

        Returns
        -------
        blobs, skipped
            The results, and what is missing in them on request.

        Raises
        ------
        IncompleteResultError
            A part of the dataset is missing, a file was not opened, or event loops saw more or fewer entries
            than there are.
        InputError
            Nothing of the dataset can be read.
        """
        result: PartialResult = wire.loads(blob)
        whole = Interval(Fraction(0), stop or Fraction(n_files if entries is None else entries))
        if result.intervals != (whole,):
            seen = ", ".join(map(str, result.intervals))
            raise IncompleteResultError(
                f"of the dataset, {whole}, only {seen} was merged. The result cannot be trusted: please "
                "report this, with the analysis"
            )
        if result.values is None and result.skipped:
            raise InputError(f"nothing can be read: {result.skipped[0]}")
        if entries is None:
            complete, told = skipping.complete(result, n_files, at_least)
        else:
            complete = result.processed == entries if at_least is None else result.processed >= at_least
            told = f"event loops saw {result.processed:,} entries of {entries:,}"
        if not complete or result.values is None:
            raise IncompleteResultError(
                f"{told}. The result cannot be trusted: please report this, with the analysis"
            )
        return tuple(wire.dumps(_finished(value)) for value in result.values), result.skipped

    def _merged(self, blobs: Iterable[bytes], of: Callable[[PartialResult], PartialResult]) -> bytes:
        merged = self._united(None, blobs, of)
        with user_code("the merge"):
            return wire.dumps(merged)

    def _united(
        self,
        merged: PartialResult | None,
        blobs: Iterable[bytes],
        of: Callable[[PartialResult], PartialResult],
    ) -> PartialResult | None:
        # To get a blob is our work, to merge what the user's graph gives is not.
        for blob in blobs:
            with user_code("the merge"):
                part = of(wire.loads_as(PartialResult, blob))
                merged = part if merged is None else merging.united(merged, part)
        return merged

    @ending.at_work()
    def call(self, blob: bytes) -> bytes:
        """Call a function; its exception passes through unchanged."""
        called = wire.loads_as(tuple, blob)
        if len(called) != 3:
            raise ProtocolError("a call is a function, its arguments and its named arguments")
        function, args, kwargs = called
        return wire.dumps(function(*args, **kwargs))


SHARED = Runner(shared=True)
"""Runner of the steps that run in this process beside others."""


def _shares(files: Sequence[DataFile], interval: Interval) -> Iterator[tuple[DataFile, keeping.Share]]:
    """Yield files with the share of each that a range reads: its own come first, of friends it is unknown."""
    first = math.floor(interval.start)
    for number, file in enumerate(files, first):
        if number < interval.stop:
            yield file, (max(interval.start - number, Fraction(0)), min(interval.stop - number, Fraction(1)))
        else:
            yield file, (Fraction(0), Fraction(1))


def _finished(value: Any) -> Any:
    return value.published() if isinstance(value, Written) else value


def _chosen(result: PartialResult, places: Sequence[int]) -> PartialResult:
    values = result.values
    return replace(result, values=None if values is None else [values[place] for place in places])
