"""What a worker has of the results that the page draws, of runs that go on and of those that are done."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from dask_root_lambda.dashboard import shapes
from dask_root_lambda.dashboard.shapes import Shape
from dask_root_lambda.plan.previews import Preview
from dask_root_lambda.plan.steps import Finish
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.task import Body, PartialResult
from lambda_runtime.locking import making

logger = logging.getLogger(__name__)

FINISHED_OPERATION = "dask_root_lambda_finished"
"""Asks a worker for results of runs that are done; see `Finished.told`."""
PARTIAL_OPERATION = "dask_root_lambda_partial"
"""Asks a worker to merge partial results that it holds; see `merged`."""
SHAPES_OPERATION = "dask_root_lambda_shapes"
"""Asks a worker for the shapes of merged partial results; see `drawn`."""

_MOST_RUNS = 8
_MOST_BYTES = 32_000_000
"""Most bytes of results that a worker keeps for the page."""
_MOST_MERGED_BYTES = 256_000_000
"""Most bytes of partial results that are merged at once; the picture lacks what goes beyond."""


@dataclass(frozen=True)
class Partial:
    """Results of a run that goes on."""

    shapes: tuple[Shape, ...]
    processed: int
    """Entries that are in them."""
    entries_by_file: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Complete:
    """Results of a run that is done."""

    run: str
    """Key of the last task of the run."""
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class _Kept:
    run: str
    names: tuple[str, ...]
    blobs: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.blobs))

    def complete(self) -> Complete:
        return Complete(self.run, self.names, tuple(map(_shape, self.blobs)))


class Finished:
    """The results of the last runs that are done, as blobs: Dask forgets a result when it has given it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def keep(self, key: str, finish: Finish, blobs: Sequence[bytes]) -> None:
        """Keep what is drawn of the results of a run.

        Parameters
        ----------
        key
            Of the last task of the run.
        finish
            Its step.
        blobs
            What that has given.
        """
        if not finish.drawn:
            return
        names = tuple(name for _, name in finish.drawn)
        kept = _Kept(key, names, tuple(blobs[place] for place, _ in finish.drawn))
        if kept.size > _MOST_BYTES:
            return
        with self._lock:
            # The same run may be computed again, and is told again then: each time it has another name.
            self._kept[uuid.uuid4().hex] = kept
            while len(self._kept) > _MOST_RUNS or self._size() > _MOST_BYTES:
                self._kept.popitem(last=False)

    def told(self, known: Collection[str]) -> bytes | None:
        """Return a blob of `Complete` by name, of those that the asking one does not know yet."""
        with self._lock:
            new = {name: kept for name, kept in self._kept.items() if name not in known}
        made: dict[str, Complete] = {}
        for name, kept in new.items():
            try:
                made[name] = kept.complete()
            except Exception as error:  # whatever a class raises that is unpickled
                logger.debug("the results of %s are not drawn: %r", kept.run, error)
                with self._lock:
                    self._kept.pop(name, None)
        return wire.dumps(made) if made else None

    def _size(self) -> int:
        return sum(kept.size for kept in self._kept.values())


def merged(preview: Preview, parts: Sequence[Body]) -> bytes | None:
    """Merge what a page draws of partial results; return a blob, None where there is nothing."""
    taken: list[Body] = []
    size = 0
    for part in parts:
        size += part.size
        if size <= _MOST_MERGED_BYTES or not taken:
            taken.append(part)
    return preview(taken).blob if taken else None


def drawn(blobs: Sequence[bytes]) -> bytes:
    """Return a blob of the `Partial` of what several workers have merged."""
    from lambda_runtime.runner import SHARED

    blob = blobs[0] if len(blobs) == 1 else SHARED.merge(blobs)
    with making:
        result = wire.loads_as(PartialResult, blob)
        made = tuple(shapes.of(each.GetValue()) for each in result.values or ())
    return wire.dumps(Partial(made, result.processed, dict(result.entries_by_file)))


def _shape(blob: bytes) -> Shape:
    with making:
        mergeable = wire.loads(blob)
        return shapes.of(mergeable.GetValue())
