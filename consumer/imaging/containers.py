"""Chunks of PNG and WebP and boxes of ISO media files (AVIF, HEIF), checked before anything decodes them. Pure.

The decoders' own readers trust these structures. What is rejected here costs them seconds: floods of small chunks, or
lists of items that they search linearly. JPEG has a module of its own.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from consumer.errors import PhotoRejected
from consumer.imaging.metadata import media_boxes, riff_chunks

_PNG_HEAD: Final = 8
#: Of a PNG or a WebP.
_MAX_CHUNKS: Final = 40_000

#: The size of the item list. Cameras write some kilobytes; libavif searches the list once for each item.
_MAX_META_BYTES: Final = 512 * 1024
_MAX_BOXES: Final = 1_000
_BOX_HEADER: Final = 8


def png_chunks(body: bytes) -> Iterator[bytes]:
    """Walks the chunks of a PNG.

    Yields:
        Their types, also of a truncated one.
    """
    at = _PNG_HEAD
    while at + 8 <= len(body):
        yield body[at + 4 : at + 8]
        at += 12 + int.from_bytes(body[at : at + 4])


def check_png(body: bytes) -> None:
    """Rejects a flood of chunks.

    Raises:
        PhotoRejected: `corrupt_image`.
    """
    if sum(1 for _ in islice(png_chunks(body), _MAX_CHUNKS + 1)) > _MAX_CHUNKS:
        raise PhotoRejected("corrupt_image", f"PNG: more than {_MAX_CHUNKS} chunks")


def png_ends_early(body: bytes) -> bool:
    """Whether a PNG has no IEND chunk."""
    return b"IEND" not in png_chunks(body)


def check_webp(body: bytes) -> bool:
    """Whether a WebP is of the lossless kind.

    Raises:
        PhotoRejected: `corrupt_image` for a flood of chunks.
    """
    kinds = [kind for kind, _, _ in islice(riff_chunks(body), _MAX_CHUNKS + 1)]
    if len(kinds) > _MAX_CHUNKS:
        raise PhotoRejected("corrupt_image", f"WebP: more than {_MAX_CHUNKS} chunks")
    return b"VP8L" in kinds


def check_boxes(body: bytes) -> None:
    """Rejects an AVIF or HEIF file with an implausibly long item list.

    Raises:
        PhotoRejected: `corrupt_image`.
    """
    for count, (kind, at, size) in enumerate(media_boxes(body), 1):
        if kind in {b"meta", b"moov"} and min(size, len(body) - at) > _MAX_META_BYTES:
            raise PhotoRejected("corrupt_image", f"a {kind.decode()} box of more than {_MAX_META_BYTES} bytes")
        if count > _MAX_BOXES:
            raise PhotoRejected("corrupt_image", f"more than {_MAX_BOXES} boxes")


def media_ends_early(body: bytes) -> bool:
    """Whether a box of an ISO media file is longer than the rest of the file."""
    for _, at, size in media_boxes(body):
        if size < _BOX_HEADER:  # damaged, not truncated
            return False
        if at + size > len(body):
            return True
    return False


def brands(body: bytes) -> frozenset[bytes]:
    """The brands in the `ftyp` box of an ISO media file: the major one and the compatible ones; none of other files."""
    if body[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(body[:4]), len(body), 256)
    return frozenset((body[8:12], *(body[at : at + 4] for at in range(16, end - 3, 4))))
