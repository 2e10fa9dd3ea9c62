"""From a recipe's sources to the manifest of a run: list and inspect the photos, split them, check the result."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from training.data.brands import NO_PHOTOS, flickr_logos, folders, grocery, open_images
from training.data.degrade import EXPOSURES, WORST
from training.data.doubts import check_names, doubts, rating_doubts
from training.data.inspect import inspect_all
from training.data.logos import brand_names
from training.data.made import composed_photos, damage_kinds, damage_name, generator_sha256, marks_name
from training.data.manifest import Manifest, counted
from training.data.photos import FOREIGN, LEVELS, NO_LOGO, SPLITS, TEST, TRAIN, VAL, Photo
from training.data.ratings import ava, begin_elsewhere, by_photo, koniq, spaq, undamaged, unrated
from training.data.scenes import Features
from training.data.splits import divide
from training.data.walk import Linked, Listed, text_of, walk
from training.errors import DataError
from training.progress import task
from training.recipes.recipe import Recipe
from training.recipes.sources import ComposedSource, CopiedSource, DamagedSource, Part, UnratedSource

#: What lists the photos of each kind of source.
LISTERS: dict[str, Callable[[Any], Iterable[Listed]]] = {
    "ratings": by_photo,
    "ava": ava,
    "koniq10k": koniq,
    "spaq": spaq,
    "damaged": undamaged,
    "unrated": unrated,
    "folders": folders,
    "flickrlogos32": flickr_logos,
    "openimages": open_images,
    "grocery": grocery,
}
#: Severities of a rated photo's copies are drawn from here to the worst. Those below 0 are 0: one copy in eight is
#: undamaged and only resized.
_MILDEST = -0.57
#: Where photos must lie, for those who have none there.
_PLACES = {"folders": ": put those of each brand into a folder of its name, such as acme/1.jpg"}
_QUALITY_KINDS = frozenset({"ratings", "ava", "koniq10k", "spaq", "damaged", "unrated"})


def assemble(recipe: Recipe, console: Console, features: Features | None = None) -> Manifest:
    """The manifest of a recipe's data.

    Args:
        recipe: The recipe.
        console: Shows the progress.
        features: What the scenes of a split are found by, where the recipe compares looks.

    Raises:
        DataError: Nothing to train on, sources that do not fit the task, or what a source or a split raises.
    """
    listing = _list(recipe)
    with task(console, "photos inspected", len(listing.photos)) as done:
        found, broken = inspect_all(listing.photos, recipe.data.workers, done)
    photos, leaks = divide(found, recipe.data.split, features)
    photos = _with_damage(photos, recipe)
    generators: list[dict[str, Any]] = []
    brands = ({photo.label for photo in photos if photo.label} | listing.generated) - {NO_LOGO}
    for number, source in enumerate(recipe.data.sources):
        if isinstance(source, ComposedSource):
            generators.append({"code_sha256": generator_sha256(), **source.model_dump(mode="json")})
            marks, px = marks_name(source.marks, source.brands), recipe.model.input_px
            for split in (VAL, TEST):
                name = f"composed-{number}"
                photos += composed_photos(name, split, marks, source.held_out_scenes, source.held_out, px)
    labels = (*sorted(brands), NO_LOGO) if recipe.task == "brand" else tuple(str(level) for level in LEVELS)
    manifest = Manifest(
        recipe.task,
        labels,
        tuple(photos),
        tuple(item.as_json() for item in broken),
        leaks,
        tuple(generators),
        listing.left_out + Counter(item.kind for item in broken),
        listing.linked,
    )
    example = [
        f"such as {item.photo.uri}: {item.reason}{begin_elsewhere(recipe.data.sources, item.reason)}"
        for item in broken[:1]
    ]
    why = "; ".join(("", *manifest.remarks(), *example))
    given = recipe.data.split.keep_given is True and any(photo.split in SPLITS for photo in listing.photos)
    _refuse_too_few(manifest, why, given=given)
    if recipe.task != "brand":
        return replace(manifest, doubts=tuple(rating_doubts(manifest)))
    if not brands:
        raise DataError(f"no photo shows a brand{why}")
    return replace(manifest, doubts=(*listing.doubts, *doubts(manifest, listing.labels, listing.generated)))


def _refuse_too_few(manifest: Manifest, why: str, *, given: bool) -> None:
    """Of the data's own splits, if they are `given`, or of those made here.

    Raises:
        DataError: There is nothing to train on, or to validate on.
    """
    own = "the data come with splits: add photos to this one, or set data.split.keep_given=false"
    if not manifest.of(TRAIN) and not manifest.generators:
        raise DataError(f"no photo is left to train on; {own if given else 'add photos'}{why}")
    if manifest.of(VAL):
        return
    if manifest.of(TRAIN) and manifest.of(TEST):
        own += ", or =test, which keeps the test photos and takes some of the others to validate on"
    raise DataError(f"no photo is left to validate on; {own if given else 'enlarge data.split.val or add photos'}{why}")


class _Listing:
    """What the sources of a recipe list: photos with unique ids, and what is left out."""

    def __init__(self) -> None:
        self.photos: list[Photo] = []
        self.left_out: Counter[str] = Counter()
        #: Folders that links out of the sources lead to.
        self.linked: Counter[str] = Counter()
        #: Labels of photos that are composed anew for every batch.
        self.generated: set[str] = set()
        #: Classes without photos.
        self.doubts: list[str] = []
        self._ids: set[str] = set()
        self._sources = 0

    @property
    def labels(self) -> set[str]:
        """The labels of the photos that were listed, but for foreign ones."""
        return {photo.label for photo in self.photos if photo.label and photo.split != FOREIGN}

    def counts(self) -> str:
        """What is left out so far, for an error."""
        return f"left out: {counted(self.left_out) or 'nothing'}"

    def add(self, found: Iterable[Listed]) -> int:
        """Takes what one source lists and returns the number of its photos.

        If another source has a photo of the same id, the number of the source comes before the ids of this one.

        Raises:
            DataError: Two of its photos have one id.
        """
        photos: list[Photo] = []
        for one in found:
            if isinstance(one, Photo):
                photos.append(one)
            elif isinstance(one, Linked):
                self.linked[text_of(one.target.parent)] += 1
            else:
                self.left_out[one.reason] += one.files
                self.doubts += [f"{text_of(one.path)} holds no photo"] if one.reason == NO_PHOTOS else []
        for name, count in Counter(photo.id for photo in photos).items():
            if count > 1:
                raise DataError(f"two photos have the id {name}: list each once, with the mean of its ratings")
        if any(photo.id in self._ids for photo in photos):
            photos = [replace(photo, id=f"{self._sources}:{photo.id}") for photo in photos]
        self._ids.update(photo.id for photo in photos)
        self._sources += 1
        self.photos += photos
        return len(photos)


def _list(recipe: Recipe) -> _Listing:
    """Every photo of every source that lists files; those that get damage have their source's number in `damaged_by`.

    Raises:
        DataError: A source lists nothing, lists an id twice or does not fit the task, or two brands have one name.
    """
    listing = _Listing()
    for number, source in enumerate(recipe.data.sources):
        if (source.kind in _QUALITY_KINDS) != (recipe.task == "quality"):
            raise DataError(f"a source of kind {source.kind} does not fit the recipe's task")
        if isinstance(source, ComposedSource):
            listing.generated.update((NO_LOGO, *(brand_names(source.brands) if source.marks == "brands" else ())))
            continue
        rooted = _rooted(source, recipe.data.root)
        found = LISTERS[source.kind](rooted)
        if not listing.add(_numbered(found, number) if _damages(source) else found):
            raise DataError(
                f"data.sources.{number} ({source.kind}) lists no photos in {getattr(rooted, 'path', recipe.data.root)}"
                f"{_PLACES.get(source.kind, '')}; {listing.counts()}"
            )
    check_names(listing.labels | listing.generated)
    without = [("ordinary", folder) for folder in recipe.data.ordinary]
    without += [(FOREIGN, folder) for folder in recipe.data.foreign]
    if without and recipe.task != "brand":
        raise DataError("data.ordinary and data.foreign are for brand models: photos without any known brand")
    for kind, folder in without:
        if not listing.add(_without_brand(kind, folder)):
            raise DataError(f"the {kind} folder {folder} holds no photos; {listing.counts()}")
    return listing


def _numbered(found: Iterable[Listed], number: int) -> Iterator[Listed]:
    for one in found:
        yield replace(one, metadata={**one.metadata, "damaged_by": str(number)}) if isinstance(one, Photo) else one


def _without_brand(kind: str, folder: Path) -> Iterator[Listed]:
    for found in walk(folder):
        if isinstance(found, Path):
            name = f"{kind}/{text_of(found.relative_to(folder))}"
            origin = {} if kind == FOREIGN else {"origin": kind}
            split = FOREIGN if kind == FOREIGN else None
            yield Photo(name, str(found), folder.name, label=NO_LOGO, split=split, metadata=origin)
        else:
            yield found


def _rooted(source: Part, root: Path) -> Part:
    """The source with its relative paths below `root`."""
    paths = {
        name: root / value for name in type(source).model_fields if isinstance(value := getattr(source, name), Path)
    }
    return source.model_copy(update=paths)


def _damages(source: Part) -> bool:
    return isinstance(source, DamagedSource | UnratedSource) or (
        isinstance(source, CopiedSource) and (source.damaged > 0 or source.on_white > 0)
    )


def _with_damage(photos: list[Photo], recipe: Recipe) -> list[Photo]:
    """The photos, with damaged copies of those to train on; those of damaged sources are replaced by copies.

    Of a damaged source every level is equally frequent in every split. Unrated photos are to train on alone.
    """
    made: list[Photo] = []
    bases: dict[int, list[Photo]] = defaultdict(list)
    for photo in photos:
        damaged_by = photo.metadata.get("damaged_by")
        plain = {name: value for name, value in photo.metadata.items() if name != "damaged_by"}
        source = None if damaged_by is None else recipe.data.sources[int(damaged_by)]
        if isinstance(source, UnratedSource) and photo.split != TRAIN:
            continue  # the rules split the data's own training photos again
        if not isinstance(source, DamagedSource):
            made.append(replace(photo, metadata=plain))
        if damaged_by is not None:
            bases[int(damaged_by)].append(replace(photo, metadata=plain))
    for number, base in bases.items():
        made += _copies_of(base, recipe, number)
    return made


def _copies_of(base: list[Photo], recipe: Recipe, number: int) -> Iterator[Photo]:
    source = recipe.data.sources[number]
    for place, split in enumerate(SPLITS):
        of_split = [photo for photo in base if photo.split == split]
        rng = np.random.default_rng((recipe.seed, number, place))
        if isinstance(source, DamagedSource):
            count = source.train if split == TRAIN else source.held_out
            yield from _damaged(of_split, count, source.on_white, rng)
        elif isinstance(source, CopiedSource) and split == TRAIN:
            yield from _copies(of_split, source, rng)


def _copies(base: list[Photo], source: CopiedSource, rng: np.random.Generator) -> Iterator[Photo]:
    """Damaged copies; a damage of the worst grade leaves a fifth of what a rating has above 1.

    Yields:
        `damaged` copies of every photo, one after the other; of a share of the photos, one more on white, which is
        damaged in half of the cases.
    """
    for photo in base:
        white = source.damaged if rng.random() < source.on_white else None
        for index in range(source.damaged + (white is not None)):
            whole = index == white and rng.random() < 0.5
            severity = 0.0 if whole else max(0.0, float(rng.uniform(_MILDEST, WORST)))
            kept = 1 - severity / (WORST + 1)
            rating = None if photo.rating is None else round(LEVELS[0] + (photo.rating - LEVELS[0]) * kept, 4)
            seed = _seed(rng, severity, exposed=rng.random() < source.exposures)
            yield _copy(photo, index, rating, (seed, severity), on_white=index == white)


def _seed(rng: np.random.Generator, severity: float, *, exposed: bool) -> int:
    """A seed of damage; if `exposed`, one of which the photo becomes too dark or too bright."""
    while True:
        seed = int(rng.integers(2**31))
        kinds = damage_kinds((seed, severity))
        if not exposed or not kinds or kinds & EXPOSURES:
            return seed


def _damaged(base: list[Photo], count: int, on_white: float, rng: np.random.Generator) -> Iterable[Photo]:
    levels = rng.permutation(count) % len(LEVELS) + 1
    seeds = rng.integers(2**31, size=count)
    white = rng.random(count) < on_white
    for index in range(count if base else 0):
        photo = base[index * len(base) // count]
        level = float(levels[index])
        yield _copy(photo, index, level, (int(seeds[index]), WORST + 1 - level), on_white=bool(white[index]))


def _copy(photo: Photo, index: int, rating: float | None, damage: tuple[int, float], *, on_white: bool) -> Photo:
    return replace(
        photo,
        id=f"{photo.id}#{index}",
        rating=rating,
        votes=None,
        group=photo.group or photo.id,
        damage=damage,
        on_white=on_white,
        metadata={**photo.metadata, "damage": damage_name(damage), "on_white": "yes" if on_white else "no"},
    )
