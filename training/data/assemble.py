"""From a recipe's sources to the manifest of a run: list, look at every photo, divide, check, describe."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from training.data.brands import flickr_logos, folders, grocery, open_images
from training.data.degrade import WORST
from training.data.inspect import Broken, Inspected, inspect_all
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
    found, broken, damaged = _list_and_look(recipe, console)
    photos, leaks = divide(found, recipe.data.split)
    photos = _with_damage(photos, damaged, recipe.seed)
    generators: list[dict[str, Any]] = []
    brands = {photo.label for photo in photos if photo.label} - {NO_LOGO}
    for number, source in enumerate(recipe.data.sources):
        if isinstance(source, ComposedSource):
            generators.append({"code_sha256": generator_sha256(), **source.model_dump(mode="json")})
            for split, scenes in ((VAL, source.held_out_scenes), (TEST, source.held_out_scenes)):
                marks = marks_name(source.marks, source.brands)
                made = composed_photos(
                    f"composed-{number}", split, marks, scenes, source.held_out, recipe.model.input_px
                )
                photos.extend(made)
            brands.update(brand_names(source.brands) if source.marks == "brands" else ())
    labels = (*sorted(brands), NO_LOGO) if recipe.task == "brand" else tuple(str(level) for level in LEVELS)
    manifest = Manifest(recipe.task, labels, tuple(photos), tuple(_unreadable(broken)), leaks, tuple(generators))
    _check(manifest)
    return manifest


def _list_and_look(
    recipe: Recipe, console: Console
) -> tuple[list[Inspected], list[Broken], list[DamagedSource | None]]:
    """Every photo of every source that lists files, looked at; and the damaged sources, None for all others.

    Raises:
        DataError: A source lists nothing, or does not fit the task.
    """
    listed_photos: list[Photo] = []
    for number, source in enumerate(recipe.data.sources):
        if isinstance(source, ComposedSource):
            _fits(source.kind, recipe.task == "brand")
            continue
        _fits(source.kind, (source.kind in _QUALITY_KINDS) == (recipe.task == "quality"))
        rooted = _rooted(source, recipe.data.root)
        found = list(LISTERS[source.kind](rooted))
        if not found:
            raise DataError(f"data.sources.{number} ({source.kind}) lists no photos")
        if isinstance(source, DamagedSource):
            found = [replace(photo, metadata={**photo.metadata, "damaged_by": str(number)}) for photo in found]
        listed_photos.extend(found)
    for folder in recipe.data.foreign:
        listed_photos.extend(_foreign(folder, recipe.task))
    _unique(listed_photos)
    with task(console, "photos looked at", len(listed_photos)) as done:
        good, broken = inspect_all(listed_photos, recipe.data.workers, done)
    sources = [source if isinstance(source, DamagedSource) else None for source in recipe.data.sources]
    return good, broken, sources


def _fits(kind: str, fits: bool) -> None:  # noqa: FBT001 - an assertion
    if not fits:
        raise DataError(f"a source of kind {kind} does not fit the recipe's task")


def _rooted(source: Part, root: Path) -> Part:
    """The source with its relative paths below `root`."""
    paths = {
        name: root / value for name in type(source).model_fields if isinstance(value := getattr(source, name), Path)
    }
    return source.model_copy(update=paths)


def _foreign(folder: Path, kind: str) -> list[Photo]:
    if kind != "brand":
        raise DataError("data.foreign is for brand models: photos without any known brand")
    return [
        Photo(id=f"foreign/{path.relative_to(folder)}", uri=str(path), source=folder.name, label=NO_LOGO, split=FOREIGN)
        for path in photo_files(folder)
    ]


def _unique(photos: Sequence[Photo]) -> None:
    seen: set[str] = set()
    for photo in photos:
        if photo.id in seen:
            raise DataError(f"two photos have the id {photo.id}")
        seen.add(photo.id)


def _unreadable(broken: Sequence[Broken]) -> Iterable[dict[str, str]]:
    return ({"id": item.photo.id, "uri": item.photo.uri, "reason": item.reason} for item in broken)


def _with_damage(photos: list[Photo], sources: list[DamagedSource | None], seed: int) -> list[Photo]:
    """Photos of damaged sources replaced by their damaged versions, each level equally often in every split."""
    plain = [photo for photo in photos if "damaged_by" not in photo.metadata]
    for number, source in enumerate(sources):
        if source is None:
            continue
        for place, split in enumerate(SPLITS):
            base = [p for p in photos if p.metadata.get("damaged_by") == str(number) and p.split == split]
            count = source.train if split == TRAIN else source.held_out
            plain.extend(_damaged(base, count, np.random.default_rng((seed, number, place))))
    return plain


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


def _check(manifest: Manifest) -> None:
    if not manifest.of(TRAIN) and not manifest.generators:
        raise DataError("no photo is left to train on")
    if not manifest.of(VAL):
        raise DataError("no photo is left to validate on; enlarge data.split.val or add photos")
    if manifest.task == "brand" and len(manifest.labels) < 2:
        raise DataError("no photo shows a brand")
