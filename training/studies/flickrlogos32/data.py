"""The study's photos: its own data set, a smaller one of the same kind, or one made by code."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from training.data.brands import flickr_logos, folders, grocery
from training.data.photos import NO_LOGO, SPLITS, TEST, TRAIN, VAL, Photo
from training.data.splits import divide, near_pairs
from training.data.walk import photos_of
from training.errors import DataError
from training.recipes.recipe import Splitting
from training.recipes.sources import FlickrLogosSource, FoldersSource, GrocerySource
from training.studies.drawn import write_drawing
from training.studies.labelled import NEAR_BITS, LabelledPhotos, inspected

_LISTS: Final = "trainset.relpaths.txt"
#: Photos of the full data set after half of val's photos without logo went to training, and its classes.
FULL: Final = {TRAIN: 1820, VAL: 2460, TEST: 3960}
FULL_CLASSES: Final = 33
_MADE_BRANDS: Final = ("adidas", "aldi", "apple", "becks")
#: Of code-made data: photos of a brand, and photos without logo, in each list.
_MADE: Final = {
    "trainset": (10, 0),
    "valset-logosonly": (10, 0),
    "valset-nologos": (0, 60),
    "testset": (10, 100),
}


def read(data: Path, seed: int, workers: int, console: Console, *, made: bool = False) -> LabelledPhotos:
    """The photos below a folder with their splits; the last label is no_logo.

    FlickrLogos-32 keeps its own splits. GroceryStore's photos (brands, and produce without any) and folders named by
    brand are split so that near-duplicates are in one split.

    Raises:
        DataError: No usable photos, or a listed photo is missing or broken.
    """
    listed, kind, origin = _listed(data)
    found = inspected(listed, workers, console)
    notes: tuple[str, ...]
    if kind == "flickrlogos32":
        photos, notes = found, (_near_note(found),)
    else:
        rules = Splitting(val=0.2, test=0.3, seed=seed, keep_given=False, near_bits=NEAR_BITS)
        photos, leaks = divide(found, rules)
        notes = (f"{len(leaks['dropped'])} photos were dropped because one like them is in another split.",)
    brands = sorted({str(photo.label) for photo in photos} - {NO_LOGO})
    if not brands or not all(any(photo.split == split for photo in photos) for split in SPLITS):
        raise DataError(f"{data}: no brand, or not enough photos for train, val and test")
    counts = {split: sum(photo.split == split for photo in photos) for split in SPLITS}
    description = _description(counts, len(brands) + 1, kind, origin, made=made)
    return LabelledPhotos(tuple(photos), (*brands, NO_LOGO), description, notes)


def _listed(data: Path) -> tuple[list[Photo], str, str]:
    """Photos, the kind of their layout, and a description of it.

    Raises:
        DataError: No photos in a known layout.
    """
    if (data / _LISTS).is_file():
        found = list(flickr_logos(FlickrLogosSource(kind="flickrlogos32", path=data)))
        return found, "flickrlogos32", "FlickrLogos-32"
    if (data / "train" / "Packages").is_dir() or (data / "Packages").is_dir():
        found = photos_of(grocery(GrocerySource(kind="grocery", path=data)))
        return found, "grocery", "GroceryStore (phone photos of packages, and of fruit and vegetables without a brand)"
    found = photos_of(folders(FoldersSource(kind="folders", path=data))) if data.is_dir() else []
    if not found:
        raise DataError(f"{data} has no {_LISTS}, no folder Packages and no folders of photos named by brand")
    return found, "folders", "folders named by brand"


def _description(counts: Mapping[str, int], classes: int, kind: str, origin: str, *, made: bool) -> str:
    size = ", ".join(f"{split} {count}" for split, count in counts.items())
    if made:
        return f"Data made by code in the layout of {origin}: {classes} classes, {size}. Their figures mean nothing."
    if kind == "flickrlogos32" and counts == FULL and classes == FULL_CLASSES:
        return f"All of {origin}: {classes} classes, {size}."
    part = f"A part of {origin}" if kind == "flickrlogos32" else f"Not FlickrLogos-32 but {origin}, as a small stand-in"
    return f"{part}: {classes - 1} brands and no-logo, {size}. Our figures cannot be compared with the published ones."


def _near_note(found: Sequence[Photo]) -> str:
    pairs = near_pairs([item.dhash for item in found], NEAR_BITS)
    crossing = sum(found[left].split != found[right].split for left, right in pairs)
    return f"The data set's own splits are kept; {crossing} pairs of nearly equal photos lie in two of them."


def arrange(photos: Sequence[Photo], folder: Path) -> Counter[str]:
    """Puts photos into {train,val,test}_data/<class>/, as hard links where possible, else as copies.

    Returns how many were put there and how many were there already, as "placed" and "there".
    """
    done: Counter[str] = Counter()
    for photo in photos:
        place = folder / f"{photo.split}_data" / str(photo.label) / Path(photo.uri).name
        if place.exists() and place.stat().st_size == Path(photo.uri).stat().st_size:
            done["there"] += 1
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            place.hardlink_to(photo.uri)
        except OSError:
            shutil.copyfile(photo.uri, place)
        done["placed"] += 1
    return done


def make(folder: Path, seed: int) -> None:
    """A small data set in the layout of FlickrLogos-32, drawn by code: four brands."""
    rng = np.random.default_rng(seed)
    number = 0
    for name, (of_brand, without) in _MADE.items():
        lines = []
        for kind, brand in enumerate((*_MADE_BRANDS, "no-logo")):
            branded = brand != "no-logo"
            for _ in range(of_brand if branded else without):
                number += 1
                lines.append(f"classes/jpg/{brand}/{number}.jpg")
                write_drawing(folder / lines[-1], rng, kind if branded else None, (160, 120))
        (folder / f"{name}.relpaths.txt").write_text("\n".join(lines) + "\n")
