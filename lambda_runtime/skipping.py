"""Leaving out what cannot be read, where the user asks for it; what is left out is told, never lost.

A file that cannot be opened is left out of a range. One whose data is damaged is found when it is read: its
part of the range is left out, whole, and the rest is run again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import InputError, RemoteError, UnavailableInputError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import DataFile, Mapper, PartialResult, Skipped
from lambda_runtime import datasets, diagnostics, mappers, merging, storage
from lambda_runtime.remote import objects
from lambda_runtime.remote.names import shown

Run = Callable[[Interval], PartialResult]
"""Runs an interval."""


def run(mapper: Mapper, interval: Interval, whole: Run) -> PartialResult:
    """Run what can be read of an interval of files.

    Parameters
    ----------
    mapper
        The graph and its dataset.
    interval
        What is to be read.
    whole
        Runs a part of it, all of which has to be read.
    """
    readable, skipped = [], []
    for number, piece in _pieces(interval):
        problem = _problem(mapper, mapper.files[number])
        if problem is None:
            readable.append(piece)
        else:
            skipped.append(Skipped(shown(mapper.files[number].url), piece, problem))
    result = PartialResult(None, (), 0, {}, tuple(skipped))
    for each in _joined(readable):
        for part in _run(mapper, each, whole):
            # Values that the next part's graph may change are copied.
            result = merging.united(result, wire.loads(wire.dumps(part)))
    return replace(result, intervals=(interval,))


def complete(result: PartialResult, n_files: int, at_least: int | None = None) -> tuple[bool, str]:
    """Tell whether a merged result has all entries of its files but what it says is left out, and in words.

    Parameters
    ----------
    result
        The merged result.
    n_files
        Length of the file table.
    at_least
        Entries that event loops have to see, where they need not see all that are in the files.
    """
    opened, unknown = (
        result.entries_by_file,
        {_number(each) for each in result.skipped if each.entries is None},
    )
    missing = set(range(n_files)) - opened.keys() - unknown
    expected = sum(opened.values()) - sum(each.entries or 0 for each in result.skipped)
    # Of a file that one range could open, and another could not, nobody has counted what that left out.
    uncounted = sum(opened[number] for number in unknown & opened.keys())
    told = (
        f"event loops saw {result.processed:,} entries of {expected:,}, and {len(missing)} of {n_files} "
        "files were not opened"
    )
    if at_least is not None:
        return not missing and result.processed >= at_least, told
    return not missing and expected - uncounted <= result.processed <= expected, told


def _number(skipped: Skipped) -> int:
    assert skipped.interval is not None, "a range says which part of the dataset it has left out"
    return math.floor(skipped.interval.start)


def _run(mapper: Mapper, part: Interval, whole: Run) -> Iterator[PartialResult]:
    """Run a part whose files can be opened, without those whose data cannot be read."""
    try:
        result = whole(part)
    except RemoteError as error:
        reported = diagnostics.Record(error.diagnostics)
        if not reported.from_reading:
            raise
        pieces = dict(_pieces(part))
        # ROOT names the file. To read what is damaged once more may end the process.
        bad = [number for number in pieces if mapper.files[number].url in reported.text] or list(pieces)
        if len(bad) > 1:
            raise
        yield _damaged(mapper, bad[0], pieces.pop(bad[0]), reported)
        for rest in _joined(list(pieces.values())):
            yield from _run(mapper, rest, whole)
    else:
        yield result


def _damaged(mapper: Mapper, number: int, piece: Interval, reported: diagnostics.Record) -> PartialResult:
    """Return what there is of a file's part whose data cannot be read: how much is missing."""
    file = mapper.files[number]
    with objects.reading([(file.url, file.identity)]):
        boundaries = datasets.boundaries(mapper.source, file.tree, file.url)
    entries = datasets.entries(boundaries, piece.start - number, piece.stop - number)
    reason = reported.text.strip().partition("\n")[0]
    skipped = Skipped(shown(file.url), piece, f"its data cannot be read: {reason}", entries)
    return PartialResult(None, (), 0, {number: boundaries[-1]}, (skipped,))


def _problem(mapper: Mapper, file: DataFile) -> str | None:
    """Say why a file cannot be opened; None where it can.

    Raises
    ------
    InputError
        It is not the one that the client saw, or its storage does not answer now.
    """
    try:
        found = storage.compare(file.url, file.identity)
    except UnavailableInputError:
        # The storage is busy or away: that is tried again, and no fault of the file.
        raise
    except InputError as error:
        return error.message
    if found is not None:
        raise mappers.replaced(file, found)
    try:
        with objects.reading([(file.url, file.identity)]), diagnostics.record(quiet=True):
            datasets.boundaries(mapper.source, file.tree, file.url)
    except Exception as error:  # whatever ROOT raises where there is no such tree
        return f"{file.tree} cannot be opened in it: {diagnostics.first_line(error)}"
    return None


def _pieces(interval: Interval) -> Iterator[tuple[int, Interval]]:
    """Yield the files of an interval, with what it has of each."""
    for number in range(math.floor(interval.start), math.ceil(interval.stop)):
        start, stop = max(interval.start, Fraction(number)), min(interval.stop, Fraction(number + 1))
        yield number, Interval(start, stop)


def _joined(pieces: Sequence[Interval]) -> Iterator[Interval]:
    """Join pieces that follow each other."""
    ends = [place + 1 for place, (a, b) in enumerate(itertools.pairwise(pieces)) if a.stop != b.start]
    for first, behind in itertools.pairwise([0, *ends, len(pieces)]):
        if first < behind:
            yield Interval(pieces[first].start, pieces[behind - 1].stop)
