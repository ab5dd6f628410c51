"""The steps of a run, as functions that Dask can call and an executor can send away.

Called, they run in this process. Given to a `LambdaExecutor`, they travel as ``map`` and ``merge``
operations, in the wire format of `dask_root_lambda.protocol`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dask_root_lambda.plan import arrivals
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.protocol.task import Body

_FILES_NAMED = 3
"""How many files an error names."""


@dataclass(frozen=True)
class PackedMapper:
    """An RDataFrame graph and its dataset, packed to travel once."""

    run: str
    """Identity of graph, dataset and number of ranges."""
    blob: bytes
    """Blob of a `dask_root_lambda.protocol.task.Mapper`."""
    digest: str
    """SHA-256 of the blob."""
    n_ranges: int
    root: str = ""
    """ROOT's minor version on the client."""
    identity: str = ""
    """See `dask_root_lambda.protocol.task.Request`."""
    local_inputs: tuple[str, ...] = ()
    """Files of this machine that it reads."""
    local_outputs: tuple[str, ...] = ()
    """Files of this machine that it writes."""

    def __sizeof__(self) -> int:
        """Bytes that Dask should count for it."""
        local = sum(map(len, (*self.local_inputs, *self.local_outputs)))
        return object.__sizeof__(self) + len(self.blob) + local

    def check_reach(self) -> None:
        """Raise `InputError` if a function in AWS cannot reach all files."""
        for verb, files in (("read", self.local_inputs), ("write", self.local_outputs)):
            if files:
                named, more = ", ".join(files[:_FILES_NAMED]), len(files) - _FILES_NAMED
                raise InputError(
                    f"a function in AWS cannot {verb} files of this machine: {named}"
                    f"{f' and {more} more' if more > 0 else ''}. Use root:// URLs, or execution='local' or "
                    "'emulated'"
                )

    def __repr__(self) -> str:
        return f"<PackedMapper {self.run}: {self.n_ranges} ranges, {len(self.blob):,} bytes>"


class Step:
    """A function of the graph of a run; a worker with the executor knows by it where to run what."""


@dataclass(frozen=True)
class MapRange(Step):
    """Run one range of a dataset: `PackedMapper` -> partial result."""

    index: int
    """Which range, from 0."""

    def __call__(self, mapper: PackedMapper) -> Body:
        """Run it in this process."""
        from lambda_runtime.runner import SHARED

        with arrivals.failures_told(mapper.run):
            blob, _ = SHARED.map(mapper.digest, lambda: mapper.blob, self.index)
        return Body.of(blob)


@dataclass(frozen=True)
class Merge(Step):
    """Merge partial results, in order, into a new one."""

    run: str
    """The run they belong to."""
    on_lambda: bool = False
    """Whether a worker that has the executor merges there."""

    def __call__(self, parts: Sequence[Body]) -> Body:
        """Merge in this process; parts that lie in a store are fetched, one at a time."""
        from lambda_runtime.runner import SHARED

        with arrivals.failures_told(self.run):
            return Body.of(SHARED.merge(part.fetch() for part in parts))


@dataclass(frozen=True)
class Finish(Step):
    """Check the merged result against its dataset; split it into one blob per action."""

    run: str
    """The run that is done with it."""
    n_files: int
    """Length of the dataset's file table."""
    entries: int | None
    """Entries of a dataset without files."""

    def __call__(self, merged: Body) -> tuple[bytes, ...]:
        """See `lambda_runtime.runner.Runner.finish`."""
        from lambda_runtime.runner import SHARED

        with arrivals.failures_told(self.run):
            blobs = SHARED.finish(merged.fetch(), n_files=self.n_files, entries=self.entries)
        arrivals.arrived(self.run, blobs)
        return blobs
