"""Crops of the downloaded photos, split by photo; and a small data set in the same layout, made by code."""

import base64
import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from rich.console import Console

from training.data.inspect import inspect_all
from training.data.photos import TEST, TRAIN, VAL, Photo
from training.data.splits import divide
from training.errors import DataError
from training.progress import task
from training.recipes.recipe import Splitting
from training.serving.files import sha256
from training.statistics import Ints
from training.studies.drawn import drawing, ground, jpeg
from training.studies.openimages import package
from training.studies.openimages.crops import write_crops
from training.studies.openimages.fetch import journal, photo_file
from training.studies.openimages.lists import BOXES, CLASSES, HIERARCHY, PHOTOS, Box, boxes, list_file, originals
from training.studies.openimages.placeholders import Rules, known_hashes, sort_out, summary

#: Of the data set made by code.
_NAMES: Final = {"/m/0cdn1": "Hamburger", "/m/0l515": "Sandwich", "/m/07j7r": "Tree"}
_EACH: Final = 45
_SIZE: Final = (160, 120)
_BOX_COLUMNS: Final = (
    "ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax",
    "IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside",
)  # fmt: skip
_PHOTO_COLUMNS: Final = (
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation",
)  # fmt: skip
_HOST: Final = "https://photos.invalid"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which boxes and photos to use."""

    classes: tuple[str, str]
    rules: Rules
    #: With boxes around groups and of depictions, and without a split, as published.
    as_published: bool
    seed: int
    workers: int


@dataclass(frozen=True, slots=True)
class Dishes:
    """Crops with their class and split, and the boxes of each photo."""

    crops: tuple[Photo, ...]
    classes: tuple[str, str]
    #: Without those of a package, which holds no photos.
    boxes: dict[str, tuple[Box, ...]]
    notes: tuple[str, ...]
    #: SHA-256 of each list.
    lists: Mapping[str, str]

    @property
    def photos(self) -> int:
        """How many photos the crops are from."""
        return len({crop.group for crop in self.crops})

    def of(self, split: str) -> list[Photo]:
        """The crops of a split."""
        return [crop for crop in self.crops if crop.split == split]

    def labels(self, crops: Sequence[Photo]) -> Ints:
        """0 for the first class, 1 for the second."""
        return np.array([self.classes.index(str(crop.label)) for crop in crops], np.int64)


def read(data: Path, wanted: Wanted, folder: Path, console: Console) -> Dishes:
    """Crops every usable box of the classes from its photo, into `folder`, and splits the crops by photo.

    Of a package its crops are taken as they are; of other data a package of the crops is written into `folder`.

    Raises:
        DataError: The lists or the package are missing or broken, or no photo can be used.
    """
    if package.is_one(data):
        packed = package.read(data, wanted.classes, as_published=wanted.as_published)
        crops, leaks = _split(packed.crops, wanted)
        return Dishes(tuple(crops), wanted.classes, {}, (*packed.notes, *leaks), packed.lists)
    listed, cut, notes = _cut(data, wanted, folder, console)
    lists = {name: sha256(list_file(data, name)) for name in (CLASSES, BOXES, PHOTOS)}
    crops, leaks = _split(listed, wanted)
    packed = package.Package(tuple(crops), lists, tuple(notes), as_published=wanted.as_published)
    package.write(folder / package.FOLDER, packed, data)
    return Dishes(tuple(crops), wanted.classes, cut, (*notes, *leaks), lists)


def _cut(
    data: Path, wanted: Wanted, folder: Path, console: Console
) -> tuple[list[Photo], dict[str, tuple[Box, ...]], list[str]]:
    """Crops of the photos, the boxes of each photo, and notes on what is left out."""
    by_photo: dict[str, list[Box]] = defaultdict(list)
    left_out = 0
    for box in boxes(data, wanted.classes):
        if (box.group or box.depiction) and not wanted.as_published:
            left_out += 1
        else:
            by_photo[box.photo].append(box)
    files = {photo: photo_file(data, photo) for photo in sorted(by_photo)}
    found = originals(data, list(files)) if list_file(data, PHOTOS).is_file() else {}
    dropped = sort_out(files, known_hashes(data), journal(data), wanted.rules, found)
    usable = {photo: path for photo, path in files.items() if photo not in dropped}
    listed = []
    with task(console, "photos cut", max(1, len(usable))) as done:
        for photo, path in usable.items():
            listed += [
                Photo(f"{box.photo}/{box.line}", str(file), "openimages", label=box.name, group=box.photo)
                for box, file in write_crops(path, by_photo[photo], folder)
            ]
            done(1)
    notes = [summary(dropped, list(files)), f"{left_out} boxes around groups or of depictions are left out."]
    return listed, {photo: tuple(by_photo[photo]) for photo in usable}, notes


def _split(listed: Sequence[Photo], wanted: Wanted) -> tuple[list[Photo], list[str]]:
    """Crops with hashes and splits, and notes; as published all are in train.

    Raises:
        DataError: Too few crops.
    """
    found, _ = inspect_all(listed, wanted.workers)
    if {item.label for item in found} != set(wanted.classes):
        raise DataError(f"no crops of both {' and '.join(wanted.classes)}; `photo-trainer fetch-openimages` has photos")
    if wanted.as_published:
        return [replace(item, split=TRAIN) for item in found], []
    crops, leaks = divide(found, Splitting(val=0.15, test=0.15, seed=wanted.seed, keep_given=False))
    if {crop.split for crop in crops} != {TRAIN, VAL, TEST}:
        raise DataError(f"{len(crops)} crops are too few for train, val and test")
    return crops, [f"{len(leaks['dropped'])} crops are left out because one like them is in another split."]


def make(folder: Path, seed: int, host: str = _HOST, *, downloaded: bool = True) -> dict[str, bytes]:
    """Writes the lists, and the photos where `downloaded`; returns the photos' files by id.

    Two photos are the same grey placeholder, one is a black and white photo; the box of the last photo of each class is
    of a group.
    """
    rng = np.random.default_rng(seed)
    files: dict[str, bytes] = {}
    boxes: list[tuple[object, ...]] = []
    for kind, machine in enumerate(_NAMES):
        for number in range(_EACH):
            photo = f"{kind}{number:015x}"
            image, box = drawing(rng, kind, _SIZE)
            files[photo] = jpeg(image)
            boxes.append(_row(photo, machine, box, group=number == _EACH - 1))
    grey = ground(rng, _SIZE).convert("L")
    for photo in ("0gone0", "0gone1"):
        files[photo] = jpeg(Image.new("L", _SIZE, 230))
    files["0grey0"] = jpeg(grey)
    boxes += [_row(photo, "/m/0cdn1", (10, 10, 100, 100), group=False) for photo in ("0gone0", "0gone1", "0grey0")]
    _write(folder, boxes, files, host)
    if downloaded:
        (folder / "images").mkdir()
        for photo, body in files.items():
            (folder / "images" / f"{photo}.jpg").write_bytes(body)
    return files


def _row(photo: str, machine: str, box: tuple[float, ...], *, group: bool) -> tuple[object, ...]:
    left, top, right, bottom = (round(edge / side, 6) for edge, side in zip(box, _SIZE * 2, strict=True))
    return (photo, "xclick", machine, 1, left, right, top, bottom, 0, 0, int(group), 0, 0)


def md5_of(body: bytes) -> str:
    """As the list of photos has it."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _write(folder: Path, boxes: list[tuple[object, ...]], files: dict[str, bytes], host: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BOXES).parent.mkdir(parents=True, exist_ok=True)
    (folder / CLASSES).write_text("".join(f"{machine},{name}\n" for machine, name in _NAMES.items()))
    children = [{"LabelName": machine} for machine in list(_NAMES)[:2]]
    food = {"LabelName": "/m/02wbm", "Subcategory": children}
    (folder / HIERARCHY).write_text(
        json.dumps({"LabelName": "/m/0bl9f", "Subcategory": [{"LabelName": "/m/07j7r"}, food]})
    )
    photos = [
        (photo, "train", f"{host}/{photo}.jpg", *[""] * 5, len(body), md5_of(body), "", "0.0")
        for photo, body in files.items()
    ]
    for name, columns, lines in ((BOXES, _BOX_COLUMNS, boxes), (PHOTOS, _PHOTO_COLUMNS, photos)):
        with (folder / name).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows(lines)
