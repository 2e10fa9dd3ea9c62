"""Rated photos of the studies: listed, divided, reduced to two sides, balanced; and small ones made by code."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from training.data.assemble import assemble
from training.data.degrade import WORST, damaged
from training.data.inspect import inspect_all
from training.data.manifest import Manifest, target_name
from training.data.photos import SPLITS, TEST, TRAIN, VAL, Photo
from training.data.ratings import listed
from training.errors import DataError
from training.evaluation.quality import GOOD_LEVEL, POOR_LEVEL
from training.heads.evaluation import LABELS, crossing
from training.progress import task
from training.recipes.recipe import Data, RatingsSource, Recipe, Splitting
from training.studies.drawn import drawing, jpeg

_SIZE: Final = (128, 96)


@dataclass(frozen=True, slots=True)
class Shares:
    """How large val and test are."""

    val: float
    test: float


def photos_of(
    source: RatingsSource, shares: Shares, seed: int, workers: int, console: Console, *, by_row: bool
) -> Manifest:
    """The photos of a list, divided.

    Args:
        source: The list; its group column keeps a user's photos together.
        shares: Of val and test.
        seed: Of the division.
        workers: Threads that look at the photos.
        console: Where progress goes.
        by_row: As published: each row is drawn alone, so that users and near-duplicates cross the splits.

    Raises:
        DataError: The list, or too few of its photos, can be used.
    """
    if by_row:
        return _by_row(source, shares, seed, workers, console)
    split = Splitting(val=shares.val, test=shares.test, seed=seed)
    return assemble(Recipe(task="quality", data=Data(sources=(source,), split=split, workers=workers)), console)


def _by_row(source: RatingsSource, shares: Shares, seed: int, workers: int, console: Console) -> Manifest:
    photos = list(listed(source))
    if not photos:
        raise DataError(f"{source.path} lists no photos")
    with task(console, "photos looked at", len(photos)) as done:
        found, broken = inspect_all(photos, workers, done)
    order = np.random.default_rng(seed).permutation(len(found))
    test, val = round(len(found) * shares.test), round(len(found) * shares.val)
    names = np.full(len(found), TRAIN, dtype=object)
    names[order[:test]], names[order[test : test + val]] = TEST, VAL
    kept = tuple(replace(item.photo, split=str(name)) for item, name in zip(found, names, strict=True))
    unreadable = tuple({"id": item.photo.id, "uri": item.photo.uri, "reason": item.reason} for item in broken)
    return Manifest("quality", LABELS, kept, unreadable, {"left": sum(crossing(kept).values()), **crossing(kept)})


def side_of(rating: float) -> int | None:
    """Of the nearest level: 1 and 2 are poor (0), 4 and 5 are good (1), 3 is neither."""
    return 0 if rating <= POOR_LEVEL else 1 if rating >= GOOD_LEVEL else None


def sides(photos: Sequence[Photo]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the photos that have a side, and their sides."""
    found = [(index, side) for index, photo in enumerate(photos) if (side := side_of(photo.rating or 0)) is not None]
    indices, values = zip(*found, strict=True) if found else ((), ())
    return np.array(indices, np.int64), np.array(values, np.int64)


def levels(photos: Sequence[Photo]) -> np.ndarray:
    """The nearest level - 1 of each photo."""
    return np.array([int(target_name(photo)) - 1 for photo in photos], np.int64)


def balanced(labels: Sequence[Hashable], seed: int) -> np.ndarray:
    """Indices of a draw in which every label is as frequent as the rarest, in order."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        places[label].append(index)
    least = min((len(found) for found in places.values()), default=0)
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(found, least, replace=False) for _, found in sorted(places.items(), key=lambda item: str(item[0]))
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def write_photo(path: Path, rng: np.random.Generator, rating: int) -> Image.Image:
    """A drawing that is the more damaged, the worse its rating, as a file."""
    image, _ = drawing(rng, int(rng.integers(12)), _SIZE)
    pixels = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)
    worn = damaged(rng, pixels, float(WORST + 1 - rating))
    made = Image.fromarray((worn.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(made))
    return made


def described(manifest: Manifest) -> str:
    """Counts of photos, for the page."""
    counts = ", ".join(f"{len(manifest.of(split)):,} {split}" for split in SPLITS)
    unread = f", {len(manifest.unreadable)} unreadable" if manifest.unreadable else ""
    return f"{len(manifest.photos):,} rated photos ({counts}{unread})"
