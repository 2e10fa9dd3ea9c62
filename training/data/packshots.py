"""Packshots: the middle of a photo cut out and put on white, as shops show their goods.

Most of such a photo is empty, which a model of damage easily takes for overexposure or blur.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Box = tuple[float, float, float, float]
_SHADOW: Final = (120, 120, 120)


def _ellipse(_rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Box) -> None:
    draw.ellipse(box, fill=255)


def _carton(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Box) -> None:
    side = min(box[2] - box[0], box[3] - box[1])
    draw.rounded_rectangle(box, side * float(rng.uniform(0.02, 0.4)), fill=255)


def _bottle(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Box) -> None:
    left, top, right, bottom = box
    width, shoulder = right - left, top + (bottom - top) * float(rng.uniform(0.2, 0.4))
    draw.rounded_rectangle((left + width * 0.2, shoulder, right - width * 0.2, bottom), width * 0.1, fill=255)
    draw.rounded_rectangle((left + width * 0.38, top, right - width * 0.38, shoulder + width * 0.1), fill=255)


def _uneven(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Box) -> None:
    corners = int(rng.integers(6, 11))
    angles = (np.arange(corners) + rng.uniform(size=corners)) * (2 * np.pi / corners)  # none is on one side alone
    reach = rng.uniform(0.75, 1.0, corners)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    wide, tall = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    points = zip(angles.tolist(), reach.tolist(), strict=True)
    draw.polygon([(x + wide * r * np.cos(a), y + tall * r * np.sin(a)) for a, r in points], fill=255)


_SHAPES: Final[tuple[Callable[[np.random.Generator, ImageDraw.ImageDraw, Box], None], ...]] = (
    _ellipse,
    _carton,
    _bottle,
    _uneven,
)


def on_white(rng: np.random.Generator, photo: Image.Image) -> Image.Image:
    """An RGB photo of which only a shape in the middle is left, on white or nearly white, most often with a shadow."""
    width, height = photo.size
    side = min(photo.size)
    share, stretch = float(rng.uniform(0.35, 0.85)), float(rng.uniform(0.75, 1.3))
    wide, tall = (min(0.95, share * stretch) * side / 2, min(0.95, share / stretch) * side / 2)
    x, y = width / 2, height / 2 + side * float(rng.uniform(-0.02, 0.03))
    mask = Image.new("L", photo.size)
    _SHAPES[int(rng.integers(len(_SHAPES)))](rng, ImageDraw.Draw(mask), (x - wide, y - tall, x + wide, y + tall))
    mask = mask.filter(ImageFilter.GaussianBlur(side / 600))
    made = Image.new("RGB", photo.size, (int(rng.integers(246, 256)),) * 3)
    if rng.random() < 0.7:
        soft = mask.filter(ImageFilter.GaussianBlur(side * float(rng.uniform(0.01, 0.04))))
        made.paste(_SHADOW, (0, round(side * float(rng.uniform(0.005, 0.03)))), soft.point(lambda value: value * 0.35))
    made.paste(photo, (0, 0), mask)
    return made
