"""Partial results on this machine's disk: what a run has done that fails, or whose client is killed, stays.

Functions put what is too large for an answer into the store; what fits is written here as it arrives: a
file for each session of a run (see `dask_root_lambda.plan.unfinished`), to which records are appended. A
gateway on another machine than the client's finds no directory of the run, and `Batches` puts it into the
store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from dask_root_lambda.execution import records
from dask_root_lambda.execution.batches import Batches
from dask_root_lambda.plan import unfinished
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol import seal
from dask_root_lambda.protocol.errors import DamagedBlobError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.store import Store

logger = logging.getLogger(__name__)

_MOST_BYTES = 1_000_000_000
"""What a session keeps on disk at most: the rest of a larger run is computed again."""


class Kept:
    """Keeps partial results, and finds them again; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches = Batches()
        self._found: dict[str, dict[str, tuple[Path, int, int]]] = {}
        """File, offset and length of each partial result: by the prefix of its space, then by its key."""
        self._earlier: set[str] = set()
        """Prefixes of the spaces of which something was there when it was looked for first."""

    def add(self, space: RunSpace, interval: Interval, blob: bytes, store: Store) -> bool:
        """Keep the partial result of an interval. A disk that is full is no reason to fail a run.

        Parameters
        ----------
        space, interval
            Whose it is.
        blob
            The partial result.
        store
            Where it is kept if the client is on another machine.

        Returns
        -------
        bool
            Whether it goes into the store.
        """
        if space.not_reused:
            return False
        name = space.place(interval)
        path, content = unfinished.file(space.run, space.session), seal.sealed(space.key, name, blob)
        record = records.record(name, content)
        if not path.parent.is_dir():
            self._batches.add(space, store, record)
            return True
        try:
            with self._lock, path.open("ab") as file:
                stop = file.tell() + len(record)
                if stop > _MOST_BYTES:
                    return False
                file.write(record)
                if space.prefix in self._found:
                    self._found[space.prefix][name] = path, stop - len(content), len(content)
        except OSError as error:
            logger.debug("a partial result is not kept: %s", error)
        return False

    def find(
        self,
        space: RunSpace,
        interval: Interval,
        store: Store,
        listed: Collection[str],
        damaged: Callable[[], None] = lambda: None,
    ) -> bytes | None:
        """Return the partial result of an interval that an earlier try has left; None if there is none.

        Parameters
        ----------
        space, interval
            Whose it is.
        store
            Where a gateway on another machine would have kept it.
        listed
            Keys that are there.
        damaged
            Called for one that is there, and is not what was kept.
        """
        if space.not_reused:
            return None
        found, names = self._index(space), space.places(interval)
        for name in names:
            try:
                if name in found:
                    return seal.opened(space.key, name, _read(*found[name]))
                content = self._batches.find(space, name, store, listed)
                if content is not None:
                    return seal.opened(space.key, name, content)
            except (OSError, DamagedBlobError) as error:
                logger.warning("a partial result that was kept is computed again: %s", error)
                damaged()
        return None

    def any_left(self, space: RunSpace) -> bool:
        """Tell whether an earlier try has left anything of a run on this machine."""
        self._index(space)
        return space.prefix in self._earlier

    def put(self, space: RunSpace) -> None:
        """Put into the store what is on its way there; see `Batches.put`."""
        self._batches.put(space)

    def look_again(self, space: RunSpace) -> None:
        """Read anew what there is, when somebody looks next: a try has failed. Asks no store."""
        self._batches.look_again(space)
        with self._lock:
            self._found.pop(space.prefix, None)
            self._earlier.discard(space.prefix)

    def forget(self, space: RunSpace) -> None:
        """Delete what a run that succeeded has kept."""
        self._batches.forget(space)
        self.look_again(space)
        for session in (space.session, *space.adopted):
            unfinished.file(space.run, session).unlink(missing_ok=True)

    def close(self) -> None:
        """Put into the stores what is on its way there."""
        self._batches.close()

    def _index(self, space: RunSpace) -> dict[str, tuple[Path, int, int]]:
        with self._lock:
            if space.prefix not in self._found:
                self._found[space.prefix] = {}
                for session in (space.session, *space.adopted):
                    self._found[space.prefix].update(_records(unfinished.file(space.run, session)))
                if self._found[space.prefix]:
                    self._earlier.add(space.prefix)
            return self._found[space.prefix]


def _records(path: Path) -> dict[str, tuple[Path, int, int]]:
    """Return where the records of a file are, by name."""
    try:
        with path.open("rb") as file:
            return {name: (path, start, length) for name, start, length in records.places(file)}
    except OSError:
        return {}


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)
