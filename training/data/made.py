"""Photos drawn by code, by URI: `scene:split/seed/index`, `composed:split/marks/scenes/count/px/index`.

A URI holds every parameter, so that a drawn photo can be made again wherever its manifest is read.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training import data
from training.data.backgrounds import background_bank, scene
from training.data.compose import Look, paste
from training.data.degrade import Damage, damaged, draw_damage, draw_side
from training.data.logos import BRANDS, brand_logos, distractor_logos
from training.data.packshots import on_white
from training.data.photos import COMPOSED, NO_LOGO, SCENE, SPLITS, TEST, TRAIN, VAL, Photo
from training.data.sets import Batch, BrandComposer, Mix, Origin, composer

#: Side of a listed scene, in px.
SCENE_PX = 384
#: Modules and packages that decide what drawn photos look like.
_MODULES = ("backgrounds.py", "compose.py", "degrade.py", "logos.py", "made.py", "packshots.py", "sets.py")
_PACKAGES = ("simpleicons", "scikit-image", "scikit-learn", "numpy", "pillow")
_SEEDS = {TRAIN: 0, VAL: 1, TEST: 2}
#: Sides of marks as shares of the photo's, for slices.
_SIZES = (
    (0.5, "a half or more"),
    (1 / 3, "a third to a half"),
    (1 / 4, "a quarter to a third"),
    (0.0, "less than a quarter"),
)
_ORIGINS = {Origin.BRAND: "brand", Origin.DISTRACTOR: "look-alike", Origin.CLEAN: "clean"}


@cache
def generator_sha256() -> str:
    """SHA-256 of the code and the packages that draw photos: identifies composed training data in a manifest."""
    digest = hashlib.sha256()
    for name in _MODULES:
        digest.update(Path(data.__file__).with_name(name).read_bytes())
    for package in _PACKAGES:
        digest.update(f"{package}=={installed(package)}".encode())
    return digest.hexdigest()


def scene_uri(split: str, index: int) -> str:
    """The URI of a drawn scene without any brand."""
    return f"{SCENE}{split}/{_SEEDS[split]}/{index}"


@lru_cache(maxsize=64)
def scene_picture(uri: str) -> Image.Image:
    """The scene of a `scene:` URI, SCENE_PX wide and high."""
    split, seed, index = uri.removeprefix(SCENE).split("/")
    return scene(np.random.default_rng((int(seed), int(index))), split, SCENE_PX)


def with_damage(photo: Photo, square: Callable[[int], Image.Image], size: int) -> np.ndarray:
    """A photo with its damage, then resized as the service does: uint8 [size, size, 3].

    Half of the drawn scenes get a mark first, so that marks are independent of quality.

    Args:
        photo: Which photo.
        square: Makes its undamaged centre square of a side in px.
        size: Of the result.

    Raises:
        ValueError: The photo has no `damage`.
    """
    if photo.damage is None:
        raise ValueError(photo.id)
    seed, severity = photo.damage
    rng = np.random.default_rng((int(seed), 1))
    side = draw_side(rng)
    if photo.uri.startswith(SCENE) and seed % 2:  # at the scene's own size: at 1,200 px a mark takes a second
        marked = _marked(rng, square(SCENE_PX), photo.split if photo.split in SPLITS else TEST)
        picture = marked.resize((side, side), Image.Resampling.BICUBIC)
    else:
        picture = square(side)
    if photo.on_white:
        picture = on_white(rng, picture)
    picture = damaged(np.random.default_rng(int(seed)), picture, severity)
    return np.array(picture.resize((size, size), Image.Resampling.BILINEAR))


def _marked(rng: np.random.Generator, picture: Image.Image, split: str) -> Image.Image:
    pixels = torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1) / 255)
    marks = distractor_logos(split)
    chosen = torch.tensor([int(rng.integers(len(marks.names)))])
    made = paste(rng, pixels[None], marks.masks[chosen], marks.colours[chosen], Look())[0]
    return Image.fromarray((made.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def damage_kinds(damage: tuple[int, float]) -> frozenset[Damage]:
    """The kinds of damage that a photo gets by a seed and a severity; none at severity 0."""
    return frozenset(kind for kind, _ in draw_damage(np.random.default_rng(int(damage[0])), damage[1]))


def damage_name(damage: tuple[int, float]) -> str:
    """The kinds of damage that a photo gets, for slices."""
    return " + ".join(sorted(kind.value for kind in damage_kinds(damage))) or "none"


@lru_cache(maxsize=4)
def brand_composer(split: str, marks: str, scenes: int, px: int) -> BrandComposer:
    """The composer of a split's photos; `marks` is from `marks_name`."""
    bank = background_bank(_SEEDS[split], split, scenes)
    kind, _, count = marks.partition("/")
    brands = int(count or len(BRANDS))
    made = composer(split, bank, brand_logos(brands), distractor_logos(split, brands), px)
    return made if kind == "brands" else replace(made, mix=Mix(0.0, 0.5))


def marks_name(marks: str, brands: int) -> str:
    """A source's marks in URIs: "brands" or "look-alikes" (of the demo's ten brands), or "brands/100"."""
    return marks if brands == len(BRANDS) else f"{marks}/{brands}"


@lru_cache(maxsize=4)
def composed_set(split: str, marks: str, scenes: int, count: int, px: int) -> Batch:
    """The fixed composed photos of a held-out split."""
    return brand_composer(split, marks, scenes, px).fixed(100 + _SEEDS[split], count)


def composed_photos(  # noqa: PLR0917 - the parts of the photos' URI
    source: str, split: str, marks: str, scenes: int, count: int, px: int
) -> list[Photo]:
    """The listed photos of `composed_set`."""
    made = composed_set(split, marks, scenes, count, px)
    labels = (*brand_composer(split, marks, scenes, px).brands.names, NO_LOGO)
    return [
        Photo(
            id=f"{source}/{split}/{index}",
            uri=f"{COMPOSED}{split}/{marks}/{scenes}/{count}/{px}/{index}",
            source=source,
            label=labels[int(made.labels[index])],
            split=split,
            sha256=hashlib.sha256(made.images[index].numpy().tobytes()).hexdigest(),
            metadata={
                "origin": _ORIGINS[int(made.origins[index])],
                "mark": _size_name(int(made.origins[index]), float(made.sizes[index])),
            },
        )
        for index in range(count)
    ]


def _size_name(origin: int, side: float) -> str:
    """How large a brand's mark is, so that a report has the recall of each size."""
    return next(name for least, name in _SIZES if side >= least) if origin == Origin.BRAND else "none"


def composed_pixels(uri: str) -> np.ndarray:
    """The photo of a `composed:` URI: uint8 [px, px, 3]."""
    split, *kind, scenes, count, px, index = uri.removeprefix(COMPOSED).split("/")
    marks = "/".join(kind)
    made = composed_set(split, marks, int(scenes), int(count), int(px))
    return made.images[int(index)].permute(1, 2, 0).contiguous().numpy()
