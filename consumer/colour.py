"""An image of any mode becomes RGB of the wanted size: the rules for palettes, transparency, deep grey and CMYK."""

import io
from typing import Final

import numpy as np
from PIL import Image, ImageCms

from consumer.geometry import Box, whole_pixels

#: Resized as they are, made RGB afterwards; every other mode is converted first.
_RESIZABLE: Final = frozenset({"RGB", "L", "CMYK", "YCbCr"})
_DEEP_GREY: Final = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})


def resized(image: Image.Image, box: Box, size: int) -> Image.Image:
    """The box as an RGB image of `size`²."""
    transparent = "transparency" in image.info
    if image.mode not in _RESIZABLE or transparent:
        image, box = _cut(image, box, size)
        if image.mode in _DEEP_GREY:
            image = _eight_bits(image)
        elif image.mode in {"P", "PA"} or transparent or image.has_transparency_data:
            image = _with_alpha(image)
        elif image.mode != "RGBA":
            image = image.convert("L" if image.mode in {"1", "F"} else "RGB")
    if image.mode == "RGBA":
        return _on_white(image.convert("RGBa").resize((size, size), Image.Resampling.BILINEAR, box.as_tuple()))
    small = image.resize((size, size), Image.Resampling.BILINEAR, box.as_tuple())
    return _from_cmyk(small) if small.mode == "CMYK" else small.convert("RGB")


def _cut(image: Image.Image, box: Box, size: int) -> tuple[Image.Image, Box]:
    """Only the pixels that the resize will read: what follows converts pixel by pixel, at up to 8 bytes each."""
    left, top, right, bottom = whole_pixels(box, size, *image.size)
    moved = Box(box.left - left, box.top - top, box.right - left, box.bottom - top)
    return image.crop((left, top, right, bottom)), moved


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, or RGBA where one value is transparent. Pillow's own conversion clips it to white."""
    deep = np.asarray(image)
    grey = Image.fromarray((np.clip(deep, 0, 65_535) >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    grey.putalpha(Image.fromarray(np.where(deep == transparent, 0, 255).astype(np.uint8)))
    return grey.convert("RGBA")


def _with_alpha(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:  # noqa: PLR2004 - a 16-bit colour, decoded to 8
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return image.convert("RGBA")


def _on_white(premultiplied: Image.Image) -> Image.Image:
    """RGBa over white. Resizing premultiplied colours keeps those of invisible pixels out of visible ones."""
    pixels = np.asarray(premultiplied).astype(np.uint16)
    return Image.fromarray(np.minimum(pixels[..., :3] + (255 - pixels[..., 3:]), 255).astype(np.uint8))


def _from_cmyk(small: Image.Image) -> Image.Image:
    """RGB through the embedded profile; without a usable one by plain arithmetic, 12 levels off on average."""
    profile = small.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(small, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return small.convert("RGB")
        if converted is not None:
            return converted
    return small.convert("RGB")
