"""Thumbnails for a page: encoded photo bytes in, a JPEG data URI out, or None if nothing can be shown.

No bytes make it raise: a gallery shows dead letters too, and those are the photos that do not decode. Photos are opened
as the service opens them, so that no other plugin of Pillow, nor a program that a plugin starts, gets untrusted bytes.
"""

import base64
import io
from typing import Final

from PIL import Image, ImageOps

from consumer.contract import Geometry
from consumer.errors import PhotoRejected
from consumer.imaging.decode import opened
from consumer.imaging.limits import PrepareLimits, checks

#: Longest side of a thumbnail, pixels.
SIDE: Final = 320
_QUALITY: Final = 80
#: The service's defaults, since the page must not decode a bomb either; but a photo too small to be scored is shown.
_LIMITS: Final = PrepareLimits(min_side=1)
_JPEG_START: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
_BACKDROP: Final = (255, 255, 255)


def thumbnail(body: bytes, side: int = SIDE) -> str | None:
    """A `data:image/jpeg` URI of at most `side` pixels, upright; None if the bytes are not a complete photo."""
    try:
        with opened(body, Geometry(side, side), _LIMITS) as (image, header):
            return _shrink(image, side) if all(check.holds for check in checks(header, _LIMITS)) else None
    except (PhotoRejected, MemoryError):
        return None


def partial_thumbnail(body: bytes, side: int = SIDE) -> str | None:
    """As `thumbnail`, but shows the existing part of a truncated JPEG; the rest is grey."""
    if not body.startswith(_JPEG_START):
        return None
    # With an end marker the decoder fills the missing part; a file without it is an error.
    return thumbnail(body + _JPEG_END, side)


def _shrink(image: Image.Image, side: int) -> str:
    # The JPEG decoder can reduce by up to 8 while it decodes; no effect for other formats.
    image.draft("RGB", (2 * side, 2 * side))
    image.thumbnail((side, side), reducing_gap=2.0)
    upright = ImageOps.exif_transpose(image)
    encoded = io.BytesIO()
    _flatten(upright).save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")


def _flatten(image: Image.Image) -> Image.Image:
    """The image as RGB, its transparent parts over white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    flat = Image.new("RGB", layer.size, _BACKDROP)
    flat.paste(layer, mask=layer.getchannel("A"))
    return flat
