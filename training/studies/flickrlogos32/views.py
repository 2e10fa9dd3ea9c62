"""Preprocessing of the study: a crop of 224 pixels, of the raw photo or of one that is resized first."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.data.decode import FULL_PX, decode
from training.data.photos import Photo
from training.data.read import read_bytes
from training.models.served import normalise
from training.statistics import Ints
from training.studies.fit import Pictures, in_memory

_CENTRE: Final = (0.5, 0.5)


@dataclass(frozen=True, slots=True)
class View:
    """How a photo becomes pixels."""

    px: int
    #: Short side before the crop; None: the raw photo is cropped, as published.
    resize_px: int | None
    #: Normalised as the weights expect it, or 0..255 as published.
    normalised: bool
    workers: int = 2

    def tensor(self, pixels: Tensor) -> Tensor:
        """uint8 [N, 3, px, px] as the network takes it."""
        return normalise(pixels) if self.normalised else pixels.float()


def view_of(px: int, resize_px: int, workers: int, *, as_published: bool) -> View:
    """The study's view, or the corrected one."""
    return View(px, None, normalised=False, workers=workers) if as_published else View(px, resize_px, True, workers)  # noqa: FBT003 - the field has a name


def load(body: bytes, view: View) -> Image.Image:
    """The photo that a view crops.

    Raises:
        Unreadable: It cannot be decoded.
    """
    if view.resize_px is None:
        return decode(body, FULL_PX).image
    image = decode(body, view.resize_px).image
    scale = view.resize_px / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)


def cut(image: Image.Image, px: int, place: tuple[float, float] = _CENTRE) -> np.ndarray:
    """A square crop uint8 [px, px, 3]; `place` is its offset as shares of the largest one.

    A smaller photo gives its largest square, enlarged.
    """
    side = min(px, *image.size)
    left, top = (round(share * (length - side)) for share, length in zip(place, image.size, strict=True))
    part = image.crop((left, top, left + side, top + side))
    return np.asarray(part if side == px else part.resize((px, px), Image.Resampling.BILINEAR))


def centred(photos: Sequence[Photo], labels: Ints, view: View) -> Pictures:
    """Photos to evaluate on: centre crops, decoded once."""
    pixels = torch.empty((len(photos), 3, view.px, view.px), dtype=torch.uint8)

    def fill(index: int) -> None:
        pixels[index] = _planes(cut(load(read_bytes(photos[index].uri), view), view.px))

    with ThreadPoolExecutor(view.workers) as pool:
        list(pool.map(fill, range(len(photos))))
    return in_memory(pixels, labels, view.tensor)


def shaken(photos: Sequence[Photo], labels: Ints, view: View) -> Pictures:
    """Photos to train on: random crops, mirrored half of the time. Resized photos stay in memory, raw ones do not."""
    kept: dict[int, Image.Image] = {}

    def image(index: int) -> Image.Image:
        if index in kept:
            return kept[index]
        loaded = load(read_bytes(photos[index].uri), view)
        if view.resize_px is not None:
            kept[index] = loaded
        return loaded

    def one(index: int, chance: np.ndarray) -> Tensor:
        planes = _planes(cut(image(index), view.px, (float(chance[0]), float(chance[1]))))
        return planes.flip(2) if chance[2] < 0.5 else planes

    def pick(rng: np.random.Generator, indices: Ints) -> Tensor:
        chances = rng.random((len(indices), 3))
        with ThreadPoolExecutor(view.workers) as pool:
            return view.tensor(torch.stack(list(pool.map(one, indices.tolist(), chances))))

    return Pictures(pick, labels)


def _planes(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
