"""Brand marks and look-alikes as coverage masks, rendered from simpleicons' CC0 SVG paths by resvg.

A mask is the share of each pixel that ink covers; the colour is chosen when the mark is composed onto a photo.
"""

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from resvg import render, usvg
from simpleicons.all import icons

from training.data.backgrounds import random_text
from training.data.photos import SPLITS, TEST, TRAIN, VAL

#: Side in pixels of a mask.
MARK_PX = 128
#: Brands that the demo model knows, in output order; each has a distinct, mostly pictorial mark in simpleicons 7.21.
BRANDS = (
    "adidas",
    "apple",
    "burgerking",
    "mcdonalds",
    "playstation",
    "puma",
    "shell",
    "starbucks",
    "underarmour",
    "volkswagen",
)
#: Distractor marks of each split; val and test have other look-alikes than training.
DISTRACTORS = {TRAIN: 700, VAL: 250, TEST: 250}
#: Drawn look-alikes (letters, stars, rings) that training adds to the marks of real companies.
GLYPHS = 300
#: A mark that overlaps a brand's mark more than this (intersection over union) is too similar to be "no logo".
_TOO_ALIKE = 0.8
_SPLIT_SEED = 20260101
_VIEWBOX_PX = 24


@dataclass(frozen=True, slots=True)
class Logos:
    """Masks uint8 [M, 1, MARK_PX, MARK_PX], each mark's own colour float32 [M, 3] in 0..1, and its name."""

    masks: torch.Tensor
    colours: torch.Tensor
    names: tuple[str, ...]


def render_mask(svg: str, size: int = MARK_PX) -> np.ndarray:
    """Coverage uint8 [size, size] of an SVG with a 24x24 viewBox, leaving a margin of a twentieth on each side."""
    margin = size / 20
    scale = (size - 2 * margin) / _VIEWBOX_PX
    sized = svg.replace("<svg ", f'<svg width="{size}" height="{size}" ', 1).replace(
        'viewBox="0 0 24 24"', f'viewBox="0 0 {size} {size}"', 1
    )
    tree = usvg.Tree.from_str(sized, usvg.Options.default())
    png = render(tree, (scale, 0.0, margin, 0.0, scale, margin))
    with Image.open(io.BytesIO(bytes(png)), formats=("PNG",)) as picture:
        return np.asarray(picture.getchannel("A"))


def _marks(names: tuple[str, ...]) -> Logos:
    masks = np.stack([render_mask(icons[name].svg) for name in names])
    colours = [[int(icons[name].hex[i : i + 2], 16) / 255 for i in (0, 2, 4)] for name in names]
    return Logos(torch.from_numpy(masks).unsqueeze(1), torch.tensor(colours, dtype=torch.float32), names)


def brand_names(count: int = len(BRANDS)) -> tuple[str, ...]:
    """BRANDS, and after them further companies whose marks are no split's distractors.

    Raises:
        ValueError: The icon set has fewer.
    """
    further = _others()[sum(DISTRACTORS.values()) :]
    if not 1 <= count <= len(BRANDS) + len(further):
        raise ValueError(f"{count} brands; the icon set has marks for 1 to {len(BRANDS) + len(further)}")
    return (*BRANDS, *further)[:count]


def brand_logos(count: int = len(BRANDS)) -> Logos:
    """The marks of `brand_names`, in that order."""
    return _marks(brand_names(count))


def _others() -> list[str]:
    """Companies not named like one of BRANDS, in a random order."""
    others = sorted(name for name in icons if not any(brand in name for brand in BRANDS))
    return [others[index] for index in np.random.default_rng(_SPLIT_SEED).permutation(len(others))]


def distractor_names(split: str) -> tuple[str, ...]:
    """Names of a split's distractor marks: other companies' marks, disjoint between splits, none named like a brand."""
    start = sum(DISTRACTORS[earlier] for earlier in SPLITS[: SPLITS.index(split)])
    return tuple(_others()[start : start + DISTRACTORS[split]])


@cache
def distractor_logos(split: str, brand_count: int = len(BRANDS)) -> Logos:
    """A split's distractors without those that look like a brand; training also gets GLYPHS drawn ones."""
    found, brands = _marks(distractor_names(split)), brand_logos(brand_count).masks.flatten(1) > 127
    ink = found.masks.flatten(1) > 127
    shared = ink.float() @ brands.float().T
    union = ink.sum(1, keepdim=True) + brands.sum(1) - shared
    keep = ((shared / union).amax(1) < _TOO_ALIKE).nonzero().flatten()
    masks, colours = found.masks[keep], found.colours[keep]
    names = tuple(found.names[int(index)] for index in keep)
    if split != TRAIN:
        return Logos(masks, colours, names)
    rng = np.random.default_rng(_SPLIT_SEED)
    glyphs = torch.from_numpy(np.stack([draw_glyph(rng) for _ in range(GLYPHS)])).unsqueeze(1)
    drawn = torch.from_numpy(rng.random((GLYPHS, 3), np.float32))
    names += tuple(f"glyph-{index}" for index in range(GLYPHS))
    return Logos(torch.cat((masks, glyphs)), torch.cat((colours, drawn)), names)


def draw_glyph(rng: np.random.Generator) -> np.ndarray:
    """Coverage uint8 [MARK_PX, MARK_PX] of a drawn emblem of no company: shapes, rings, letters, cut-outs."""
    size = MARK_PX
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 5))):
        _draw_part(rng, draw, size)
    if rng.random() < 0.5:
        font = ImageFont.load_default(float(size * rng.uniform(0.2, 0.7)))
        ink = 0 if rng.random() < 0.5 else 255
        draw.text((size / 2, size / 2), random_text(rng, 4), fill=ink, font=font, anchor="mm")
    return np.asarray(picture)


def _draw_part(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    middle, radius = size / 2, size * rng.uniform(0.15, 0.46)
    shift_x, shift_y = rng.normal(0, size * 0.06, 2)
    x, y, ink = middle + shift_x, middle + shift_y, 0 if rng.random() < 0.35 else 255
    box = (x - radius, y - radius * rng.uniform(0.4, 1), x + radius, y + radius * rng.uniform(0.4, 1))
    kind = rng.integers(4)
    if kind == 0:
        draw.ellipse(box, fill=ink)
    elif kind == 1:
        draw.arc(box, rng.uniform(0, 180), rng.uniform(200, 540), fill=ink, width=int(rng.integers(3, 14)))
    elif kind == 2:
        draw.rounded_rectangle(box, radius=float(rng.uniform(0, radius / 2)), fill=ink)
    else:
        points = int(rng.integers(3, 8)) * 2
        inner = rng.uniform(0.3, 1.0)
        angles = np.arange(points) * 2 * np.pi / points + rng.uniform(0, 1)
        reach = radius * np.where(np.arange(points) % 2, inner, 1.0)
        draw.polygon([(x + r * np.cos(a), y + r * np.sin(a)) for a, r in zip(angles, reach, strict=True)], fill=ink)
