"""Labelled photos of two studies."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from training.data.inspect import inspect_all
from training.data.photos import Photo
from training.errors import DataError
from training.progress import task
from training.statistics import Ints

#: Photos whose perceptual hashes differ in at most this many bits are near-duplicates.
NEAR_BITS = 4


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """Photos with their labels and splits, the labels in order, a description, and notes for the page."""

    photos: tuple[Photo, ...]
    labels: tuple[str, ...]
    description: str
    notes: tuple[str, ...]

    def of(self, split: str) -> list[Photo]:
        """The photos of a split."""
        return [photo for photo in self.photos if photo.split == split]

    def labels_of(self, split: str) -> Ints:
        """Indices of their labels."""
        place = {name: index for index, name in enumerate(self.labels)}
        return np.array([place[str(photo.label)] for photo in self.of(split)], np.int64)

    def counts(self, *splits: str) -> dict[str, int]:
        """Photos of each label in the splits."""
        found = Counter(str(photo.label) for photo in self.photos if photo.split in splits)
        return {name: found[name] for name in self.labels}


def inspected(photos: Sequence[Photo], workers: int, console: Console) -> list[Photo]:
    """The photos with their hashes, each read once.

    Raises:
        DataError: One is missing or broken.
    """
    with task(console, "photos looked at", len(photos)) as done:
        found, broken = inspect_all(photos, workers, done)
    if broken:
        raise DataError(f"{len(broken)} photos cannot be read, such as {broken[0].photo.uri}: {broken[0].reason}")
    return found
