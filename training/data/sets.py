"""Batches of composed brand photos with their labels."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn import functional

from training.data.compose import Look, camera, cover, drawn, paste_at, placements, sizes, views
from training.data.logos import Logos
from training.data.photos import TRAIN

#: Side of the models' input, in px.
INPUT_PX = 96
#: Side of the canvases that brand photos are cropped from, in px.
BRAND_CANVAS_PX = 128
_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of a brand batch: photos with a brand, photos with a look-alike; the rest are clean."""

    brand: float = 0.5
    distractor: float = 0.25
    #: Share of all photos that have an object cut from another photo on them.
    objects: float = 0.15


class Origin:
    """What a composed photo shows, so that false positives can be reported separately."""

    BRAND, DISTRACTOR, CLEAN = range(3)


@dataclass(frozen=True, slots=True)
class Batch:
    """Photos uint8 [N, 3, S, S], labels int64 [N], origins int64 [N], and marks' sides float32 [N], 0 for none."""

    images: torch.Tensor
    labels: torch.Tensor
    origins: torch.Tensor
    sizes: torch.Tensor


@dataclass(frozen=True, slots=True)
class BrandComposer:
    """Composes brand batches from a bank of canvases and two sets of marks."""

    bank: torch.Tensor
    brands: Logos
    distractors: Logos
    mix: Mix = field(default_factory=Mix)
    look: Look = field(default_factory=Look)
    px: int = INPUT_PX

    def batch(self, rng: np.random.Generator, count: int) -> Batch:
        """`count` photos; brands are equally likely, and the shares of `mix` hold exactly (rounded down)."""
        branded, alike = int(count * self.mix.brand), int(count * self.mix.distractor)
        kinds = len(self.brands.names)
        labels = torch.full((count,), kinds)
        labels[:branded] = drawn((rng.permutation(branded) + rng.integers(kinds)) % kinds)
        origins = torch.full((count,), Origin.CLEAN)
        origins[:branded], origins[branded : branded + alike] = Origin.BRAND, Origin.DISTRACTOR
        canvases = self.bank[drawn(rng.integers(len(self.bank), size=count))]
        photos = self._with_objects(rng, views(rng, canvases, self.px))
        other = drawn(rng.integers(len(self.distractors.names), size=alike))
        masks = torch.cat((self.brands.masks[labels[:branded]], self.distractors.masks[other]))
        colours = torch.cat((self.brands.colours[labels[:branded]], self.distractors.colours[other]))
        placed = placements(rng, branded + alike, self.look)
        photos[: len(placed)] = paste_at(rng, photos[: len(placed)], masks, colours, self.look, placed)
        side = torch.cat((sizes(placed), torch.zeros(count - len(placed))))
        return Batch((camera(rng, photos) * 255).round().to(torch.uint8), labels, origins, side)

    def _with_objects(self, rng: np.random.Generator, photos: torch.Tensor) -> torch.Tensor:
        """Pastes a shape cut from the next photo onto a share of the photos, before any mark is pasted."""
        chosen = drawn(rng.permutation(len(photos))[: int(len(photos) * self.mix.objects)])
        shapes = drawn(rng.integers(len(self.distractors.names), size=len(chosen)))
        filling = photos[(chosen + 1) % len(photos)]
        photos[chosen] = cover(rng, photos[chosen], self.distractors.masks[shapes], filling, self.look)
        return photos

    def on(self, photos: torch.Tensor) -> "BrandComposer":
        """The same composer with photos without a brand, uint8 [N, 3, S, S], beside its canvases."""
        return replace(self, bank=torch.cat((self.bank, _shrunk(photos, self.bank.shape[-1]))))

    def to(self, device: torch.device) -> "BrandComposer":
        """The same composer with its canvases and marks on a device; enter `with device` to compose there."""
        brands, distractors = (
            replace(marks, masks=marks.masks.to(device), colours=marks.colours.to(device))
            for marks in (self.brands, self.distractors)
        )
        return replace(self, bank=self.bank.to(device), brands=brands, distractors=distractors)

    def fixed(self, seed: int, count: int) -> Batch:
        """A data set of `count` photos to evaluate on; equal for equal arguments."""
        rng = np.random.default_rng(seed)
        parts = [self.batch(rng, min(_AT_ONCE, count - start)) for start in range(0, count, _AT_ONCE)]
        return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in Batch.__slots__))


def composer(split: str, bank: torch.Tensor, brands: Logos, distractors: Logos, px: int = INPUT_PX) -> BrandComposer:
    """The composer of a split: evaluation sees more clean photos than training, to bound their false-positive rate.

    The canvases are downscaled once, to BRAND_CANVAS_PX for INPUT_PX, which is enough for random crops.
    """
    side = min(bank.shape[-1], BRAND_CANVAS_PX * px // INPUT_PX)
    mix = Mix() if split == TRAIN else Mix(0.45, 0.25)
    return BrandComposer(_shrunk(bank, side), brands, distractors, mix, px=px)


def _shrunk(photos: torch.Tensor, side: int) -> torch.Tensor:
    parts = (functional.interpolate(part.float(), (side, side), mode="area") for part in torch.split(photos, 64))
    return torch.cat([part.round().to(torch.uint8) for part in parts])
