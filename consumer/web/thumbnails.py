"""Small pictures for a page: encoded photo bytes in, a JPEG data URI out, or None where nothing can be shown.

Never raises for what is in the bytes: a gallery shows dead letters too, and those are the photos that do not decode.
"""

import base64
import io
import warnings
from typing import Final

from PIL import Image, ImageOps

#: Longest side of a thumbnail, pixels.
SIDE: Final = 320
_QUALITY: Final = 80
#: A larger photo is not decoded: a bomb gets no second chance here. The service's own default.
_MAX_PIXELS: Final = 50_000_000
_JPEG_START: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
_BACKDROP: Final = (255, 255, 255)


def thumbnail(body: bytes, side: int = SIDE) -> str | None:
    """A `data:image/jpeg` URI of at most `side` pixels, turned upright; None where the bytes are no whole photo."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of large photos; those are refused by their size below.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body)) as image:
                return None if _too_large(image) else _shrink(image, side)
    except Exception:  # noqa: BLE001 (Pillow's plugins raise whatever their parsers trip over)
        return None


def partial_thumbnail(body: bytes, side: int = SIDE) -> str | None:
    """As `thumbnail`, but shows the part that is there of a JPEG that breaks off; the rest is grey."""
    if not body.startswith(_JPEG_START):
        return None
    # At an end marker the decoder fills up what is missing, where it would refuse a file that just ends.
    return thumbnail(body + _JPEG_END, side)


def _too_large(image: Image.Image) -> bool:
    return image.width * image.height > _MAX_PIXELS


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
