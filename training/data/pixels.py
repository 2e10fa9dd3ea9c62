"""Pixels of listed photos: files, drawn scenes, composed and damaged photos."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data.backgrounds import CANVAS_PX
from training.data.decode import Geometry, decode, square
from training.data.made import composed_pixels, damage_pixels, generator_sha256, scene_pixels
from training.data.photos import COMPOSED, SCENE, Photo
from training.data.read import read_bytes

#: The side of the canvas that gets damage is at least this many times the model's.
_CANVAS_GAP = 1.5


def photo_pixels(photo: Photo, geometry: Geometry) -> np.ndarray:
    """One photo as the model sees it: uint8 [input_size, input_size, 3].

    Raises:
        Unreadable: The file is missing or corrupt.
    """
    if photo.uri.startswith(COMPOSED):
        return _resized(composed_pixels(photo.uri), geometry.input_size)
    if photo.uri.startswith(SCENE):
        scene = scene_pixels(photo.uri)
        if photo.damage is None:
            return _resized(scene, geometry.input_size)
        return damage_pixels(scene, photo, geometry.input_size)
    if photo.damage is not None:
        canvas = _file_canvas(photo.uri, max(CANVAS_PX, round(geometry.input_size * _CANVAS_GAP)))
        return damage_pixels(canvas, photo, geometry.input_size)
    return square(decode(read_bytes(photo.uri), _decoded_side(photo, geometry)), geometry, photo.box)


def _decoded_side(photo: Photo, geometry: Geometry) -> int:
    """A photo of which only a part is used must be decoded larger."""
    if photo.box is None:
        return geometry.resize_short_side
    left, top, right, bottom = photo.box
    return round(geometry.resize_short_side / max(min(right - left, bottom - top), 0.02))


@lru_cache(maxsize=16)
def _file_canvas(uri: str, side: int) -> np.ndarray:
    """The undamaged photo; cached, since its damaged versions are adjacent in a manifest."""
    return square(decode(read_bytes(uri), side), Geometry(side, side))


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    if pixels.shape[0] == size:
        return pixels
    shrunk = torch.nn.functional.interpolate(
        torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float(), (size, size), mode="bilinear", antialias=True
    )
    return shrunk[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def stack(
    photos: Sequence[Photo], geometry: Geometry, workers: int, on_done: Callable[[int], None] = lambda _count: None
) -> Tensor:
    """Photos as one tensor uint8 [N, 3, S, S], decoded by `workers` threads; calls `on_done(1)` after each.

    Raises:
        Unreadable: A photo that was readable when it was listed no longer is.
    """
    size = geometry.input_size
    made = torch.empty((len(photos), 3, size, size), dtype=torch.uint8)

    def fill(index: int) -> None:
        made[index] = torch.from_numpy(photo_pixels(photos[index], geometry)).permute(2, 0, 1)

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(fill, range(len(photos))):
            on_done(1)
    return made


def content_sha256(photos: Sequence[Photo], geometry: Geometry) -> str:
    """Identifies the pixels of photos in order: equal for equal files and geometry, wherever the files are."""
    digest = hashlib.sha256(f"{geometry} {generator_sha256()}".encode())
    for photo in photos:
        digest.update(repr((photo.sha256, photo.uri if not photo.sha256 else "", photo.box, photo.damage)).encode())
    return digest.hexdigest()


def cached_stack(
    photos: Sequence[Photo],
    geometry: Geometry,
    workers: int,
    cache: Path | None,
    on_done: Callable[[int], None] = lambda _count: None,
) -> Tensor:
    """As `stack`; the result is kept in a memory-mapped file of `cache`, named by the photos' hashes and the geometry.

    Raises:
        Unreadable: As `stack`.
    """
    if cache is None or not photos:
        return stack(photos, geometry, workers, on_done)
    path = cache / f"{content_sha256(photos, geometry)[:32]}.npy"
    if not path.exists():
        made = stack(photos, geometry, workers, on_done).numpy()
        cache.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        with staged.open("wb") as stream:
            np.save(stream, made)
        staged.rename(path)
    return torch.from_numpy(np.load(path, mmap_mode="c"))
