"""Results while they are computed, to iterate over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.protocol.errors import DamagedBlobError, GraphError, MissingBlobError
from dask_root_lambda.rdf import heads, snapshots, values
from dask_root_lambda.rdf.frame import Result
from lambda_runtime.locking import making


@dataclass(frozen=True)
class PartialValues:
    """What there is of some results while they are computed."""

    values: tuple[Any, ...]
    """A value of each result, made for this: changing it changes nothing else."""
    share: float
    """Part of all entries that are in them, from 0 to 1; estimated until every file has been opened."""
    complete: bool = False
    """Whether they are the results."""


def partial_results(*results: Result) -> Iterator[PartialValues]:
    """Compute results, and iterate over what there is of them as their ranges end.

    The graph runs once. Everything else that is booked on the frame and not computed yet is computed with
    them, as when one of them is touched, and the values are those of the results afterwards. To leave the
    loop stops the run. Elements of arrays, and points of graphs, come in the order in which ranges end,
    but for the last time.

    Parameters
    ----------
    *results
        Results of one frame: histograms, profiles, graphs, numbers, arrays, reports, maps of variations.

    Yields
    ------
    PartialValues
        At last the complete one. How many come before depends on the run: updates that would take too much
        of its time are left out.

    Raises
    ------
    GraphError
        They belong to several frames, one of them is a Snapshot, or the client is asynchronous.

    Examples
    --------
    >>> for part in partial_results(h, n):
    ...     print(f"{part.share:.0%}", part.values[0].GetMean())
    """
    if not results or not all(isinstance(result, Result) for result in results):
        raise GraphError("partial_results takes results of a frame, such as partial_results(h, n)")
    if len({id(result.bookings) for result in results}) > 1:
        raise GraphError("partial_results takes results of one frame: iterate over those of each frame")
    if any(snapshots.output(result.node) for result in results):
        raise GraphError("a Snapshot has nothing to show before all its files are written")
    return _parts(results)


def _parts(results: Sequence[Result]) -> Iterator[PartialValues]:
    for result in results:
        if heads.is_search(result.node):
            # A few rows of the first entries: nothing of it is worth while before it is there.
            result.GetValue()
    pending = [result for result in results if not result.computed]
    if pending:
        asked = pending[0]
        together = asked.bookings.together(asked, pending)
        for result in pending:
            # What failed with others before is computed apart.
            if result not in together:
                result.GetValue()
        yield from _updates(results, asked, together)
    yield PartialValues(tuple(result.anew() for result in results), 1.0, complete=True)


def _updates(results: Sequence[Result], asked: Result, together: Sequence[Result]) -> Iterator[PartialValues]:
    try:
        for update in asked.bookings.follow(asked, together):
            if update.values is not None:
                partial = dict(zip(together, update.values, strict=True))
                made = (_value(result, partial.get(result)) for result in results)
                yield PartialValues(tuple(made), update.share)
    except (MissingBlobError, DamagedBlobError):
        # What is gone from the store, or damaged there, is computed again, and nothing else.
        asked.GetValue()


def _value(result: Result, mergeable: Any) -> Any:
    if mergeable is None:
        return result.anew()
    with making:
        return values.value(mergeable, varied=result.varied, taken=result.taken)
