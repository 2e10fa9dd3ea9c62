"""Thumbnails for a page: encoded photo bytes in, a JPEG or its data URI out, or None if nothing can be shown.

No bytes make it raise: a gallery shows dead letters too, and those are the photos that do not decode. Photos are opened
and converted as in the service, so that what it judged is shown, and no other plugin of Pillow, nor a program that a
plugin starts, gets untrusted bytes.
"""

import base64
import io
from dataclasses import dataclass
from typing import Final, Self

from PIL import Image, ImageFile

from consumer.contract import Geometry
from consumer.errors import PhotoRejected
from consumer.imaging.colour import covered, to_rgb
from consumer.imaging.decode import opened, orientation_of
from consumer.imaging.decode_view import TURNS, Region
from consumer.imaging.limits import PrepareLimits, checks

#: Longest side of a thumbnail, pixels.
SIDE: Final = 320
_QUALITY: Final = 80
#: The service's defaults, since the page must not decode a bomb either; but a photo too small to be scored is shown.
_LIMITS: Final = PrepareLimits(min_side=1)
_JPEG_START: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"


def thumbnail(body: bytes, side: int = SIDE) -> str | None:
    """A `data:image/jpeg` URI of at most `side` pixels, upright; None if the bytes are not a complete photo."""
    picture = jpeg(body, side)
    return None if picture is None else data_uri(picture)


def jpeg(body: bytes, side: int = SIDE) -> bytes | None:
    """The JPEG of `thumbnail`."""
    try:
        with opened(body, [Geometry(side, side)], _LIMITS) as (image, header):
            return _shrink(image, side) if all(check.holds for check in checks(header, _LIMITS)) else None
    except (PhotoRejected, MemoryError):
        return None


def partial_thumbnail(body: bytes, side: int = SIDE) -> str | None:
    """As `thumbnail`, but shows the existing part of a truncated JPEG; the rest is grey."""
    picture = partial_jpeg(body, side)
    return None if picture is None else data_uri(picture)


def partial_jpeg(body: bytes, side: int = SIDE) -> bytes | None:
    """The JPEG of `partial_thumbnail`."""
    if not body.startswith(_JPEG_START):
        return None
    # With an end marker the decoder fills the missing part; a file without it is an error.
    return jpeg(body + _JPEG_END, side)


def data_uri(picture: bytes) -> str:
    """The `data:image/jpeg` URI of a JPEG."""
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")


@dataclass(frozen=True, slots=True)
class _Fitted:
    """The whole image, upright, its longest side at most `side` pixels."""

    side: int
    orientation: int

    def reads(self, width: int, height: int) -> Region:
        return 0, 0, width, height

    def moved(self, _left: int, _top: int) -> Self:
        return self

    def resize(self, image: Image.Image) -> Image.Image:
        factor = min(self.side / max(image.size), 1.0)
        width, height = (max(round(length * factor), 1) for length in image.size)
        small = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        turn = TURNS.get(self.orientation)
        return small if turn is None else small.transpose(turn)


def _shrink(image: ImageFile.ImageFile, side: int) -> bytes:
    # The JPEG decoder can reduce by up to 8 while it decodes; no effect for other formats.
    image.draft("RGB", (2 * side, 2 * side))
    frame = covered(image)
    image.load()
    (small,) = to_rgb(image, [_Fitted(side, orientation_of(image))], _LIMITS.icc, frame)
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    return encoded.getvalue()
