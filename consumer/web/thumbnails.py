"""Small pictures for a page: encoded photo bytes in, a JPEG data URI out, or None where nothing can be shown.

Never raises for what is in the bytes: a gallery shows dead letters too, and those are the photos that do not decode.
Opened as the service opens photos, so that no other of Pillow's plugins, nor a program that one of them starts, is ever
given a stranger's bytes.
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
#: The service's own defaults, so that a bomb gets no second chance here; what is too small to be judged can be shown.
_LIMITS: Final = PrepareLimits(min_side=1)
_JPEG_START: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
_BACKDROP: Final = (255, 255, 255)


def thumbnail(body: bytes, side: int = SIDE) -> str | None:
    """A `data:image/jpeg` URI of at most `side` pixels, turned upright; None where the bytes are no whole photo."""
    try:
        with opened(body, Geometry(side, side), _LIMITS) as (image, header):
            return _shrink(image, side) if all(check.holds for check in checks(header, _LIMITS)) else None
    except (PhotoRejected, MemoryError):
        return None


def partial_thumbnail(body: bytes, side: int = SIDE) -> str | None:
    """As `thumbnail`, but shows the part that is there of a JPEG that breaks off; the rest is grey."""
    if not body.startswith(_JPEG_START):
        return None
    # At an end marker the decoder fills up what is missing, where it would refuse a file that just ends.
    return thumbnail(body + _JPEG_END, side)


def _shrink(image: Image.Image, side: int) -> str:
    # Lets the JPEG decoder scale by up to 8 while it decodes; nothing for other formats.
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
