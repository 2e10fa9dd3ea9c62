"""The two labelled data sets: composites with brand labels, and damaged photos with levels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from training.data.backgrounds import Split
from training.data.compose import Look, camera, paste, views
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
    distractor: float = 0.28


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
    mix: Mix = Mix()
    look: Look = Look()

    def batch(self, rng: np.random.Generator, count: int) -> Batch:
        """`count` photos; brands are equally likely, and the shares of `mix` hold exactly (rounded down)."""
        branded, alike = int(count * self.mix.brand), int(count * self.mix.distractor)
        labels = torch.full((count,), NO_LOGO_INDEX)
        labels[:branded] = torch.from_numpy((rng.permutation(branded) + rng.integers(len(BRANDS))) % len(BRANDS))
        origins = torch.full((count,), Origin.CLEAN)
        origins[:branded], origins[branded : branded + alike] = Origin.BRAND, Origin.DISTRACTOR
        canvases = self.bank[torch.from_numpy(rng.integers(len(self.bank), size=count))]
        photos = views(rng, canvases, INPUT_PX)
        other = torch.from_numpy(rng.integers(len(self.distractors.names), size=alike))
        masks = torch.cat((self.brands.masks[labels[:branded]], self.distractors.masks[other]))
        colours = torch.cat((self.brands.colours[labels[:branded]], self.distractors.colours[other]))
        marked = branded + alike
        photos[:marked] = paste(rng, photos[:marked], masks, colours, self.look)
        return Batch((camera(rng, photos) * 255).round().to(torch.uint8), labels, origins)

    def fixed(self, seed: int, count: int) -> Batch:
        """A data set of `count` photos to evaluate on; equal for equal arguments."""
        rng = np.random.default_rng(seed)
        parts = [self.batch(rng, min(_CHUNK * 2, count - start)) for start in range(0, count, _CHUNK * 2)]
        return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels", "origins")))


def composer(split: Split, bank: torch.Tensor, brands: Marks, distractors: Marks) -> BrandComposer:
    """The composer of a split: training shows more look-alikes than the even mix that is evaluated on.

    The canvases are shrunk once to BRAND_CANVAS_PX, which is what sampling a window from them later needs.
    """
    sizes = (BRAND_CANVAS_PX, BRAND_CANVAS_PX)
    small = torch.cat([F.interpolate(part.float(), sizes, mode="area").round().to(torch.uint8) for part in bank.split(64)])
    return BrandComposer(small, brands, distractors, Mix() if split is Split.TRAIN else Mix(0.5, 0.25))


def quality_set(
    seed: int, bank: torch.Tensor, marks: Marks, count: int, on_done: Callable[[int], None] = lambda _count: None
) -> Batch:
    """`count` photos with known damage; label = level - 1, each level equally often.

    Half of the canvases get a mark first, so that a brand is neither good nor bad. Damage is done on the whole canvas
    before the resize to INPUT_PX, as it happens to photos. Calls `on_done` with each finished chunk's size.
    """
    rng = np.random.default_rng(seed)
    levels = torch.from_numpy(rng.permutation(count) % len(LEVELS))
    images = torch.empty((count, 3, INPUT_PX, INPUT_PX), dtype=torch.uint8)
    for start in range(0, count, _CHUNK):
        picked = torch.from_numpy(rng.integers(len(bank), size=min(_CHUNK, count - start)))
        canvases = bank[picked].float() / 255
        half = len(picked) // 2
        chosen = torch.from_numpy(rng.integers(len(marks.names), size=half))
        canvases[:half] = paste(rng, canvases[:half], marks.masks[chosen], marks.colours[chosen], Look())
        for offset, canvas in enumerate(canvases):
            photo = damaged(rng, canvas, WORST - int(levels[start + offset]))
            small = F.interpolate(photo[None], (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True)[0]
            images[start + offset] = (small.clamp(0, 1) * 255).round().to(torch.uint8)
        on_done(len(picked))
    return Batch(images, levels, torch.zeros(count, dtype=torch.int64))
