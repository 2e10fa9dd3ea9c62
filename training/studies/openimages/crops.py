"""Crops of objects from photos, and photos with their boxes drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.data.decode import FULL_PX, decode
from training.data.read import read_bytes
from training.studies.openimages.lists import Box

_LEAST_PX = 8


def pixel_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box in pixels, each rounded to the nearest pixel boundary."""
    left, top, right, bottom = box.sides
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


def crop(image: Image.Image, box: Box) -> Image.Image:
    """The pixels within a box."""
    return image.crop(pixel_box(box, *image.size))


def crop_file(folder: Path, box: Box) -> Path:
    """images_cropped/<class>/<photo>_<line>.png: lossless, so that a crop is reproducible."""
    return folder / "images_cropped" / box.name.replace(" ", "_") / f"{box.photo}_{box.line}.png"


def write_crops(photo: Path, boxes: Sequence[Box], folder: Path) -> list[tuple[Box, Path]]:
    """Writes the crops of one photo that are not there yet; boxes of a few pixels are left out.

    Raises:
        Unreadable: The photo is broken.
    """
    made = []
    image: Image.Image | None = None
    for box in boxes:
        path = crop_file(folder, box)
        if not path.is_file():
            image = image or decode(read_bytes(str(photo)), FULL_PX).image
            left, top, right, bottom = pixel_box(box, *image.size)
            if min(right - left, bottom - top) < _LEAST_PX:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            staged = path.with_suffix(".new")
            crop(image, box).save(staged, "PNG", compress_level=1)
            staged.rename(path)
        made.append((box, path))
    return made


def resized(path: Path, px: int, *, nearest: bool) -> np.ndarray:
    """A crop as the network sees it: uint8 [px, px, 3], stretched."""
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    with Image.open(path, formats=("PNG",)) as opened:
        return np.asarray(opened.convert("RGB").resize((px, px), how))


def overlay(photo: Path, boxes: Sequence[Box], most_px: int = 480) -> Image.Image:
    """A photo with its boxes and their classes drawn on it."""
    image = decode(read_bytes(str(photo)), most_px).image
    image.thumbnail((most_px, most_px))
    draw = ImageDraw.Draw(image)
    for box in boxes:
        edges = pixel_box(box, *image.size)
        draw.rectangle(edges, outline=(255, 220, 0), width=3)
        draw.text((edges[0] + 4, edges[1] + 2), box.name, fill=(255, 220, 0), stroke_width=1, stroke_fill=(0, 0, 0))
    return image
