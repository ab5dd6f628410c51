"""A file that is read as one flow of bytes, some blocks ahead."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from dask_root_lambda.protocol.errors import InputError, UnavailableInputError
from lambda_runtime.copying import sources
from lambda_runtime.copying.content import Content
from lambda_runtime.copying.sources import Reader
from lambda_runtime.remote.names import shown

BLOCK_BYTES = 8 << 20
_BLOCKS_AHEAD = 2
_DELAYS_S = (0.2, 1.0, 4.0)
"""How long to wait before a block is read again."""


class Stream:
    """The flow.

    Parameters
    ----------
    content
        The file, as it was looked at.
    reader
        Reads it.
    pool
        Threads that read ahead.
    watch
        Called with the number of bytes that have come; what it raises stops the flow.
    """

    def __init__(
        self, content: Content, reader: Reader, pool: ThreadPoolExecutor, watch: Callable[[int], None]
    ) -> None:
        self.crc32 = 0
        self._content = content
        self._reader = reader
        self._pool = pool
        self._watch = watch
        self._left = content.size
        self._offsets = iter(range(0, content.size, BLOCK_BYTES))
        self._coming: deque[Future[bytes | bytearray]] = deque()
        self._block = memoryview(b"")
        for _ in range(_BLOCKS_AHEAD):
            self._ask()

    def read(self, size: int = -1) -> bytes | bytearray:
        """Return the next bytes: as many as asked for, fewer at the end.

        Raises
        ------
        InputError
            The file cannot be read, or is not any more what it was.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        parts = []
        while wanted:
            parts.append(self._take(wanted))
            wanted -= len(parts[-1])
            self._left -= len(parts[-1])
        if len(parts) == 1 and not isinstance(parts[0], memoryview):
            return parts[0]
        return b"".join(parts)

    def _take(self, wanted: int) -> bytes | bytearray | memoryview:
        """Return what is left of a block, or a part of it; a whole block is not copied."""
        if not self._block:
            block = self._next()
            if len(block) <= wanted:
                return block
            self._block = memoryview(block)
        part, rest = self._block[:wanted], self._block[wanted:]
        self._block = rest or memoryview(b"")
        return part

    def _ask(self) -> None:
        offset = next(self._offsets, None)
        if offset is not None:
            size = min(BLOCK_BYTES, self._content.size - offset)
            self._coming.append(
                self._pool.submit(read, self._content, self._reader, offset, size, self._watch)
            )

    def _next(self) -> bytes | bytearray:
        self._watch(0)
        block = self._coming.popleft().result()
        self._ask()
        self.crc32 = zlib.crc32(block, self.crc32)
        self._watch(len(block))
        if not self._coming:
            check(self._content, self.crc32)
        return block


def read(
    content: Content, reader: Reader, offset: int, size: int, watch: Callable[[int], None]
) -> bytes | bytearray:
    """Read a block of a file; what does not come is asked for again, three times.

    Raises
    ------
    InputError
        The file cannot be read, or is not any more what it was.
    """
    for delay_s in _DELAYS_S:
        try:
            return _read(content, reader, offset, size, watch)
        except UnavailableInputError:
            time.sleep(delay_s)
            watch(0)
    return _read(content, reader, offset, size, watch)


def _read(
    content: Content, reader: Reader, offset: int, size: int, watch: Callable[[int], None]
) -> bytes | bytearray:
    pieces, end = [], offset + size
    while offset < end:
        watch(0)
        n_bytes = min(reader.pace.piece_bytes, end - offset)
        begin_s = time.monotonic()
        pieces.append(reader.read(offset, n_bytes))
        reader.pace.note(n_bytes, time.monotonic() - begin_s)
        if len(pieces[-1]) != n_bytes:
            raise InputError(f"{shown(content.url)} became shorter while it was copied: copy it again")
        offset += n_bytes
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check(content: Content, crc32: int | None) -> None:
    """Compare all that was read with what the storage says of it, before it is complete anywhere.

    Parameters
    ----------
    content
        The file, as it was looked at.
    crc32
        Checksum of what was read; None where that is not known.

    Raises
    ------
    InputError
        It is not that.
    """
    name = shown(content.url)
    if None not in (crc32, content.crc32) and content.crc32 != crc32:
        raise InputError(f"{name} came with another checksum than its storage has: copy it again")
    if sources.look(content.url).identity != content.identity:
        raise InputError(f"{name} was replaced while it was copied: copy it again")


@contextmanager
def flowing(content: Content, watch: Callable[[int], None]) -> Iterator[Stream]:
    """Open a file; yield it as a flow."""
    with sources.opened(content) as reader, ThreadPoolExecutor(reader.at_once, "copy-read") as pool:
        try:
            yield Stream(content, reader, pool, watch)
        finally:
            pool.shutdown(cancel_futures=True)
