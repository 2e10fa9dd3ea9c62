"""Whether the bytes of a photo stop before the photo does, by what its format says of its own length. Pure.

Asked only of photos that could not be decoded: an upload that was still under way looks like this, and is whole later.
"""

from typing import Final

_SOI_LENGTH: Final = 2
_SOS, _EOI = 0xDA, b"\xff\xd9"
_PNG_HEAD: Final = 8


def ends_early(body: bytes) -> bool:
    """Whether a JPEG, PNG, GIF, WebP or AVIF lacks its end; False for what is none of these."""
    if body.startswith(b"\xff\xd8\xff"):
        return _jpeg(body)
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(body)
    if body.startswith((b"GIF87a", b"GIF89a")):
        return not body.rstrip(b"\0").endswith(b";")
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return int.from_bytes(body[4:8], "little") + 8 > len(body)
    return body[4:8] == b"ftyp" and _boxes(body)


def _jpeg(body: bytes) -> bool:
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


def _png(body: bytes) -> bool:
    at = _PNG_HEAD
    while at + 8 <= len(body):
        if body[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(body[at : at + 4])
    return True


def _boxes(body: bytes) -> bool:
    """An ISO media file whose last box is longer than what is there."""
    at = 0
    while at + 8 <= len(body):
        size = int.from_bytes(body[at : at + 4])
        if size == 1:
            size = int.from_bytes(body[at + 8 : at + 16])
        if size == 0:
            return False
        if size < 8:  # noqa: PLR2004 - no box is shorter than its header: damaged, not cut
            return False
        at += size
    return at > len(body)
