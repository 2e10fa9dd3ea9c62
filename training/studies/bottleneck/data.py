"""The study's photos, in the layout of the competition or in folders named by class, split by class."""

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from sklearn.model_selection import train_test_split

from training.data.inspect import inspect_all
from training.data.photos import TRAIN, VAL, Photo, photo_files
from training.data.splits import near_pairs
from training.data.tables import columns_missing, rows
from training.errors import DataError
from training.progress import task
from training.statistics import Ints
from training.studies.drawn import write_drawing

#: Classes of the full data set.
FULL_CLASSES: Final = 120
_VAL_SHARE: Final = 0.1
#: Fewer photos cannot be on both sides.
_LEAST: Final = 4
_NEAR_BITS: Final = 4
_MADE_CLASSES, _MADE_EACH = 6, 20


@dataclass(frozen=True, slots=True)
class Breeds:
    """The photos of both sides, the classes in order, and what they are."""

    photos: tuple[Photo, ...]
    labels: tuple[str, ...]
    said: str
    notes: tuple[str, ...]

    def of(self, split: str) -> list[Photo]:
        """The photos of a side."""
        return [photo for photo in self.photos if photo.split == split]

    def labels_of(self, split: str) -> Ints:
        """Their classes, as places in `labels`."""
        place = {name: index for index, name in enumerate(self.labels)}
        return np.array([place[str(photo.label)] for photo in self.of(split)], np.int64)

    @property
    def counts(self) -> dict[str, int]:
        """Photos of each class, both sides."""
        found = Counter(str(photo.label) for photo in self.photos)
        return {name: found[name] for name in self.labels}


def listed(data: Path) -> list[Photo]:
    """Every photo with its class: labels.csv beside train/, or the name of the folder that a photo lies in.

    Raises:
        DataError: Nothing to list, or a list without the columns id and breed.
    """
    table = data / "labels.csv"
    if not table.is_file():
        found = [path for path in photo_files(data) if path.parent != data]
        if not found:
            raise DataError(f"{data} has neither labels.csv nor folders of photos named by class")
        return [Photo(str(p.relative_to(data)), str(p), data.name, label=p.parent.name) for p in found]
    photos = []
    for row in rows(table):
        columns_missing(table, row, "id", "breed")
        photos.append(Photo(row["id"], str(data / "train" / f"{row['id']}.jpg"), "dog breeds", label=row["breed"]))
    if not photos:
        raise DataError(f"{table} lists no photos")
    return photos


def divided(photos: Sequence[Photo], seed: int) -> list[Photo]:
    """A tenth of the photos validates, and no less than one of each class, each by its share; equal for equal seeds.

    Raises:
        DataError: Too few photos for the classes.
    """
    count = max(int(len(photos) * _VAL_SHARE), len({photo.label for photo in photos}))
    labels = [photo.label for photo in photos]
    try:
        _, val = train_test_split(range(len(photos)), test_size=count, stratify=labels, random_state=seed)
    except ValueError as error:
        raise DataError(f"{len(photos)} photos of {len(set(labels))} classes cannot be split: {error}") from None
    chosen = set(val)
    return [replace(photo, split=VAL if index in chosen else TRAIN) for index, photo in enumerate(photos)]


@dataclass(frozen=True, slots=True)
class Way:
    """How to read: what the options say of the data."""

    seed: int
    workers: int
    #: At most so many photos, each class by its share; 0: all.
    most: int = 0
    made: bool = False
    as_published: bool = False


def sampled(photos: Sequence[Photo], most: int) -> list[Photo]:
    """At most `most` photos (0: all), evenly spread over each class."""
    if not most or len(photos) <= most:
        return list(photos)
    by_class: dict[str, list[Photo]] = {}
    for photo in photos:
        by_class.setdefault(str(photo.label), []).append(photo)
    kept = []
    for members in by_class.values():
        count = max(_LEAST, round(len(members) * most / len(photos)))
        kept += [members[index] for index in np.unique(np.linspace(0, len(members) - 1, count).astype(int))]
    return kept


def read(data: Path, way: Way, console: Console) -> Breeds:
    """The photos below a folder, each looked at once, with their sides.

    Raises:
        DataError: Nothing that can be used, or a photo that is listed and missing or broken.
    """
    wanted = listed(data)
    counts = Counter(photo.label for photo in wanted)
    enough = [photo for photo in wanted if counts[photo.label] >= _LEAST]
    kept = sampled(enough, way.most)
    with task(console, "photos looked at", len(kept)) as done:
        found, broken = inspect_all(kept, way.workers, done)
    if broken:
        raise DataError(f"{len(broken)} photos cannot be read, such as {broken[0].photo.uri}: {broken[0].reason}")
    photos = divided([item.photo for item in found], way.seed)
    twins = _twins([item.dhash for item in found], photos)
    notes = []
    if len(wanted) > len(enough):
        notes.append(f"{len(wanted) - len(enough)} photos of classes with fewer than {_LEAST} are left out.")
    if len(enough) > len(kept):
        notes.append(f"{len(kept)} of {len(enough)} photos, evenly spread over each class, are used.")
    if way.as_published:
        notes.append(f"{len(twins)} training photos are nearly equal to one of val, and stay.")
    else:
        photos = [photo for index, photo in enumerate(photos) if index not in twins]
        notes.append(f"Left out: {len(twins)} of the training photos, nearly equal to one of val.")
    labels = tuple(sorted({str(photo.label) for photo in photos}))
    return Breeds(tuple(photos), labels, _said(photos, labels, data, made=way.made), tuple(notes))


def _twins(hashes: Sequence[int], photos: Sequence[Photo]) -> set[int]:
    """Training photos that are nearly equal to one of val."""
    sides = {TRAIN, VAL}
    crossing = [pair for pair in near_pairs(hashes, _NEAR_BITS) if {photos[index].split for index in pair} == sides]
    return {index for pair in crossing for index in pair if photos[index].split == TRAIN}


def _said(photos: Sequence[Photo], labels: Sequence[str], data: Path, *, made: bool) -> str:
    sides = Counter(photo.split for photo in photos)
    size = f"{len(labels)} classes, {sides[TRAIN]} photos to train and {sides[VAL]} to validate"
    if made:
        return f"Data made by code in the true layout: {size}. Their figures mean nothing."
    if (data / "labels.csv").is_file() and len(labels) == FULL_CLASSES:
        return f"Dog Breed Identification: {size}."
    return f"Not dog breeds but other photos in folders by class: {size}. Our figures cannot be compared."


def make(folder: Path, seed: int) -> None:
    """A small data set in the layout of the competition, drawn by code; outside/ holds pictures of no class."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(_MADE_CLASSES * _MADE_EACH):
        kind = number % _MADE_CLASSES
        name = hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:32]
        write_drawing(folder / "train" / f"{name}.jpg", rng, kind)
        lines.append((name, f"breed_{kind}"))
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "breed"))
        writer.writerows(lines)
    for number in range(4):
        write_drawing(folder / "outside" / f"{number}.jpg", rng, None if number % 2 else number)
