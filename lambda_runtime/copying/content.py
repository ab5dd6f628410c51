"""What a file is that is copied, and the flow of its bytes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

_OPTIONS = re.compile(r"^(x?roots?://[^?]*)\?.*")
"""Options of a file over XRootD, such as a token, behind its name, which is the group."""


@dataclass(frozen=True)
class Content:
    """A file, as its storage describes it.

    Parameters
    ----------
    url
        Its name: a path, a URL, or the internal name of an object in S3.
    size
        Bytes.
    version
        The storage's own name of the content: an ETag, or the time of the last change.
    mtime_ns
        When it was last changed, ns since the epoch; 0 where the storage does not tell.
    crc32
        Checksum of the whole content, where the storage tells it.
    """

    url: str
    size: int
    version: str
    mtime_ns: int = 0
    crc32: int | None = None

    @property
    def identity(self) -> str:
        """A name of this content of this file, without a token that its URL may have."""
        place = without_options(self.url)
        return hashlib.sha256(f"{place}\n{self.size}\n{self.version}".encode()).hexdigest()[:32]


class Flow(Protocol):
    """Bytes that come one after the other."""

    crc32: int

    def read(self, size: int = -1) -> bytes | bytearray:
        """Return the next bytes."""


def without_options(url: str) -> str:
    """Return a file's name without what is behind the name of one over XRootD, such as a token."""
    return _OPTIONS.sub(r"\1", url)
