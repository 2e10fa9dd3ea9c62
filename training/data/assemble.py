"""From a recipe's sources to the manifest of a run: list and inspect the photos, split them, check the result."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from training.data.brands import flickr_logos, folders, grocery, open_images
from training.data.degrade import WORST
from training.data.inspect import inspect_all
from training.data.logos import brand_names
from training.data.made import composed_photos, damage_name, generator_sha256, marks_name
from training.data.manifest import Manifest
from training.data.photos import FOREIGN, LEVELS, NO_LOGO, SPLITS, TEST, TRAIN, VAL, Photo, photo_files
from training.data.ratings import ava, koniq, listed, spaq, undamaged
from training.data.splits import divide
from training.errors import DataError
from training.progress import task
from training.recipes.recipe import ComposedSource, DamagedSource, Part, Recipe

#: What lists the photos of each kind of source.
LISTERS: dict[str, Callable[[Any], Iterable[Photo]]] = {
    "ratings": listed,
    "ava": ava,
    "koniq10k": koniq,
    "spaq": spaq,
    "damaged": undamaged,
    "folders": folders,
    "flickrlogos32": flickr_logos,
    "openimages": open_images,
    "grocery": grocery,
}
_QUALITY_KINDS = frozenset({"ratings", "ava", "koniq10k", "spaq", "damaged"})


def assemble(recipe: Recipe, console: Console) -> Manifest:
    """The manifest of a recipe's data.

    Raises:
        DataError: Nothing to train on, sources that do not fit the task, or what a source or a split raises.
    """
    listed_photos = _list(recipe)
    with task(console, "photos inspected", len(listed_photos)) as done:
        found, broken = inspect_all(listed_photos, recipe.data.workers, done)
    photos, leaks = divide(found, recipe.data.split)
    photos = _with_damage(photos, recipe)
    generators: list[dict[str, Any]] = []
    brands = {photo.label for photo in photos if photo.label} - {NO_LOGO}
    for number, source in enumerate(recipe.data.sources):
        if isinstance(source, ComposedSource):
            generators.append({"code_sha256": generator_sha256(), **source.model_dump(mode="json")})
            marks, px = marks_name(source.marks, source.brands), recipe.model.input_px
            for split in (VAL, TEST):
                name = f"composed-{number}"
                photos += composed_photos(name, split, marks, source.held_out_scenes, source.held_out, px)
            brands.update(brand_names(source.brands) if source.marks == "brands" else ())
    labels = (*sorted(brands), NO_LOGO) if recipe.task == "brand" else tuple(str(level) for level in LEVELS)
    unreadable = tuple({"id": item.photo.id, "uri": item.photo.uri, "reason": item.reason} for item in broken)
    manifest = Manifest(recipe.task, labels, tuple(photos), unreadable, leaks, tuple(generators))
    if not manifest.of(TRAIN) and not generators:
        raise DataError("no photo is left to train on")
    if not manifest.of(VAL):
        raise DataError("no photo is left to validate on; enlarge data.split.val or add photos")
    if recipe.task == "brand" and not brands:
        raise DataError("no photo shows a brand")
    return manifest


def _list(recipe: Recipe) -> list[Photo]:
    """Every photo of every source that lists files; those of a damaged source have its number in `damaged_by`.

    Raises:
        DataError: A source lists nothing or does not fit the task, or two photos have one id.
    """
    photos: list[Photo] = []
    for number, source in enumerate(recipe.data.sources):
        if (source.kind in _QUALITY_KINDS) != (recipe.task == "quality"):
            raise DataError(f"a source of kind {source.kind} does not fit the recipe's task")
        if isinstance(source, ComposedSource):
            continue
        found = list(LISTERS[source.kind](_rooted(source, recipe.data.root)))
        if not found:
            raise DataError(f"data.sources.{number} ({source.kind}) lists no photos")
        if isinstance(source, DamagedSource):
            found = [replace(photo, metadata={**photo.metadata, "damaged_by": str(number)}) for photo in found]
        photos += found
    photos += _foreign(recipe)
    for name, count in Counter(photo.id for photo in photos).items():
        if count > 1:
            raise DataError(f"two photos have the id {name}")
    return photos


def _foreign(recipe: Recipe) -> list[Photo]:
    if recipe.data.foreign and recipe.task != "brand":
        raise DataError("data.foreign is for brand models: photos without any known brand")
    return [
        Photo(id=f"foreign/{path.relative_to(folder)}", uri=str(path), source=folder.name, label=NO_LOGO, split=FOREIGN)
        for folder in recipe.data.foreign
        for path in photo_files(folder)
    ]


def _rooted(source: Part, root: Path) -> Part:
    """The source with its relative paths below `root`."""
    paths = {
        name: root / value for name in type(source).model_fields if isinstance(value := getattr(source, name), Path)
    }
    return source.model_copy(update=paths)


def _with_damage(photos: list[Photo], recipe: Recipe) -> list[Photo]:
    """Photos of damaged sources replaced by their damaged versions, each level equally often in every split."""
    made = [photo for photo in photos if "damaged_by" not in photo.metadata]
    for number, source in enumerate(recipe.data.sources):
        if not isinstance(source, DamagedSource):
            continue
        for place, split in enumerate(SPLITS):
            base = [p for p in photos if p.metadata.get("damaged_by") == str(number) and p.split == split]
            count = source.train if split == TRAIN else source.held_out
            made.extend(_damaged(base, count, np.random.default_rng((recipe.seed, number, place))))
    return made


def _damaged(base: list[Photo], count: int, rng: np.random.Generator) -> Iterable[Photo]:
    levels = rng.permutation(count) % len(LEVELS) + 1
    seeds = rng.integers(2**31, size=count)
    for index in range(count if base else 0):
        photo = base[index * len(base) // count]
        damage = (int(seeds[index]), float(WORST + 1 - levels[index]))
        metadata = {name: value for name, value in photo.metadata.items() if name != "damaged_by"}
        yield replace(
            photo,
            id=f"{photo.id}#{index}",
            rating=float(levels[index]),
            group=photo.id,
            damage=damage,
            metadata={**metadata, "damage": damage_name(damage)},
        )
