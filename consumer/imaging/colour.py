"""Conversion to RGB at the models' size: the rules for palettes, alpha, 16-bit grey, CMYK and ICC profiles."""

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageFile

from consumer.imaging.cost import RESIZABLE
from consumer.imaging.decode_view import DecodeView, cut
from consumer.imaging.limits import IccRule

_DEEP_GREY: Final = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
#: Printer profiles are the largest, about a megabyte; larger ones are ignored.
_MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024


def covered(image: ImageFile.ImageFile) -> tuple[int, int, int, int] | None:
    """The part of the canvas that the first frame of a GIF covers, before it is loaded; None if it is the whole."""
    extents = image.tile[0].extents if image.tile else None
    return None if extents == (0, 0, *image.size) else extents


def to_rgb(
    image: Image.Image, views: Sequence[DecodeView], icc: IccRule, frame: tuple[int, int, int, int] | None = None
) -> list[Image.Image]:
    """The views of an image, as RGB, white outside of `frame`; the image itself may be closed afterwards."""
    profile = image.info.get("icc_profile")
    transparent = "transparency" in image.info or frame is not None
    if image.mode not in RESIZABLE or transparent:
        visible = None if frame is None else cut(_mask(image.size, frame), views)[0]
        image, views = cut(image, views)
        if image.mode in _DEEP_GREY:
            image = _eight_bits(image)
        elif image.mode in {"P", "PA"} or transparent or image.has_transparency_data:
            image = _with_alpha(image)
        elif image.mode == "CMYK":
            # Not after the resize: the colour of mixed inks is not the mixture of their colours.
            image, profile = _rgb(_through_profile(image, profile)), None
        elif image.mode not in {"L", "RGB"}:
            image = image.convert("L" if image.mode in {"1", "F"} else "RGB")
        if visible is not None:
            image.putalpha(ImageChops.darker(image.getchannel("A"), visible))
    if image.mode == "RGBA":
        image = image.convert("RGBa")
    return [_small(view.resize(image), profile, icc) for view in views]


def _small(small: Image.Image, profile: bytes | None, icc: IccRule) -> Image.Image:
    if small.mode == "RGBa":
        small = _on_white(small)
    return _rgb(_through_profile(small, profile) if icc == "srgb" else small)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _mask(size: tuple[int, int], frame: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, frame)
    return mask


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, or as RGBA if one value is transparent. Pillow's own conversion clips it to white."""
    deep = np.asarray(image)
    if deep.dtype != np.uint16:
        deep = np.clip(deep, 0, 65_535).astype(np.uint16)
    grey = Image.fromarray((deep >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    grey.putalpha(Image.fromarray((deep != transparent).view(np.uint8) * np.uint8(255)))
    return grey.convert("RGBA")


def _with_alpha(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:  # noqa: PLR2004 - a 16-bit colour, decoded to 8
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return image.convert("RGBA")


def _on_white(premultiplied: Image.Image) -> Image.Image:
    """RGBA over white. Premultiplied, so that the resize does not mix colours of transparent pixels into others."""
    pixels = np.asarray(premultiplied).astype(np.uint16)
    return Image.fromarray(np.minimum(pixels[..., :3] + (255 - pixels[..., 3:]), 255).astype(np.uint8))


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB by its embedded profile; unchanged without a usable one.

    Without it a Display-P3 photo is 2 levels off on average, a CMYK one 12.
    """
    if not profile or len(profile) > _MAX_PROFILE_BYTES:
        return image
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image, transform)
    return image if converted is None else converted


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; cached, since it takes 2 ms to build and photos share a few profiles."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
