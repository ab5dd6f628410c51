"""Partial results on this machine's disk: what a run has done that fails, or whose client is killed, stays.

Functions put what is too large for an answer into the store; what fits is written here as it arrives: a
file for each session of a run (see `dask_root_lambda.plan.unfinished`), to which records are appended. A
record is the lengths of name and content, the name, and the content, which is sealed. A file that a kill cut
short is good up to its last whole record.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from dask_root_lambda.plan import unfinished
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.protocol import seal
from dask_root_lambda.protocol.errors import DamagedBlobError
from dask_root_lambda.protocol.intervals import Interval

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("<HQ")
_MOST_BYTES = 1_000_000_000
"""What a session keeps on disk at most: the rest of a larger run is computed again."""


class Kept:
    """Keeps partial results, and finds them again; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, dict[str, tuple[Path, int, int]]] = {}
        """By the prefix of a space: where each partial result lies, by its key: file, offset, length."""

    def add(self, space: RunSpace, interval: Interval, blob: bytes) -> None:
        """Keep the partial result of an interval. A disk that is full is no reason to fail a run."""
        if space.not_reused:
            return
        name = space.place(interval)
        path, content = unfinished.file(space.run, space.session), seal.sealed(space.key, name, blob)
        record = b"".join((_HEADER.pack(len(name), len(content)), name.encode(), content))
        try:
            with self._lock, path.open("ab") as file:
                stop = file.tell() + len(record)
                if stop > _MOST_BYTES:
                    return
                file.write(record)
                if space.prefix in self._found:
                    self._found[space.prefix][name] = path, stop - len(content), len(content)
        except OSError as error:
            logger.debug("a partial result is not kept: %s", error)

    def find(
        self, space: RunSpace, interval: Interval, damaged: Callable[[], None] = lambda: None
    ) -> bytes | None:
        """Return the partial result of an interval that an earlier try has left; None if there is none.

        ``damaged`` is called for one that is there, and is not what was kept.
        """
        if space.not_reused:
            return None
        found = self._index(space)
        for name in space.places(interval):
            if name in found:
                try:
                    return seal.opened(space.key, name, _read(*found[name]))
                except (OSError, DamagedBlobError) as error:
                    logger.warning("a partial result that was kept is computed again: %s", error)
                    damaged()
        return None

    def look_again(self, space: RunSpace) -> None:
        """Read anew what there is: a try has failed."""
        with self._lock:
            self._found.pop(space.prefix, None)

    def forget(self, space: RunSpace) -> None:
        """Delete what a run that succeeded has kept."""
        self.look_again(space)
        for session in (space.session, *space.adopted):
            unfinished.file(space.run, session).unlink(missing_ok=True)

    def _index(self, space: RunSpace) -> dict[str, tuple[Path, int, int]]:
        with self._lock:
            if space.prefix not in self._found:
                self._found[space.prefix] = {}
                for session in (space.session, *space.adopted):
                    self._found[space.prefix].update(_records(unfinished.file(space.run, session)))
            return self._found[space.prefix]


def _records(path: Path) -> dict[str, tuple[Path, int, int]]:
    """Return where the records of a file are, by name."""
    records: dict[str, tuple[Path, int, int]] = {}
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while len(header := file.read(_HEADER.size)) == _HEADER.size:
                name_length, length = _HEADER.unpack(header)
                name, start = file.read(name_length).decode(errors="replace"), file.tell()
                if start + length > size:
                    break
                records[name] = path, start, length
                file.seek(length, os.SEEK_CUR)
    except OSError:
        return {}
    return records


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)
