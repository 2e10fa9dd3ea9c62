"""The commit metadata: the topic's id, and the finished offsets of a partition's window, as text. Pure.

A commit holds one position: the first record without an outcome. The next owner would repeat finished records behind
it, so the commit metadata has a bit for each of them. A topic that was deleted and made anew has its name and other
records: its id tells it from the one that the position belongs to.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from typing import Final

#: Bits in a map, counted from the position. 16,384 bits and an id are 2,762 characters; a broker takes 4,095.
CAPACITY: Final = 16_384

#: Written before topic ids were kept; still read.
_WITHOUT_ID: Final = "1:"
_VERSION: Final = "2:"
_CHECKSUM_BYTES: Final = 4


def encode(position: int, done: Iterable[int], topic_id: str = "") -> str:
    """The topic's id and the map of the finished offsets above `position`; empty where there is neither.

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
    if not bits and not topic_id:
        return ""
    return f"{_VERSION}{topic_id}:" + base64.b64encode(_checksum(position, topic_id, bits) + bits).decode()


def decode(position: int, metadata: str | None) -> frozenset[int]:
    """The finished offsets in a map that belongs to `position`.

    Empty where the text is not such a map, is damaged, or belongs to another position: then everything from the
    position on is repeated, which is always safe.
    """
    _, bits = _parse(position, metadata)
    return frozenset(
        position + index * 8 + bit for index, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1
    )


def topic_of(position: int, metadata: str | None) -> str:
    """The id of the topic that `position` belongs to; empty where the text does not say it."""
    return _parse(position, metadata)[0]


def _parse(position: int, metadata: str | None) -> tuple[str, bytes]:
    """The topic's id and the bits; both empty where the text is anything else, or of another position."""
    text = metadata or ""
    if text.startswith(_VERSION):
        topic_id, _, content = text.removeprefix(_VERSION).partition(":")
    elif text.startswith(_WITHOUT_ID):
        topic_id, content = "", text.removeprefix(_WITHOUT_ID)
    else:
        return "", b""
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return "", b""
    checksum, bits = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
    if checksum != _checksum(position, topic_id, bits) or len(bits) * 8 > CAPACITY:
        return "", b""
    return topic_id, bits


def _checksum(position: int, topic_id: str, bits: bytes | bytearray) -> bytes:
    content = position.to_bytes(8, "big") + topic_id.encode(errors="replace") + bits
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")
