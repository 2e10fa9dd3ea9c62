"""The two labelled data sets: composites with brand labels, and damaged photos with levels."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from training.data.backgrounds import WORKERS, Split
from training.data.compose import Look, camera, cover, paste, views
from training.data.degrade import WORST, damaged
from training.data.marks import BRANDS, Marks

#: Side in pixels of what the models see.
INPUT_PX = 96
#: Side in pixels of the canvases that brand photos are windows of.
BRAND_CANVAS_PX = 128
#: Label of a photo without a known brand: the last of the brand model's outputs.
NO_LOGO_INDEX = len(BRANDS)
#: Levels of the quality model, worst first.
LEVELS = (1, 2, 3, 4, 5)
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of a brand batch: photos with a brand, with a look-alike; the rest are clean."""

    brand: float = 0.5
    distractor: float = 0.25
    #: Share of all photos that have an object cut from another photo on them.
    objects: float = 0.15


class Origin:
    """Where a brand photo's label comes from, so that false positives can be told apart."""

    BRAND, DISTRACTOR, CLEAN = range(3)


@dataclass(frozen=True, slots=True)
class Batch:
    """Photos uint8 [N, 3, INPUT_PX, INPUT_PX], labels int64 [N] and origins int64 [N] (all 0 for quality)."""

    images: torch.Tensor
    labels: torch.Tensor
    origins: torch.Tensor


@dataclass(frozen=True, slots=True)
class BrandComposer:
    """Makes brand batches from a bank of canvases and two sets of marks."""

    bank: torch.Tensor
    brands: Marks
    distractors: Marks
    mix: Mix = field(default_factory=Mix)
    look: Look = field(default_factory=Look)
    px: int = INPUT_PX

    def batch(self, rng: np.random.Generator, count: int) -> Batch:
        """`count` photos; brands are equally likely, and the shares of `mix` hold exactly (rounded down)."""
        branded, alike = int(count * self.mix.brand), int(count * self.mix.distractor)
        labels = torch.full((count,), NO_LOGO_INDEX)
        labels[:branded] = torch.from_numpy((rng.permutation(branded) + rng.integers(len(BRANDS))) % len(BRANDS))
        origins = torch.full((count,), Origin.CLEAN)
        origins[:branded], origins[branded : branded + alike] = Origin.BRAND, Origin.DISTRACTOR
        canvases = self.bank[torch.from_numpy(rng.integers(len(self.bank), size=count))]
        photos = self._with_objects(rng, views(rng, canvases, self.px))
        other = torch.from_numpy(rng.integers(len(self.distractors.names), size=alike))
        masks = torch.cat((self.brands.masks[labels[:branded]], self.distractors.masks[other]))
        colours = torch.cat((self.brands.colours[labels[:branded]], self.distractors.colours[other]))
        marked = branded + alike
        photos[:marked] = paste(rng, photos[:marked], masks, colours, self.look)
        return Batch((camera(rng, photos) * 255).round().to(torch.uint8), labels, origins)

    def _with_objects(self, rng: np.random.Generator, photos: torch.Tensor) -> torch.Tensor:
        """Photos of which a share shows a shape cut from its neighbour, before any mark is pasted."""
        chosen = torch.from_numpy(rng.permutation(len(photos))[: int(len(photos) * self.mix.objects)])
        shapes = torch.from_numpy(rng.integers(len(self.distractors.names), size=len(chosen)))
        filling = photos[(chosen + 1) % len(photos)]
        photos[chosen] = cover(rng, photos[chosen], self.distractors.masks[shapes], filling, self.look)
        return photos

    def fixed(self, seed: int, count: int) -> Batch:
        """A data set of `count` photos to evaluate on; equal for equal arguments."""
        rng = np.random.default_rng(seed)
        parts = [self.batch(rng, min(_CHUNK * 2, count - start)) for start in range(0, count, _CHUNK * 2)]
        return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels", "origins")))


def composer(split: Split, bank: torch.Tensor, brands: Marks, distractors: Marks, px: int = INPUT_PX) -> BrandComposer:
    """The composer of a split: evaluation sees more clean photos than training, to bound their false-positive rate.

    The canvases are shrunk once, to BRAND_CANVAS_PX for INPUT_PX: sampling a window from them later needs no more.
    """
    side = min(bank.shape[-1], BRAND_CANVAS_PX * px // INPUT_PX)
    sizes = (side, side)
    small = torch.cat(
        [
            functional.interpolate(part.float(), sizes, mode="area").round().to(torch.uint8)
            for part in torch.split(bank, 64)
        ]
    )
    mix = Mix() if split is Split.TRAIN else Mix(0.45, 0.25)
    return BrandComposer(small, brands, distractors, mix, px=px)


def quality_set(
    seed: int, bank: torch.Tensor, marks: Marks, count: int, on_done: Callable[[int], None] = lambda _count: None
) -> Batch:
    """`count` photos with known damage; label = level - 1, each level equally often.

    Half of the canvases get a mark first, so that a brand is neither good nor bad. Damage is done on the whole canvas
    before the resize to INPUT_PX, as it happens to photos. Calls `on_done` with each finished chunk's size.
    """
    levels = torch.from_numpy(np.random.default_rng(seed).permutation(count) % len(LEVELS))
    images = torch.empty((count, 3, INPUT_PX, INPUT_PX), dtype=torch.uint8)

    def fill(start: int) -> int:
        stop = min(start + _CHUNK, count)
        images[start:stop] = _damaged_chunk(np.random.default_rng((seed, start)), bank, marks, levels[start:stop])
        return stop - start

    with ThreadPoolExecutor(WORKERS) as pool:
        for done in pool.map(fill, range(0, count, _CHUNK)):
            on_done(done)
    return Batch(images, levels, torch.zeros(count, dtype=torch.int64))


def _damaged_chunk(rng: np.random.Generator, bank: torch.Tensor, marks: Marks, levels: torch.Tensor) -> torch.Tensor:
    canvases = bank[torch.from_numpy(rng.integers(len(bank), size=len(levels)))].float() / 255
    half = len(levels) // 2
    chosen = torch.from_numpy(rng.integers(len(marks.names), size=half))
    canvases[:half] = paste(rng, canvases[:half], marks.masks[chosen], marks.colours[chosen], Look())
    photos = torch.stack([damaged(rng, c, WORST - int(level)) for c, level in zip(canvases, levels, strict=True)])
    small = functional.interpolate(photos, (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True)
    return (small.clamp(0, 1) * 255).round().to(torch.uint8)
