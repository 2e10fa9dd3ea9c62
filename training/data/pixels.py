"""Pixels of listed photos: files, drawn scenes, composed and damaged photos."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.data.decode import Decoded, Geometry, decode, square
from training.data.made import composed_pixels, generator_sha256, scene_picture, with_damage
from training.data.photos import COMPOSED, SCENE, Photo
from training.data.read import read_bytes

#: Damaged photos are at most so large, so files are decoded to no less.
_DAMAGED_PX = 600


def photo_pixels(photo: Photo, geometry: Geometry) -> np.ndarray:
    """One photo as the model sees it: uint8 [input_size, input_size, 3].

    Raises:
        Unreadable: The file is missing or corrupt.
    """
    size = geometry.input_size
    if photo.uri.startswith(COMPOSED):
        return _resized(Image.fromarray(composed_pixels(photo.uri)), size)
    if photo.damage is not None:
        return with_damage(photo, partial(_square, photo), size)
    if photo.uri.startswith(SCENE):
        return _resized(scene_picture(photo.uri), size)
    return square(decode(read_bytes(photo.uri), _decoded_side(photo, geometry)), geometry, photo.box)


def undamaged(photo: Photo) -> Decoded:
    """A photo at its full size, or no less than 1,200 px on its short side, without the damage that code does to it.

    Raises:
        Unreadable: The file is missing or corrupt.
    """
    if photo.uri.startswith(SCENE):
        scene = scene_picture(photo.uri)
        return Decoded(scene, scene.width, scene.height)
    return _decoded(photo.uri)


def _square(photo: Photo, side: int) -> Image.Image:
    """The undamaged centre square of a side in px."""
    return Image.fromarray(square(undamaged(photo), Geometry(side, side), photo.box))


def _decoded_side(photo: Photo, geometry: Geometry) -> int:
    """A photo of which only a part is used must be decoded larger."""
    if photo.box is None:
        return geometry.resize_short_side
    left, top, right, bottom = photo.box
    return round(geometry.resize_short_side / max(min(right - left, bottom - top), 0.02))


@lru_cache(maxsize=8)
def _decoded(uri: str) -> Decoded:
    """A file's photo; cached, since its damaged versions are adjacent in a manifest."""
    return decode(read_bytes(uri), _DAMAGED_PX)


def _resized(picture: Image.Image, size: int) -> np.ndarray:
    return np.array(picture.resize((size, size), Image.Resampling.BILINEAR))


def stack(
    photos: Sequence[Photo], geometry: Geometry, workers: int, on_done: Callable[[int], None] = lambda _count: None
) -> Tensor:
    """Photos as one tensor uint8 [N, 3, S, S], decoded by `workers` threads; calls `on_done(1)` after each.

    Raises:
        Unreadable: A photo that was readable when it was listed no longer is.
    """
    made = torch.empty(_shape(photos, geometry), dtype=torch.uint8)
    _fill(made, photos, geometry, workers, on_done)
    return made


def _shape(photos: Sequence[Photo], geometry: Geometry) -> tuple[int, int, int, int]:
    return len(photos), 3, geometry.input_size, geometry.input_size


def _fill(
    made: Tensor, photos: Sequence[Photo], geometry: Geometry, workers: int, on_done: Callable[[int], None]
) -> None:
    def fill(index: int) -> None:
        made[index] = torch.from_numpy(photo_pixels(photos[index], geometry)).permute(2, 0, 1)

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(fill, range(len(photos))):
            on_done(1)


def content_sha256(photos: Sequence[Photo], geometry: Geometry) -> str:
    """Identifies the pixels of photos in order: equal for equal files and geometry, wherever the files are."""
    digest = hashlib.sha256(f"{geometry} {generator_sha256()}".encode())
    for photo in photos:
        digest.update(
            repr(
                (photo.sha256, photo.uri if not photo.sha256 else "", photo.box, photo.damage, photo.on_white)
            ).encode()
        )
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
        cache.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        # filled in place: thousands of photos are gigabytes that memory need not hold
        made = np.lib.format.open_memmap(staged, "w+", np.uint8, _shape(photos, geometry))
        try:
            _fill(torch.from_numpy(made), photos, geometry, workers, on_done)
        except BaseException:
            staged.unlink()
            raise
        made.flush()
        staged.rename(path)
    return torch.from_numpy(np.load(path, mmap_mode="c"))
