"""Whether the bytes of a photo stop before the photo does, by what its format says of its own length. Pure.

Asked only of photos that could not be decoded: an upload that was still under way looks like this, and is whole later.
"""

from typing import Final

from consumer.imaging.containers import media_boxes, png_chunks

_SOI_LENGTH: Final = 2
_SOS, _EOI = 0xDA, b"\xff\xd9"


def jpeg_ends_early(body: bytes) -> bool:
    """No end-of-image marker behind the first scan; a thumbnail among the segments before has its own."""
    at = _SOI_LENGTH
    while at + 4 <= len(body):
        if body[at] != 0xFF:  # noqa: PLR2004 - no marker where one must be: damaged, not cut
            return False
        code = body[at + 1]
        if code == 0xFF:  # noqa: PLR2004 - a fill byte
            at += 1
            continue
        if code == _SOS:
            return body.find(_EOI, at) < 0
        at += 2 + int.from_bytes(body[at + 2 : at + 4])
    return True


def png_ends_early(body: bytes) -> bool:
    """No chunk that ends the image."""
    return b"IEND" not in png_chunks(body)


def gif_ends_early(body: bytes) -> bool:
    """No trailer at the end."""
    return not body.rstrip(b"\0").endswith(b";")


def webp_ends_early(body: bytes) -> bool:
    """Fewer bytes than the RIFF header says."""
    return int.from_bytes(body[4:8], "little") + 8 > len(body)


def media_ends_early(body: bytes) -> bool:
    """An ISO media file whose last box is longer than what is there."""
    for _, at, size in media_boxes(body):
        if size < 8:  # noqa: PLR2004 - no box is shorter than its header: damaged, not cut
            return False
        if at + size > len(body):
            return True
    return False
