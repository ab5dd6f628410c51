"""Seals: what lies in a store says who wrote it, and where it belongs.

Many can write into the bucket of a deployment. A sealed blob begins with an HMAC-SHA256 (RFC 2104), by a key
that its readers and writers have and the store has not, over its own key in the store and its content.
"""

from __future__ import annotations

import hashlib
import hmac

from dask_root_lambda.protocol.errors import DamagedBlobError, ProtocolError

KEY_BYTES = 16
"""Length of the keys that seal."""
_MAC_BYTES = hashlib.sha256().digest_size


def sealed(key: bytes, name: str, blob: bytes) -> bytes:
    """Seal ``blob``, which will lie in a store under ``name``."""
    return _mac(key, name, blob) + blob


def opened(key: bytes, name: str, found: bytes) -> bytes:
    """Return what was sealed with ``key`` to lie under ``name``.

    Raises
    ------
    DamagedBlobError
        It was not: somebody else wrote it, it was for another place, or it was damaged.
    """
    mac, blob = found[:_MAC_BYTES], found[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, name, blob)):
        raise DamagedBlobError(
            f"{name} is not what this run put there: it was damaged, or somebody else who may write into the "
            "store has replaced it. Run again: it is computed anew"
        )
    return blob


def _mac(key: bytes, name: str, blob: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ProtocolError(f"{name} cannot be sealed with a key of {len(key)} bytes: it takes {KEY_BYTES}")
    mac = hmac.new(key, name.encode() + b"\0", hashlib.sha256)
    mac.update(blob)
    return mac.digest()
