"""What a photo's bytes say before anything decodes them: the format by its magic number, the scans of a JPEG. Pure."""

import re
from typing import Final

from consumer.errors import PhotoRejected

#: A JPEG marker that ends entropy-coded data or starts a segment; stuffed bytes, fill bytes and restarts are none.
_MARKER: Final = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])", re.DOTALL)
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_FRAMES: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
#: More segments than any camera writes (20 MiB of 64 kB segments are 320).
_MAX_SEGMENTS: Final = 20_000


def sniff(body: bytes) -> str:
    """Pillow's name of the format, by its first bytes: a Content-Type or a file name proves nothing.

    Raises:
        PhotoRejected: `empty_body` or `unsupported_format`.
    """
    if not body:
        raise PhotoRejected("empty_body", "the photo has no bytes")
    if body.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if body.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return "WEBP"
    if body[4:8] == b"ftyp" and {b"avif", b"avis"} & _brands(body):
        return "AVIF"
    raise PhotoRejected("unsupported_format", f"starts with {body[:16]!r}; JPEG, PNG, WebP, GIF and AVIF are read")


def count_scans(body: bytes, limit: int) -> int:
    """The scans of a JPEG as libjpeg walks them, counted up to `limit` + 1.

    Each scan costs the decoder a walk over the whole image, however few bytes it has: 260 kB can take 6 s. A file whose
    first scan holds everything, as cameras write them, is not searched beyond it.
    """
    at, scans, components, progressive = 2, 0, -1, False
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(body, at)
        if marker is None or (code := marker[1][0]) in {_SOI, _EOI}:
            return scans
        at = marker.end()
        if code in _FRAMES:
            components, progressive = int.from_bytes(body[at + 7 : at + 8]), code in _PROGRESSIVE_FRAMES
        elif code == _SOS:
            scans += 1
            if scans > limit or (scans == 1 and not progressive and body[at + 2 : at + 3] == bytes([components])):
                return scans
        at += max(int.from_bytes(body[at : at + 2]), 2)
    return limit + 1


def _brands(body: bytes) -> set[bytes]:
    """The brands in the `ftyp` box of an ISO media file: the major one and the compatible ones."""
    end = min(int.from_bytes(body[:4]), len(body), 256)
    return {body[8:12]} | {body[at : at + 4] for at in range(16, end - 3, 4)}
