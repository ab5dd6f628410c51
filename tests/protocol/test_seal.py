"""Seals: who wrote what lies in a store, and where it belongs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.protocol.errors import CorruptBlobError, ProtocolError
from dask_root_lambda.protocol.seal import KEY_BYTES, opened, sealed

KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


@given(KEYS, st.text(), st.binary())
def test_what_was_sealed_is_opened(key, name, blob):
    """By the same key, in the same place."""
    assert opened(key, name, sealed(key, name, blob)) == blob


@given(KEYS, KEYS, st.text(), st.text(), st.binary(), st.data())
def test_nothing_else_is(key, other, name, place, blob, data):
    """Not by another key, nor in another place, nor with a byte changed or missing."""
    found = sealed(key, name, blob)
    position = data.draw(st.integers(0, len(found) - 1))
    changed = bytearray(found)
    changed[position] ^= data.draw(st.integers(1, 255))
    attempts = [(key, name, bytes(changed)), (key, name, found[:position])]
    attempts += [(other, name, found)] * (other != key) + [(key, place, found)] * (place != name)
    for attempt in attempts:
        with pytest.raises(CorruptBlobError, match="is not what this run put there"):
            opened(*attempt)


def test_there_is_no_seal_without_a_key():
    """A request that lacks one is a defect, and not a blob that anybody can write."""
    with pytest.raises(ProtocolError, match="cannot be sealed with a key of 0 bytes"):
        sealed(b"", "name", b"blob")
