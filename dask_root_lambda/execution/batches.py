"""Partial results of a gateway on another machine than the client's: in the store, several in an object.

The disk of a container goes with it, and a request for each partial result costs more than most of them are
worth. So what functions answer is collected for a short while, and put under ``kept-ID`` beside what they
have put there themselves: it is listed, adopted, and deleted with it.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from dask_root_lambda.execution import records, timers
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol.errors import DaskRootLambdaError
from dask_root_lambda.protocol.store import MemoryStore, Store

logger = logging.getLogger(__name__)

_PREFIX = "kept-"
_COLLECTED_S = 2.0
"""Seconds for which partial results are collected before they are put into the store."""
_COLLECTED_BYTES = 4_000_000
"""Bytes of partial results that are put there together."""
_OF_PROCESS = MemoryStore().url
"""A store that goes with this process."""


@dataclass
class _Batch:
    """Records that are collected."""

    store: Store
    timer: threading.Timer | None
    """Puts them into the store; None where no thread can be had."""
    records: list[bytes] = field(default_factory=list)
    size: int = 0
    full: bool = False

    def cancel(self) -> None:
        """Let its timer put nothing."""
        if self.timer is not None:
            self.timer.cancel()

    def put(self, prefix: str) -> None:
        """Put them into the store. A store that fails is no reason to fail a run."""
        try:
            self.store.put(f"{prefix}{_PREFIX}{uuid.uuid4().hex}", b"".join(self.records))
        except DaskRootLambdaError as error:
            logger.debug("partial results are not kept: %s", error)


@dataclass
class _Found:
    """What was read of the partial results of a run."""

    keys: set[str] = field(default_factory=set)
    """Keys of the objects that were read."""
    contents: dict[str, bytes] = field(default_factory=dict)
    """The partial results, sealed, by their names."""


class Batches:
    """Keeps partial results in stores, and finds them again; all methods may be called from any thread.

    Parameters
    ----------
    collected_s
        For how long partial results are collected, seconds.
    """

    def __init__(self, collected_s: float = _COLLECTED_S) -> None:
        self._collected_s = collected_s
        self._lock = threading.Lock()
        """Held to change what is collected and found."""
        self._putting = threading.Lock()
        """Held while something goes from what is collected into its store: deleting waits for it."""
        self._reading = threading.Lock()
        """Held while something is read from one, which is read once."""
        self._collected: dict[str, _Batch] = {}
        """Batches by the prefix of their space."""
        self._found: defaultdict[tuple[str, str], _Found] = defaultdict(_Found)
        """What was read, by the prefix of the space and the URL of the store."""

    def add(self, space: RunSpace, store: Store, record: bytes) -> None:
        """Keep a partial result, as a record; see `dask_root_lambda.execution.records`."""
        if store.url == _OF_PROCESS:
            return
        with self._lock:
            batch = self._collected.get(space.prefix)
            if batch is None:
                timer = timers.later(self._collected_s, self._put, space.prefix)
                batch = self._collected[space.prefix] = _Batch(store, timer)
            batch.records.append(record)
            batch.size += len(record)
            put_later = batch.timer is not None
            if batch.size >= _COLLECTED_BYTES and not batch.full:
                batch.full = True
                put_later = timers.later(0.0, self._put, space.prefix) is not None
        if not put_later:
            self._put(space.prefix)

    def find(self, space: RunSpace, name: str, store: Store, listed: Collection[str]) -> bytes | None:
        """Return a partial result, sealed, by its name; None if there is none.

        Parameters
        ----------
        space
            The run.
        name
            Of the partial result.
        store
            Where to look.
        listed
            Keys that are there.
        """
        with self._lock:
            found = self._found[space.prefix, store.url]
        beginnings = tuple(f"{prefix}{_PREFIX}" for prefix in space.prefixes)
        with self._reading:
            for key in listed:
                if key.startswith(beginnings) and key not in found.keys:
                    found.contents.update(records.contents(store.get(key)))
                    found.keys.add(key)
        return found.contents.get(name)

    def put(self, space: RunSpace) -> None:
        """Put into the store what is collected of a run, which may take as long as the store takes."""
        self._put(space.prefix)

    def look_again(self, space: RunSpace) -> None:
        """Read anew what there is, when somebody looks next: a try has failed."""
        with self._lock:
            for where in [where for where in self._found if where[0] == space.prefix]:
                del self._found[where]

    def forget(self, space: RunSpace) -> None:
        """Collect no more of a run; what is on its way to a store is there when this returns."""
        with self._putting, self._lock:
            batch = self._collected.pop(space.prefix, None)
            if batch is not None:
                batch.cancel()

    def close(self) -> None:
        """Put what is collected into the stores."""
        for prefix in list(self._collected):
            self._put(prefix)

    def _put(self, prefix: str) -> None:
        with self._putting:
            with self._lock:
                batch = self._collected.pop(prefix, None)
            if batch is not None:
                batch.cancel()
                batch.put(prefix)
