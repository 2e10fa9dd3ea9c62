"""Small pictures drawn by code, for small data sets in the layout of the studies'."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from training.evaluation.robustness import encoded

Draw = Callable[[ImageDraw.ImageDraw, tuple[float, float, float, float], tuple[int, int, int]], None]


def _cross(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], ink: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    wide = max(2, round((right - left) / 4))
    draw.line((left, top, right, bottom), ink, wide)
    draw.line((left, bottom, right, top), ink, wide)


def _triangle(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], ink: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    draw.polygon((left, bottom, (left + right) / 2, top, right, bottom), ink)


_SHAPES: Final[tuple[Draw, ...]] = (
    lambda draw, box, ink: draw.ellipse(box, ink),
    lambda draw, box, ink: draw.rectangle(box, ink),
    _triangle,
    _cross,
)
_INKS: Final = ((220, 40, 40), (40, 90, 220), (250, 210, 40), (30, 160, 80), (240, 240, 240), (150, 60, 190))


def ground(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A background of soft random colours, so that no two pictures have a similar perceptual hash."""
    rough = Image.fromarray(rng.integers(40, 190, (6, 7, 3), np.uint8))
    soft = np.asarray(rough.resize(size, Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray(np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8))


def drawing(
    rng: np.random.Generator, kind: int | None, size: tuple[int, int] = (128, 96)
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """A picture with the mark of a kind (None: no mark), and the mark's box: left, top, right, bottom in pixels."""
    image = ground(rng, size)
    side = rng.uniform(0.4, 0.7) * min(size)
    left, top = rng.uniform(0, size[0] - side), rng.uniform(0, size[1] - side)
    box = (left, top, left + side, top + side)
    if kind is not None:
        shape, ink = _SHAPES[kind % len(_SHAPES)], _INKS[(kind // len(_SHAPES) + kind) % len(_INKS)]
        shape(ImageDraw.Draw(image), box, ink)
    return image, box


def jpeg(image: Image.Image) -> bytes:
    """A picture as a JPEG file."""
    return encoded(image, "JPEG", quality=92)


def write_drawing(path: Path, rng: np.random.Generator, kind: int | None, size: tuple[int, int] = (128, 96)) -> None:
    """Writes a drawing as a file, and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(drawing(rng, kind, size)[0]))
