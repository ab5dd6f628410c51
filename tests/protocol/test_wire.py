"""The wire format keeps what it is given, and refuses anything else."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import CorruptBlobError, ProtocolError


class Bomb:
    """Pickles as an instruction to fail, so that unpickling it would be seen."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


@settings(deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner)))
def test_values_come_back(value):
    """Whatever goes in comes out."""
    assert wire.loads(wire.dumps(value)) == value


@pytest.mark.parametrize(("size", "compressed"), [(100, False), (100_000, True)])
def test_what_is_long_is_compressed(size, compressed):
    """Zeros take a hundredth of their place; what is short is not worth it."""
    blob = wire.dumps(bytes(size))
    assert (len(blob) < size) is compressed
    assert wire.loads(blob) == bytes(size)


def test_functions_travel_by_value():
    """A lambda, which cannot be imported elsewhere, works on the other side."""
    factor = 3
    assert wire.loads(wire.dumps(lambda x: factor * x))(2) == 6


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_flipped_bit_is_unpickled(position, bit):
    """One changed bit anywhere is found before anything is unpickled."""
    blob = bytearray(wire.dumps(Bomb()))
    blob[position % len(blob)] ^= 1 << bit
    with pytest.raises(CorruptBlobError):
        wire.loads(bytes(blob))


@given(length=st.integers(min_value=0))
def test_no_truncated_blob_is_unpickled(length):
    """A blob that ends early is found before anything is unpickled."""
    blob = wire.dumps(Bomb())
    with pytest.raises(CorruptBlobError):
        wire.loads(blob[: length % len(blob)])


def test_a_plain_pickle_is_refused():
    """Bytes that are a pickle but no blob are not unpickled."""
    with pytest.raises(CorruptBlobError, match="do not begin as a blob"):
        wire.loads(pickle.dumps(Bomb()))


@given(st.binary())
def test_text_form_comes_back_and_has_the_foretold_size(blob):
    """The envelope's form of a blob is as long as it was reckoned, and decodes to the same bytes."""
    text = wire.encode(blob)
    assert len(text) == wire.encoded_size(len(blob))
    assert wire.decode(text) == blob


def test_other_text_is_refused():
    """Text that is not base64 is an error of the protocol."""
    with pytest.raises(ProtocolError, match="base64"):
        wire.decode("not base64!")
