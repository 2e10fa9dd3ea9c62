"""The structure of a JPEG, read before anything decodes it: its frame, its scans and their cost. Pure.

For each scan the decoder walks over the whole image, however few bytes the scan has: 300 kB can take 4 s.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from consumer.errors import PhotoRejected

#: A JPEG marker that ends entropy-coded data or starts a segment; stuffed bytes, fill bytes and restarts are none.
_MARKER: Final = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])", re.DOTALL)
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
#: SOF0 to SOF15, and the one of JPEG-LS.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_BASELINE: Final = frozenset({0xC0, 0xC1})
_PROGRESSIVE: Final = 0xC2
#: More segments than any camera writes (20 MiB of 64 kB segments are 320).
_MAX_SEGMENTS: Final = 5_000
#: Pillow steps over what lies between segments byte by byte, in Python; after the first scan it is no longer asked.
_MAX_JUNK_BYTES: Final = 64 * 1024
#: Pillow joins them one by one, so that their cost grows with the square of their number.
_MAX_EXIF_SEGMENTS: Final = 100
#: Stepping over one block of a scan costs as much as so many of its coefficients.
_BLOCK_STEP: Final = 12
_COEFFICIENTS: Final = 64


@dataclass(frozen=True, slots=True)
class Jpeg:
    """The frame and the scans of a JPEG, as libjpeg decodes them."""

    width: int
    height: int
    components: int
    #: The 8x8 blocks of all components.
    blocks: int
    #: All coefficients are kept until the last scan: the memory and most of the time of such a file.
    buffered: bool
    #: Counted up to one more than is allowed; 1 for a file that is not buffered.
    scans: int
    #: Coefficients that all scans visit together, steps over blocks included.
    visits: int


def read_jpeg(body: bytes, max_scans: int) -> Jpeg:
    """The frame and the scans of a JPEG; reading stops at a first scan that holds all components, as cameras write.

    Raises:
        PhotoRejected: `unsupported_format` for kinds that cameras and browsers do not write (arithmetic coding,
            lossless, JPEG-LS, hierarchical, 12 bits), `corrupt_image` for one without a frame or with a flood of
            segments.
    """
    frame: Jpeg | None = None
    sizes: Mapping[int, int] = {}
    scans, visits = 0, 0
    for code, at in _segments(body):
        if code in _FRAMES:
            if frame is not None:
                raise PhotoRejected("corrupt_image", "JPEG: a second frame")
            frame, sizes = _frame(body, at, code)
        elif code == _SOS and frame is not None:
            count = int.from_bytes(body[at + 2 : at + 3])
            if not scans and not frame.buffered and count == frame.components:
                return frame
            scans += 1
            visits += _visits(body, at, count, sizes)
            if scans > max_scans:
                break
    if frame is None or not scans:
        raise PhotoRejected("corrupt_image", "JPEG: no frame or no scan")
    return replace(frame, buffered=True, scans=scans, visits=visits)


def jpeg_ends_early(body: bytes) -> bool:
    """Whether a JPEG has no end-of-image marker behind its first scan; asked only if the photo cannot be decoded.

    An embedded thumbnail, which has such a marker too, lies in a segment before the scan.
    """
    at = 2
    while at + 4 <= len(body):
        if body[at] != 0xFF:  # noqa: PLR2004 - no marker: damaged, not truncated
            return False
        code = body[at + 1]
        if code == 0xFF:  # noqa: PLR2004 - a fill byte
            at += 1
            continue
        if code == _SOS:
            return body.find(b"\xff\xd9", at) < 0
        at += 2 + int.from_bytes(body[at + 2 : at + 4])
    return True


def _segments(body: bytes) -> Iterator[tuple[int, int]]:
    """Walks the segments up to the end of the image, and rejects floods of them.

    Yields:
        The code of a marker, and the offset of its length field.

    Raises:
        PhotoRejected: as `read_jpeg`.
    """
    at, exif, scanned = 2, 0, False
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(body, at)
        if marker is None or (code := marker[1][0]) in {_SOI, _EOI}:
            return
        if not scanned and marker.start() - at > _MAX_JUNK_BYTES:
            raise PhotoRejected("corrupt_image", f"JPEG: more than {_MAX_JUNK_BYTES} bytes between segments")
        scanned = scanned or code == _SOS
        at = marker.end()
        exif += code == _APP1 and body.startswith(b"Exif\0", at + 2)
        if exif > _MAX_EXIF_SEGMENTS:
            raise PhotoRejected("corrupt_image", f"JPEG: more than {_MAX_EXIF_SEGMENTS} EXIF segments")
        yield code, at
        at += max(int.from_bytes(body[at : at + 2]), 2)
    raise PhotoRejected("corrupt_image", f"JPEG: more than {_MAX_SEGMENTS} segments")


def _frame(body: bytes, at: int, code: int) -> tuple[Jpeg, dict[int, int]]:
    """The frame of a JPEG before any scan, and the blocks of each component by its id.

    Raises:
        PhotoRejected: as `read_jpeg`.
    """
    precision, count = int.from_bytes(body[at + 2 : at + 3]), int.from_bytes(body[at + 7 : at + 8])
    if code not in _BASELINE | {_PROGRESSIVE} or precision != 8:  # noqa: PLR2004 - bits
        kind = f"frame type SOF{code - 0xC0} of {precision} bits"
        raise PhotoRejected("unsupported_format", f"JPEG: {kind}; baseline and progressive of 8 bits are read")
    height, width = int.from_bytes(body[at + 3 : at + 5]), int.from_bytes(body[at + 5 : at + 7])
    parts = body[at + 8 : at + 8 + 3 * count]
    factors = {parts[i]: (parts[i + 1] >> 4 or 1, parts[i + 1] & 15 or 1) for i in range(0, len(parts) - 2, 3)}
    if not factors:
        raise PhotoRejected("corrupt_image", "JPEG: a frame without components")
    across = max(factor[0] for factor in factors.values())
    down = max(factor[1] for factor in factors.values())
    columns, rows = -(-width // (8 * across)), -(-height // (8 * down))
    sizes = {name: columns * factor[0] * rows * factor[1] for name, factor in factors.items()}
    buffered = code == _PROGRESSIVE
    return Jpeg(width, height, count, sum(sizes.values()), buffered, 1, 0), sizes


def _visits(body: bytes, at: int, count: int, sizes: Mapping[int, int]) -> int:
    """The coefficients that one scan visits."""
    names = body[at + 3 : at + 3 + 2 * count : 2]
    first, last = (body[at + 3 + 2 * count : at + 5 + 2 * count] + b"\0\0")[:2]
    band = min(max(last - first + 1, 1), _COEFFICIENTS)
    return sum(sizes.get(name, 0) for name in names) * (band + _BLOCK_STEP)
