"""Rated photos of two studies: splits, binary labels, balancing, features of frozen networks, and data made by code."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.assemble import assemble
from training.data.degrade import WORST, damaged
from training.data.inspect import inspect_all
from training.data.manifest import Manifest, target_name
from training.data.photos import SPLITS, TEST, TRAIN, VAL, Photo
from training.data.ratings import listed
from training.errors import DataError
from training.evaluation.quality import GOOD_LEVEL, POOR_LEVEL
from training.heads.evaluation import LABELS, SplitFeatures, crossing
from training.heads.features import Backbone, Features, backbone, cache_file, extract
from training.heads.folder import Trained, save
from training.progress import task
from training.recipes.recipe import Data, Recipe, Splitting
from training.recipes.sources import RatingsSource
from training.statistics import Ints
from training.studies.drawn import drawing, jpeg
from training.studies.fit import model_of
from training.studies.study import Options, remarks_of

_SIZE: Final = (128, 96)


@dataclass(frozen=True, slots=True)
class Shares:
    """Sizes of val and test, as shares of all photos."""

    val: float
    test: float


def photos_of(
    source: RatingsSource, shares: Shares, seed: int, workers: int, console: Console, *, by_row: bool
) -> Manifest:
    """The photos of a list, split.

    Args:
        source: The list; its group column keeps a user's photos in one split.
        shares: Of val and test.
        seed: Of the split.
        workers: Threads that read the photos.
        console: Where progress goes.
        by_row: As published: rows are split independently, so that users and near-duplicates are in several splits.

    Raises:
        DataError: The list cannot be used, or too few of its photos.
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
    kept = tuple(replace(item, split=str(name)) for item, name in zip(found, names, strict=True))
    unreadable = tuple(item.as_json() for item in broken)
    return Manifest("quality", LABELS, kept, unreadable, {"left": sum(crossing(kept).values()), **crossing(kept)})


def side_of(rating: float) -> int | None:
    """The binary label of a rating: 1 and 2 are poor (0), 4 and 5 are good (1), 3 is neither."""
    return 0 if rating <= POOR_LEVEL else 1 if rating >= GOOD_LEVEL else None


def sides(photos: Sequence[Photo]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the photos that are poor or good, and their binary labels."""
    found = [(index, side) for index, photo in enumerate(photos) if (side := side_of(photo.rating or 0)) is not None]
    indices, values = zip(*found, strict=True) if found else ((), ())
    return np.array(indices, np.int64), np.array(values, np.int64)


def levels(photos: Sequence[Photo]) -> np.ndarray:
    """The nearest level - 1 of each photo."""
    return np.array([int(target_name(photo)) - 1 for photo in photos], np.int64)


def balanced(labels: Sequence[Hashable], seed: int) -> np.ndarray:
    """Indices, in order, of a sample in which every label is as frequent as the rarest."""
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
    """Writes a drawing as a file, the more damaged the lower its rating; returns it."""
    image, _ = drawing(rng, int(rng.integers(12)), _SIZE)
    made = damaged(rng, image, float(WORST + 1 - rating))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(made))
    return made


def described(manifest: Manifest) -> str:
    """Counts of photos, for the page."""
    counts = ", ".join(f"{len(manifest.of(split)):,} {split}" for split in SPLITS)
    unread = f", {len(manifest.unreadable)} unreadable" if manifest.unreadable else ""
    return f"{len(manifest.photos):,} rated photos ({counts}{unread})"


def crossing_note(photos: Sequence[Photo]) -> str:
    """How many users and files are in more than one split, for the page."""
    crossed = crossing(photos)
    return (
        f"Users in more than one split: {crossed['users_in_several_splits']}; files in more than one: "
        f"{crossed['files_in_several_splits']}."
    )


@dataclass(frozen=True, slots=True)
class FrozenFeatures:
    """A frozen network, and its features of every split."""

    source: Backbone
    features: Mapping[str, Features]
    photos: Mapping[str, Sequence[Photo]]
    #: Whether some of them came from the cache, such as those of a run that was stopped: the time spent tells little.
    cached: bool = False

    def sided(self, split: str) -> tuple[Features, Ints]:
        """Features and binary labels of the photos that are poor or good."""
        which, values = sides(self.photos[split])
        return np.asarray(self.features[split])[which], values

    def save_head(self, folder: Path, estimator: Any, photos: Sequence[Photo], options: Options, *remarks: str) -> None:  # noqa: ANN401 - scikit-learn ships no types
        """Saves a head, fitted on some photos of train, so that it can be published; raises as `heads.folder.save`."""
        chosen_on = VAL if self.photos[VAL] else TEST  # as published there is no val
        val, test = (SplitFeatures(self.photos[split], self.features[split]) for split in (chosen_on, TEST))
        trained = Trained(folder.name, self.source, estimator, tuple(photos), (*remarks, *remarks_of(options)))
        save(folder, trained, val, test)


def features_of(
    arch: str, manifest: Manifest, options: Options, console: Console, *, px: int, workers: int
) -> FrozenFeatures:
    """The features of all photos, from the cache where they are there; raises as `features.backbone` and `extract`.

    `px` is the input size, 0 for what the network was designed for.
    """
    source = backbone(model_of(arch, options), options.seed, px or None)
    photos = {split: manifest.of(split) for split in SPLITS}
    files = [cache_file(source, some, options.cache) for some in photos.values() if some]
    cached = any(path.is_file() or path.with_suffix(".rows").is_file() for path in files)
    with task(console, arch, len(manifest.photos)) as done:
        made = {
            split: extract(source, some, options.cache, workers=workers, on_done=done)
            if some
            else np.zeros((0, source.width), np.float32)
            for split, some in photos.items()
        }
    return FrozenFeatures(source, made, photos, cached)


def last_layer() -> Pipeline:
    """A new last layer on a frozen network, not fitted yet."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
