"""The identity of a ROOT file, read from its first bytes.

The layout of the header is documented with the class ``TFile``:
https://root.cern/doc/master/classTFile.html
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from dask_root_lambda.protocol.errors import InputError

HEADER_BYTES = 75
"""Length of the header in files over 2 GB, the longer of its two forms."""

_LARGE = 1_000_000
"""Added to the version of files with 64-bit positions."""
_END_OFFSET = 12
"""Where the header says how long the file is."""


@dataclass(frozen=True)
class FileIdentity:
    """What tells a file's content from another's under the same name."""

    size: int
    """Length of the file in bytes."""
    header: str
    """Digest of the header: it holds the UUID that ROOT gives each file it makes, and the positions of the
    directory and of the free segments, which change when a file is updated in place."""
    mtime_ns: int = 0
    """When it was last changed, ns since the epoch, of what the storage told the client; 0 if nothing. Files
    that ROOT was asked to make reproducible have one UUID. Replicas of a remote file differ in it: it tells
    runs apart, and is no reason to refuse a file."""
    version: str = ""
    """What the storage calls this content: a strong ETag, with its quotes, of S3 and web servers; empty where
    the storage has no such name."""


def identify(url: str, header: bytes, size: int) -> FileIdentity:
    """Read the identity out of a file's header.

    Parameters
    ----------
    url
        The file, for the error.
    header
        The first `HEADER_BYTES` bytes, or all if the file is shorter.
    size
        Length of the file in bytes.

    Raises
    ------
    InputError
        Not a ROOT file, or shorter than its header says.
    """
    if header[:4] != b"root" or len(header) < HEADER_BYTES:
        raise InputError(f"{url} is not a ROOT file ({size} bytes): check the path and the copy")
    (version,) = struct.unpack_from(">i", header, 4)
    (end,) = struct.unpack_from(">q" if version >= _LARGE else ">i", header, _END_OFFSET)
    if end > size:
        raise InputError(f"{url} is truncated: {size:,} bytes of {end:,}; copy it again")
    return FileIdentity(size=size, header=hashlib.sha256(header).hexdigest()[:32])


def local_path(url: str) -> Path | None:
    """Return the path that ``url`` means on this machine, or None if it is remote."""
    if url[:5].lower() == "file:":
        return Path(urlsplit(url).path)
    return None if "://" in url else Path(url)


def identify_local(path: Path) -> FileIdentity:
    """Read the identity of a file on this machine.

    Raises
    ------
    InputError
        Missing, unreadable, truncated, or not a ROOT file.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        stat = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    return replace(identify(str(path), header, stat.st_size), mtime_ns=stat.st_mtime_ns)
