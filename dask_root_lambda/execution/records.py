"""How partial results that are kept lie one after the other in a file or an object.

A record is the lengths of name and content, the name, and the content, which is sealed. What was cut short is
good up to its last whole record.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_HEADER = struct.Struct("<HQ")


def record(name: str, content: bytes) -> bytes:
    """Return a record."""
    return b"".join((_HEADER.pack(len(name), len(content)), name.encode(), content))


def places(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and length of what is in a file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        name_length, length = _HEADER.unpack(header)
        name, start = file.read(name_length).decode(errors="replace"), file.tell()
        if start + length > size:
            return
        yield name, start, length
        file.seek(length, os.SEEK_CUR)


def contents(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of what is in an object."""
    for name, start, length in places(io.BytesIO(blob)):
        yield name, blob[start : start + length]
