"""Packs: what was fetched of a far file, as one blob that tells what is in it, and by whom it was written.

A pack begins with the length of its index, in four bytes, big-endian. The index is sealed by the user's key
(`dask_root_lambda.protocol.seal`): a line of JSON that says when the pack was made and which parts of the
file it has, then the SHA-256 of each chunk of the data. The data follows, part behind part. So a few columns
can be read of a pack without the others, and nothing that somebody else wrote is taken for the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dask_root_lambda.protocol import seal
from dask_root_lambda.protocol.errors import DamagedBlobError

CHUNK_BYTES = 32 * 1024
"""Data that has one digest: no less can be read."""
HEAD_BYTES = 64 * 1024
"""What is read first of a pack: its index is longer only if it has more than about 50 MB, or many parts."""
_LENGTH_BYTES = 4
_MOST_INDEX_BYTES = 64 * 2**20

Extent = tuple[int, int]
"""Where a part begins in the file, and how many bytes it has."""


@dataclass(frozen=True)
class Index:
    """What a pack has."""

    made_s: int
    """When it was made, seconds since the epoch."""
    extents: tuple[Extent, ...]
    """The parts of the file, in the order of the data."""
    digests: bytes
    """SHA-256 of the chunks of the data, one behind the other."""
    begin: int
    """Where the data begins in the pack."""

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return sum(size for _, size in self.extents)


def packed(key: bytes, name: str, extents: Sequence[Extent], data: bytes, made_s: int) -> bytes:
    """Make a pack.

    Parameters
    ----------
    key
        Seals it.
    name
        Its key in the store.
    extents
        The parts of the file.
    data
        Their bytes, part behind part.
    made_s
        Now, seconds since the epoch.
    """
    line = json.dumps({"made": made_s, "extents": extents}, separators=(",", ":")).encode()
    index = seal.sealed(key, name, line + b"\n" + b"".join(_digests(data)))
    return len(index).to_bytes(_LENGTH_BYTES, "big") + index + data


def read(key: bytes, name: str, get: Callable[[int, int], bytes]) -> Index:
    """Read the index of a pack.

    Parameters
    ----------
    key
        Has sealed it.
    name
        Its key in the store.
    get
        Reads a part of the pack: where it begins, and how many bytes, fewer at the end.

    Raises
    ------
    DamagedBlobError
        It is damaged, or was not sealed by this key for this name.
    """
    head = get(0, HEAD_BYTES)
    begin = _LENGTH_BYTES + int.from_bytes(head[:_LENGTH_BYTES], "big")
    if begin > _MOST_INDEX_BYTES:
        raise DamagedBlobError(f"{name} is not a pack: its index would have {begin:,} bytes")
    if begin > len(head):
        head += get(len(head), begin - len(head))
    line, _, digests = seal.opened(key, name, head[_LENGTH_BYTES:begin]).partition(b"\n")
    told = json.loads(line)
    return Index(told["made"], tuple((at, size) for at, size in told["extents"]), digests, begin)


def _digests(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), CHUNK_BYTES):
        yield hashlib.sha256(view[start : start + CHUNK_BYTES]).digest()
