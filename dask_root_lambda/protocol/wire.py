"""The wire format: blobs, and the JSON envelope around them.

A blob is a header and a payload: four bytes of magic with the format's version, the SHA-256 of the
payload, and the payload, an object pickled and, unless it is short, compressed by zlib, without its own
checksum. The hash is compared before anything is unpickled, so a truncated or exchanged blob is an error and
never an object.

This is the only module that pickles.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import pickle
import zlib
from typing import Any, TypeVar

import cloudpickle

from dask_root_lambda.protocol.errors import CorruptBlobError, ProtocolError

_Value = TypeVar("_Value")

WIRE_VERSION = 5
"""Version of the envelope and of the records inside; both sides must have the same."""

_MAGIC = b"DRL" + bytes([WIRE_VERSION])
_DIGEST_BYTES = hashlib.sha256().digest_size
HEADER_BYTES = len(_MAGIC) + _DIGEST_BYTES

_COMPRESSION_LEVEL = 1
"""zlib's fastest: a histogram of 30,000 bins shrinks from 241 KB to 13 KB, level 6 saves 2 KB more."""

_RAW = -zlib.MAX_WBITS
"""Neither header nor checksum: Adler-32 takes half of the time of unpacking, and the hash says as much. Such
a stream never begins as a pickle does: a block that is stored as it is begins with 0 or 1 (RFC 1951, 3.2.4).
"""

_NAME_CHARACTERS = 40
"""160 bits: each request carries such a name, and nobody can make another content that has it."""

_SHORT_BYTES = 1_024
"""Up to this size a pickle stays as it is: zlib lets go of the interpreter's lock, and with other threads
waiting for that, to get it back costs more than the bytes that are saved."""


def dumps(value: Any) -> bytes:
    """Pickle ``value``, functions by value where they cannot be imported, into a blob."""
    payload: bytes = cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    if len(payload) > _SHORT_BYTES:
        payload = zlib.compress(payload, _COMPRESSION_LEVEL, _RAW)
    return _MAGIC + hashlib.sha256(payload).digest() + payload


def copied(value: Any) -> Any:
    """Return a copy, by a pickle that is packed for nobody."""
    return pickle.loads(cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))  # noqa: S301  (our own)


def loads(blob: bytes) -> Any:
    """Unpickle a blob, once its hash has been found right.

    Raises
    ------
    CorruptBlobError
        The bytes are no blob, of another version, or not those that were written.
    """
    verify(blob)
    payload = memoryview(blob)[HEADER_BYTES:]
    if bytes(payload[:1]) != pickle.PROTO:
        try:
            payload = memoryview(zlib.decompress(payload, _RAW))
        except zlib.error as error:
            raise CorruptBlobError(f"a blob of {len(blob)} bytes that is none: {error}") from None
    return pickle.loads(payload)  # noqa: S301  (verified above)


def loads_as(kind: type[_Value], blob: bytes) -> _Value:
    """Unpickle a blob that has to hold a value of some type.

    Raises
    ------
    CorruptBlobError
        See `loads`.
    ProtocolError
        It holds another.
    """
    value = loads(blob)
    if not isinstance(value, kind):
        raise ProtocolError(f"a blob holds a {type(value).__name__} where a {kind.__name__} is due")
    return value


def verify(blob: bytes) -> None:
    """Raise `CorruptBlobError` unless ``blob`` is whole and of this version."""
    if len(blob) < HEADER_BYTES or blob[: len(_MAGIC)] != _MAGIC:
        raise CorruptBlobError(
            f"{len(blob)} bytes that do not begin as a blob of wire version {WIRE_VERSION}"
        )
    digest = hashlib.sha256(memoryview(blob)[HEADER_BYTES:]).digest()
    if digest != blob[len(_MAGIC) : HEADER_BYTES]:
        raise CorruptBlobError(f"a blob of {len(blob)} bytes whose content does not match its hash")


def digest(blob: bytes) -> str:
    """Return 160 bits of the SHA-256 of ``blob`` in hexadecimal: its name in a content-addressed store."""
    return hashlib.sha256(blob).hexdigest()[:_NAME_CHARACTERS]


def encode(blob: bytes) -> str:
    """Return ``blob`` as text for the JSON envelope (base64: 4 characters for 3 bytes)."""
    return base64.b64encode(blob).decode("ascii")


def decode(text: str) -> bytes:
    """Reverse `encode`.

    Raises
    ------
    CorruptBlobError
        The text is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CorruptBlobError(f"the envelope's body is not base64: {error}") from None


def encoded_size(size_bytes: int) -> int:
    """Length of the text that `encode` makes of ``size_bytes`` bytes."""
    return 4 * ((size_bytes + 2) // 3)
