"""The study's photos, in the layout of the competition or in folders named by class, with a stratified split."""

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

from training.data.brands import label_of
from training.data.photos import TRAIN, VAL, Photo
from training.data.splits import near_pairs
from training.data.tables import columns_missing, rows
from training.data.walk import photo_files, text_of
from training.errors import DataError
from training.studies.drawn import write_drawing
from training.studies.labelled import NEAR_BITS, LabelledPhotos, inspected

#: Folder of pictures from elsewhere, in that of the data.
OUTSIDE: Final = "outside"
#: Classes of the full data set.
FULL_CLASSES: Final = 120
_VAL_SHARE: Final = 0.1
#: Fewer photos of a class cannot be in both splits.
_LEAST: Final = 4
_MADE_CLASSES, _MADE_EACH = 6, 20


def listed(data: Path) -> list[Photo]:
    """Every photo with its class: labels.csv beside train/, or the name of the photo's folder.

    Raises:
        DataError: No photos, or a list without the columns id and breed.
    """
    table = data / "labels.csv"
    if not table.is_file():
        found = [path for path in photo_files(data) if path.parent not in {data, data / OUTSIDE}]
        if not found:
            raise DataError(f"{data} has neither labels.csv nor folders of photos named by class")
        return [Photo(text_of(p.relative_to(data)), str(p), data.name, label=label_of(p.parent)) for p in found]
    photos = []
    for row in rows(table):
        columns_missing(table, row, "id", "breed")
        photos.append(Photo(row["id"], str(data / "train" / f"{row['id']}.jpg"), "dog breeds", label=row["breed"]))
    if not photos:
        raise DataError(f"{table} lists no photos")
    return photos


def divided(photos: Sequence[Photo], seed: int) -> list[Photo]:
    """A stratified split: a tenth of the photos, and at least one of each class, is val; equal for equal seeds.

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
    """How to read the data."""

    seed: int
    workers: int
    #: Photos at most, stratified by class; 0: all.
    most: int = 0
    made: bool = False
    as_published: bool = False


def sampled(photos: Sequence[Photo], most: int) -> list[Photo]:
    """At most `most` photos (0: all), stratified by class and evenly spaced within each."""
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


def read(data: Path, way: Way, console: Console) -> LabelledPhotos:
    """The photos below a folder with their splits.

    Raises:
        DataError: No usable photos, or a listed photo is missing or broken.
    """
    wanted = listed(data)
    counts = Counter(photo.label for photo in wanted)
    enough = [photo for photo in wanted if counts[photo.label] >= _LEAST]
    kept = sampled(enough, way.most)
    found = inspected(kept, way.workers, console)
    photos = divided(found, way.seed)
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
    return LabelledPhotos(tuple(photos), labels, _description(photos, labels, data, made=way.made), tuple(notes))


def _twins(hashes: Sequence[int], photos: Sequence[Photo]) -> set[int]:
    """Training photos that are near-duplicates of one of val."""
    sides = {TRAIN, VAL}
    crossing = [pair for pair in near_pairs(hashes, NEAR_BITS) if {photos[index].split for index in pair} == sides]
    return {index for pair in crossing for index in pair if photos[index].split == TRAIN}


def _description(photos: Sequence[Photo], labels: Sequence[str], data: Path, *, made: bool) -> str:
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
        write_drawing(folder / OUTSIDE / f"{number}.jpg", rng, None if number % 2 else number)
