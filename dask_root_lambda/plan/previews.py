"""What there is of some results of a run that goes on, merged beside the graph of the run.

It changes nothing of what the graph merges: all inputs are unpickled afresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dask.typing import Key

from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol.task import Body


@dataclass(frozen=True)
class Previewed:
    """Some of the results of partial results, merged."""

    blob: bytes
    """Blob of a `dask_root_lambda.protocol.task.PartialResult` with the values that were asked for."""
    part_bytes: int
    """Size of the largest of the partial results."""


@dataclass(frozen=True)
class Preview:
    """Merges some of the values of partial results."""

    space: RunSpace
    """The run they belong to."""
    places: tuple[int, ...]
    """Which of the results of the run."""

    def __call__(self, parts: Sequence[Body]) -> Previewed:
        """Merge them in this process; those that lie in a store are fetched, one at a time."""
        from lambda_runtime.runner import SHARED

        blobs = (part.fetch(self.space.key) for part in parts)
        return Previewed(SHARED.preview(blobs, self.places), max(part.size for part in parts))


async def on_worker(preview: Preview, keys: Sequence[Key], dask_worker: Any) -> Previewed | None:
    """Merge partial results that a worker of Dask holds, beside its tasks: none of its slots may be free.

    Parameters
    ----------
    preview
        Merges them.
    keys
        Keys of the partial results.
    dask_worker
        The worker; Dask gives it by this name to what a client runs on workers.

    Returns
    -------
    Previewed or None
        None where the worker holds none of them any more.
    """
    parts = [dask_worker.data[key] for key in keys if key in dask_worker.data]
    return await asyncio.to_thread(preview, parts) if parts else None
