"""From the lists and the downloaded photos to crops, split by photo."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from training.data.inspect import inspect_all
from training.data.photos import TEST, TRAIN, VAL, Photo
from training.data.splits import divide
from training.errors import DataError
from training.progress import task
from training.recipes.recipe import Splitting
from training.statistics import Ints
from training.studies.affine import changed
from training.studies.fit import Pictures
from training.studies.openimages.crops import resized, write_crops
from training.studies.openimages.fetch import journal, photo_file
from training.studies.openimages.lists import Box, boxes
from training.studies.openimages.network import CHANGES
from training.studies.openimages.placeholders import Rules, known_hashes, sort_out, summary


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to take."""

    classes: tuple[str, str]
    rules: Rules
    #: Boxes around groups and of depictions too, and no split, as published.
    as_published: bool
    seed: int
    workers: int


@dataclass(frozen=True, slots=True)
class Dishes:
    """Crops with their class and split; the boxes of each photo; why photos were dropped."""

    crops: tuple[Photo, ...]
    classes: tuple[str, str]
    boxes: dict[str, tuple[Box, ...]]
    dropped: dict[str, str]
    notes: tuple[str, ...]

    def of(self, split: str) -> list[Photo]:
        """The crops of a split."""
        return [crop for crop in self.crops if crop.split == split]

    def labels(self, crops: Sequence[Photo]) -> Ints:
        """0 for the first class, 1 for the second."""
        return np.array([self.classes.index(str(crop.label)) for crop in crops], np.int64)


def read(data: Path, wanted: Wanted, folder: Path, console: Console) -> Dishes:
    """Cuts every usable box of the classes out of its photo, into `folder`, and splits the crops by photo.

    Raises:
        DataError: The lists are missing or broken, or nothing can be used.
    """
    by_photo: dict[str, list[Box]] = defaultdict(list)
    left_out = 0
    for box in boxes(data, wanted.classes):
        if (box.group or box.depiction) and not wanted.as_published:
            left_out += 1
        else:
            by_photo[box.photo].append(box)
    files = {photo: photo_file(data, photo) for photo in sorted(by_photo)}
    dropped = sort_out(files, known_hashes(data), journal(data), wanted.rules)
    usable = {photo: path for photo, path in files.items() if photo not in dropped}
    listed = []
    with task(console, "photos cut", max(1, len(usable))) as done:
        for photo, path in usable.items():
            listed += [_crop(box, file) for box, file in write_crops(path, by_photo[photo], folder)]
            done(1)
    crops, leaks = _split(listed, wanted)
    notes = [summary(dropped, list(files)), f"{left_out} boxes around groups or of depictions are left out.", *leaks]
    return Dishes(
        tuple(crops), wanted.classes, {photo: tuple(by_photo[photo]) for photo in usable}, dropped, tuple(notes)
    )


def _crop(box: Box, path: Path) -> Photo:
    return Photo(f"{box.photo}/{box.line}", str(path), "openimages", label=box.name, group=box.photo)


def _split(listed: Sequence[Photo], wanted: Wanted) -> tuple[list[Photo], list[str]]:
    """Crops with hashes and splits: as published all are trained on.

    Raises:
        DataError: Too few crops.
    """
    found, _ = inspect_all(listed, wanted.workers)
    if {item.photo.label for item in found} != set(wanted.classes):
        raise DataError(f"no crops of both {' and '.join(wanted.classes)}; `photo-trainer fetch-openimages` has photos")
    if wanted.as_published:
        return [replace(item.photo, split=TRAIN) for item in found], []
    crops, leaks = divide(found, Splitting(val=0.15, test=0.15, seed=wanted.seed, keep_given=False))
    if {crop.split for crop in crops} != {TRAIN, VAL, TEST}:
        raise DataError(f"{len(crops)} crops are too few for train, val and test")
    return crops, [f"{len(leaks['dropped'])} crops are left out because one like them is in another split."]


def pictures(dishes: Dishes, px: int, *, nearest: bool) -> dict[str, Pictures]:
    """The crops of every split as the network takes them, 0..1; those of training are changed at random each time.

    Without a split, as published, training's crops are val's and test's too.
    """
    made = {}
    for split in (TRAIN, VAL, TEST):
        crops = dishes.of(split) or dishes.of(TRAIN)
        stored = torch.from_numpy(np.stack([resized(Path(crop.uri), px, nearest=nearest) for crop in crops]))
        labels = dishes.labels(crops)
        made[split] = _changing(stored, labels) if split == TRAIN else _still(stored, labels)
    return made


def _planes(stored: torch.Tensor, indices: Ints) -> torch.Tensor:
    return stored[torch.from_numpy(indices)].permute(0, 3, 1, 2).float() / 255


def _changing(stored: torch.Tensor, labels: Ints) -> Pictures:
    return Pictures(lambda rng, indices: changed(rng, _planes(stored, indices), CHANGES), labels)


def _still(stored: torch.Tensor, labels: Ints) -> Pictures:
    return Pictures(lambda _rng, indices: _planes(stored, indices), labels)
