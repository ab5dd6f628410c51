"""CRC32 of a file whose parts were read one by one, and apart from each other."""

from __future__ import annotations

import functools
from collections.abc import Iterable

_POLYNOMIAL = 0xEDB88320
"""That of CRC32, whose first bit is the highest power: https://www.rfc-editor.org/rfc/rfc1952#section-8"""
_ONE, _BYTE = 1 << 31, 1 << 23
"""The powers 0 and 8 of x."""


def joined(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC32 of parts that follow each other.

    What zlib's ``crc32_combine`` does, which Python does not have: the checksum of what comes first is
    multiplied by the power of x that the bytes behind it shift it by.

    Parameters
    ----------
    parts
        CRC32 and length in bytes of each.
    """
    whole = 0
    for crc32, n_bytes in parts:
        whole = _product(_shift(n_bytes), whole) ^ crc32
    return whole


@functools.lru_cache(maxsize=8)
def _shift(n_bytes: int) -> int:
    """Return x to the power of so many bits, modulo the polynomial."""
    power, square = _ONE, _BYTE
    while n_bytes:
        if n_bytes & 1:
            power = _product(square, power)
        square = _product(square, square)
        n_bytes >>= 1
    return power


def _product(one: int, other: int) -> int:
    """Multiply modulo the polynomial, over the field of two elements."""
    product = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product
