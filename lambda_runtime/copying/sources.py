"""Files to copy: looked at, and read in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dask_root_lambda.protocol import rootfile
from dask_root_lambda.protocol.errors import InputError
from lambda_runtime.copying import buckets
from lambda_runtime.copying.content import Content
from lambda_runtime.remote import names

_LEAST_BYTES = 256 << 10
_GROWTH = 8
_PIECE_S = 0.5


class Pace:
    """How much is read at once: what comes in half a second, so that reading can be stopped in between."""

    def __init__(self) -> None:
        self.piece_bytes = _LEAST_BYTES

    def note(self, n_bytes: int, seconds: float) -> None:
        """Take note of how long it took to read so many bytes."""
        wanted = n_bytes * min(_GROWTH, _PIECE_S / max(seconds, 1e-6))
        self.piece_bytes = max(_LEAST_BYTES, int(wanted))


@dataclass(frozen=True)
class Reader:
    """An open file.

    Parameters
    ----------
    read
        Returns bytes of the file: from an offset, so many.
    at_once
        How many parts may be read side by side.
    pace
        How fast it comes.
    """

    read: Callable[[int, int], bytes | bytearray]
    at_once: int
    pace: Pace = field(default_factory=Pace)


def look(url: str) -> Content:
    """Look at a file.

    Raises
    ------
    InputError
        Missing, or out of reach.
    """
    path = rootfile.local_path(url)
    if path is not None:
        return _look_locally(path)
    name = names.parse_s3(url)
    if name is not None:
        return buckets.look(url, name)
    if names.is_xrootd(url):
        # ROOT takes seconds to start: it is imported where it is needed.
        from lambda_runtime.copying import xrootd

        return xrootd.look(url)
    if names.is_remote(url):
        from lambda_runtime.copying import web

        return web.look(url)
    raise InputError(f"cannot copy {url}: copies are of local files, root://, s3:// and https://")


@contextmanager
def opened(content: Content) -> Iterator[Reader]:
    """Open a file as it was when it was looked at."""
    url = content.url
    path = rootfile.local_path(url)
    name = names.parse_s3(url)
    if path is not None:
        number = _opened_locally(path)
        try:
            yield Reader(lambda offset, size: _read_locally(path, number, size, offset), at_once=1)
        finally:
            os.close(number)
    elif name is not None:
        yield Reader(lambda offset, size: buckets.read(content, name, offset, size), at_once=2)
    elif names.is_xrootd(url):
        from lambda_runtime.copying import xrootd

        with xrootd.opened(url) as read:
            yield Reader(read, at_once=1)
    else:
        from lambda_runtime.copying import web

        yield Reader(lambda offset, size: web.read(content, offset, size), at_once=2)


def _look_locally(path: Path) -> Content:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if not path.is_file():
        raise InputError(f"cannot copy {path}: it is no file")
    return Content(os.path.abspath(path), found.st_size, str(found.st_mtime_ns), found.st_mtime_ns)  # noqa: PTH100


def _opened_locally(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _read_locally(path: Path, number: int, size: int, offset: int) -> bytes:
    try:
        return _pread(number, size, offset)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _pread(number: int, size: int, offset: int) -> bytes:
    """Read as many bytes as there are: one call gives 2 GB at most, and may give less."""
    parts = []
    while size:
        part = os.pread(number, size, offset)
        if not part:
            break
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)
