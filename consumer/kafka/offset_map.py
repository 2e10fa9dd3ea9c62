"""The finished offsets of a partition's window, as text for the commit metadata. Pure.

A commit holds one position: the first record without an outcome. The next owner would repeat finished records behind
it, so the commit metadata has a bit for each of them.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from typing import Final

#: Bits in a map, counted from the position. 16,384 bits are 2,736 characters; a broker takes 4,095.
CAPACITY: Final = 16_384

_VERSION: Final = "1:"
_CHECKSUM_BYTES: Final = 4


def encode(position: int, done: Iterable[int]) -> str:
    """The map of the finished offsets above `position`; empty where there is none.

    Offsets outside `position` + 1 .. `position` + CAPACITY - 1 are left out: they will be repeated.
    """
    bits = bytearray()
    for offset in done:
        place = offset - position
        if 0 < place < CAPACITY:
            index, bit = divmod(place, 8)
            if index >= len(bits):
                bits.extend(bytes(index + 1 - len(bits)))
            bits[index] |= 1 << bit
    return _VERSION + base64.b64encode(_checksum(position, bits) + bits).decode() if bits else ""


def decode(position: int, metadata: str | None) -> frozenset[int]:
    """The finished offsets in a map that belongs to `position`.

    Empty where the text is not such a map, is damaged, or belongs to another position: then everything from the
    position on is repeated, which is always safe.
    """
    if not metadata or not metadata.startswith(_VERSION):
        return frozenset()
    try:
        raw = base64.b64decode(metadata.removeprefix(_VERSION), validate=True)
    except (binascii.Error, ValueError):
        return frozenset()
    checksum, bits = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
    if checksum != _checksum(position, bits) or len(bits) * 8 > CAPACITY:
        return frozenset()
    return frozenset(
        position + index * 8 + bit for index, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1
    )


def _checksum(position: int, bits: bytes | bytearray) -> bytes:
    return zlib.crc32(bits, zlib.crc32(position.to_bytes(8, "big"))).to_bytes(_CHECKSUM_BYTES, "big")
