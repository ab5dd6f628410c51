"""The steps of a run, as functions that Dask can call and an executor can send away.

Called, they run in this process. Given to a `LambdaExecutor`, they travel as ``map`` and ``merge``
operations, in the wire format of `dask_root_lambda.protocol`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from dask_root_lambda.plan import arrivals, pace
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import DaskRootLambdaError, InputError
from dask_root_lambda.protocol.intervals import Division, Interval
from dask_root_lambda.protocol.task import Body, FarData, Skipped

_FILES_NAMED = 3
"""How many files an error names."""
_WAYS_OUT = {
    "read": "Put them into S3, with 'dask-root-lambda copy FILE... s3://BUCKET/PREFIX/', and name them there",
    "write": "Write to s3://BUCKET/KEY, or to root:// URLs",
}
"""What to do about files of this machine, by what was to be done with them."""


@dataclass(frozen=True)
class PackedMapper:
    """An RDataFrame graph and its dataset, packed to travel once."""

    space: RunSpace
    """The run, and where its partial results lie."""
    blob: bytes
    """Blob of a `dask_root_lambda.protocol.task.Mapper`."""
    digest: str
    """Names the blob by its content; see `dask_root_lambda.protocol.wire.digest`."""
    division: Division
    """The ranges of the run, in order, without gaps."""
    root: str = ""
    """ROOT's minor version on the client."""
    identity: str = ""
    """See `dask_root_lambda.protocol.task.Request`."""
    files: tuple[str, ...] = ()
    """URLs of the file table; empty for a dataset of entries without files."""
    sizes: tuple[int, ...] = ()
    """Bytes of each of them."""
    local_inputs: tuple[str, ...] = ()
    """Files of this machine that it reads."""
    local_outputs: tuple[str, ...] = ()
    """Files of this machine that it writes."""
    writes: bool = False
    """Whether its ranges write files, wherever."""
    why: str = ""
    """Why it has as many ranges as it has."""
    results: tuple[str, ...] = ()
    """Names of the user's results that it computes, for those who watch it."""
    far: FarData | None = None
    """Whether what is fetched of far files is kept, and by which key; None if it is not."""

    @property
    def run(self) -> str:
        """Identity of the run."""
        return self.space.run

    @property
    def n_ranges(self) -> int:
        """How many ranges the run has."""
        return len(self.division)

    @property
    def ranges(self) -> list[MapRange]:
        """The steps that run them."""
        return [MapRange(index, interval) for index, interval in enumerate(self.division)]

    def __sizeof__(self) -> int:
        """Bytes that Dask should count for it."""
        named = sum(map(len, (*self.files, *self.local_inputs, *self.local_outputs)))
        return object.__sizeof__(self) + len(self.blob) + named

    def check_reach(self) -> None:
        """Raise `InputError` if a function in AWS cannot reach all files."""
        for verb, files in (("read", self.local_inputs), ("write", self.local_outputs)):
            if files:
                named, more = ", ".join(files[:_FILES_NAMED]), len(files) - _FILES_NAMED
                raise InputError(
                    f"a function in AWS cannot {verb} files of this machine: {named}"
                    f"{f' and {more} more' if more > 0 else ''}. {_WAYS_OUT[verb]}, or compute here: "
                    "LambdaCluster(execution='local'), or 'emulated'"
                )

    def __repr__(self) -> str:
        return f"<PackedMapper {self.run}: {self.n_ranges} ranges, {len(self.blob):,} bytes>"


def range_task(run: str, index: int) -> str:
    """Name a range, as errors and logs do, by the name of its run and its number from 0."""
    return f"rdf-range-{run}-{index}"


@contextmanager
def _named(task: str) -> Iterator[None]:
    """Let errors of the block tell whose they are."""
    try:
        yield
    except DaskRootLambdaError as error:
        error.task = error.task or task
        raise


class Step:
    """A function of the graph of a run; a worker with the executor knows by it where to run what."""


@dataclass(frozen=True)
class MapRange(Step):
    """Run one range of a dataset: `PackedMapper` -> partial result."""

    index: int
    """Which range of the run, from 0."""
    interval: Interval
    """What it reads."""

    def __call__(self, mapper: PackedMapper) -> Body:
        """Run it in this process."""
        from lambda_runtime.runner import SHARED

        with arrivals.failures_told(mapper.run), _named(range_task(mapper.run, self.index)):
            blob, _ = SHARED.map(mapper.digest, lambda: mapper.blob, self.index, self.interval)
        return Body.of(blob)


@dataclass(frozen=True)
class Merge(Step):
    """Merge partial results, in order, into a new one."""

    space: RunSpace
    """The run they belong to."""
    interval: Interval
    """What they have seen together."""
    on_lambda: bool = False
    """Whether a worker that has the executor merges there."""

    def __call__(self, parts: Sequence[Body]) -> Body:
        """Merge in this process; parts that lie in a store are fetched, one at a time."""
        from lambda_runtime.runner import SHARED

        with arrivals.failures_told(self.space.run):
            return Body.of(SHARED.merge(part.fetch(self.space.key) for part in parts))


@dataclass(frozen=True)
class Finish(Step):
    """Check the merged result against its dataset; split it into one blob per action."""

    space: RunSpace
    """The run that is done with it."""
    n_files: int
    """Length of the dataset's file table."""
    entries: int | None
    """Entries of a dataset without files."""
    graph: str = ""
    """Names the graph, whatever it reads; see `dask_root_lambda.plan.history`."""
    size: float = 0.0
    """How much the run reads: bytes of files, or entries where there are none."""
    stop: Fraction | None = None
    """Where the part ends that was asked for; None for the end of the dataset."""
    at_least: int | None = None
    """Entries that event loops have to see, where they need not see all that are in the files."""
    skipped: tuple[Skipped, ...] | None = None
    """Files that the client has left out; None where nothing may be. Else what was left out is one more
    blob, behind those of the results."""
    drawn: tuple[tuple[int, str], ...] = ()
    """Which of the results are histograms, profiles and graphs that the page draws, and their names."""

    def share(self, processed: int, entries_by_file: Mapping[int, int]) -> float:
        """Estimate which part of what is read has been processed; see `dask_root_lambda.plan.pace.share`."""
        length = float(self.n_files if self.entries is None else self.entries)
        if self.stop is not None:
            length = float(self.stop)
        entries = None if self.entries is None else round(length)
        return pace.share(processed, entries_by_file, n_files=length, entries=entries)

    def left_out(self, blobs: Sequence[bytes]) -> tuple[Skipped, ...]:
        """Return what is missing in the results that this step has given."""
        skipped: tuple[Skipped, ...] = () if self.skipped is None else wire.loads(blobs[-1])
        return skipped

    def __call__(self, merged: Body) -> tuple[bytes, ...]:
        """See `lambda_runtime.runner.Runner.finish`."""
        from lambda_runtime.runner import SHARED

        run = self.space.run
        with arrivals.failures_told(run):
            blob = merged.fetch(self.space.key)
            blobs, skipped = SHARED.finish(
                blob, n_files=self.n_files, entries=self.entries, stop=self.stop, at_least=self.at_least
            )
            if self.skipped is not None:
                blobs = (*blobs, wire.dumps((*self.skipped, *skipped)))
        arrivals.arrived(run, blobs)
        return blobs
