"""ROOT, and the three operations: map a range, merge partial results, call a function.

The same code runs in a function's environment and, under local execution or Dask's own schedulers, in
the user's process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import ROOT

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import IncompleteResultError, ProtocolError
from dask_root_lambda.protocol.task import PartialResult
from lambda_runtime import merging
from lambda_runtime.diagnostics import user_code
from lambda_runtime.event_loop import EventLoop, OnStop
from lambda_runtime.mappers import Mappers

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

    def map(
        self, digest: str, fetch: Callable[[], bytes], index: int, on_stop: OnStop | None = None
    ) -> tuple[bytes, int]:
        """Run one range of a dataset through its graph.

        Parameters
        ----------
        digest
            SHA-256 of the mapper's blob.
        fetch
            Gets the blob; called only where the mapper is not known yet.
        index
            Which range.
        on_stop
            Lets the event loop be ended. Needed where the range runs in a process that must go on; it costs
            a filter at the head of the graph.

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
        if not 0 <= index < len(loaded.ranges):
            raise ProtocolError(f"there is no range {index}: the dataset has {len(loaded.ranges)}")
        loaded.check_files(index)
        with user_code("the graph"):
            return self._event_loop.run(loaded, index, on_stop)

    def merge(self, blobs: Iterable[bytes]) -> bytes:
        """Merge partial results, in order, into a new one; the inputs stay as they are."""
        with user_code("the merge"):
            return wire.dumps(functools.reduce(_merge_into, map(wire.loads, blobs)))

    def finish(self, blob: bytes, *, n_files: int, entries: int | None) -> tuple[bytes, ...]:
        """Check a merged result against its dataset and split it into one blob per action.

        Parameters
        ----------
        blob
            Blob of the merged `PartialResult`.
        n_files
            Length of the dataset's file table.
        entries
            Entries of a dataset without files.

        Raises
        ------
        IncompleteResultError
            A file was not opened, or more or fewer entries processed than there are.
        """
        result: PartialResult = wire.loads(blob)
        missing = n_files - len(result.entries_by_file)
        expected = sum(result.entries_by_file.values()) if entries is None else entries
        if missing or result.processed != expected or result.values is None:
            raise IncompleteResultError(
                f"{result.processed:,} entries were processed of {expected:,}, and {missing} of {n_files} "
                "files were not opened. The result cannot be trusted: please report this, with the analysis"
            )
        return tuple(wire.dumps(value) for value in result.values)

    def call(self, blob: bytes) -> bytes:
        """Call a function; its exception passes through unchanged."""
        function, args, kwargs = wire.loads(blob)
        return wire.dumps(function(*args, **kwargs))


SHARED = Runner(shared=True)
"""For steps that run in this process beside others."""


def _merge_into(merged: PartialResult, other: PartialResult) -> PartialResult:
    """Merge ``other`` into ``merged``, whose values change: both were unpickled for this."""
    if merged.values is None or other.values is None:
        values = other.values if merged.values is None else merged.values
    else:
        values = [merging.merged(*pair) for pair in zip(merged.values, other.values, strict=True)]
    return PartialResult(
        values, merged.processed + other.processed, merged.entries_by_file | other.entries_by_file
    )
