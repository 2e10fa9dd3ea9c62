"""Pictures that behave like photos: smooth areas, edges and fine grain, the same ones for the same seed."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from consumer.contract import Geometry
from consumer.events import Pixels
from consumer.imaging.decode import decode, opened
from consumer.imaging.limits import Header, PrepareLimits


def to_pixels(body: bytes, geometry: Geometry, limits: PrepareLimits) -> Pixels:
    return decode(body, [geometry], limits).views[geometry]


def inspect(body: bytes, geometry: Geometry, limits: PrepareLimits) -> Header:
    with opened(body, [geometry], limits) as (_, header):
        return header


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((4, 90.0), (16, 50.0), (64, 25.0)):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += weight / 255 * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    pixels += rng.normal(40, 6, (height, width, 1)).astype(np.float32)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = int(rng.integers(1, max(min(width, height) // 4, 2)))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        (draw.rectangle if rng.random() < 0.5 else draw.ellipse)((x, y, x + size, y + size), fill=colour)
    return image


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def difference(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Mean absolute difference, in levels of 0..255."""
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())
