"""Some parts of a large file, from its storage to S3: what one function does of a copy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lambda_runtime.copying import buckets, sources, stream, uploads
from lambda_runtime.copying.content import Content
from lambda_runtime.copying.sources import Reader
from lambda_runtime.copying.uploads import Part, Upload

_LONGEST_S = 60.0
"""After so long no further part is begun, so no function comes near its time limit, however slow the storage:
the limit is 900 s in AWS, and a part is a few seconds' work."""
_AT_ONCE = 3
_COPIED_AT_ONCE = 8
"""Parts that S3 is asked to copy at once: they take time, and nothing else."""
_MEMORY_BYTES = 64 << 20
"""What parts may take that are under way at once, where they are larger than usual."""


def _nobody(n_bytes: int) -> None:
    """Nobody watches a copy in a function."""


def copy(
    content: Content, upload: Upload, numbers: Sequence[int], watch: Callable[[int], None] = _nobody
) -> list[Part]:
    """Copy parts of a file; return those that there was time for, one at least.

    Parameters
    ----------
    content
        The file, as it was looked at.
    upload
        Where they go.
    numbers
        Which parts.
    watch
        Called with the numbers of bytes that have come; what it raises stops the copy.

    Raises
    ------
    InputError
        The file cannot be read, or changed meanwhile; or S3 refuses.
    """
    if buckets.is_within(content, upload.name):
        done = _let_s3_copy(content, upload, numbers, watch)
        if done:
            return done
    return _stream(content, upload, numbers, watch)


def _let_s3_copy(
    content: Content, upload: Upload, numbers: Sequence[int], watch: Callable[[int], None]
) -> list[Part]:
    def copy_one(number: int) -> Part | None:
        watch(0)
        part = uploads.copy(content, upload, number)
        if part is not None:
            watch(upload.span(number)[1])
        return part

    return _side_by_side(copy_one, numbers, _COPIED_AT_ONCE)


def _stream(
    content: Content, upload: Upload, numbers: Sequence[int], watch: Callable[[int], None]
) -> list[Part]:
    with sources.opened(content) as reader:
        turns = threading.Semaphore(reader.at_once)

        def send(number: int) -> Part:
            with turns:
                watch(0)
                block = _read(content, reader, upload.span(number), watch)
            return uploads.send(upload, number, block, watch)

        at_once = max(1, min(_AT_ONCE, _MEMORY_BYTES // upload.part_bytes))
        return _side_by_side(send, numbers, at_once)


def _read(
    content: Content, reader: Reader, span: tuple[int, int], watch: Callable[[int], None]
) -> bytes | bytearray:
    offset, size = span
    blocks = []
    for begin in range(offset, offset + size, stream.BLOCK_BYTES):
        n_bytes = min(stream.BLOCK_BYTES, offset + size - begin)
        blocks.append(stream.read(content, reader, begin, n_bytes, watch))
        watch(n_bytes)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _side_by_side(work: Callable[[int], Part | None], numbers: Sequence[int], at_once: int) -> list[Part]:
    end_s = time.monotonic() + _LONGEST_S

    def begin(place: int, number: int) -> Part | None:
        return work(number) if place < at_once or time.monotonic() < end_s else None

    with ThreadPoolExecutor(at_once, "copy-parts") as pool:
        try:
            parts = [pool.submit(begin, place, number) for place, number in enumerate(numbers)]
            return [done for part in parts if (done := part.result()) is not None]
        finally:
            pool.shutdown(cancel_futures=True)
