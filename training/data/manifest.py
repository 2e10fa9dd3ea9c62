"""The data manifest of a run: every photo with its hash, label and split, and the SHA-256 of all of it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from training.data.photos import COMPOSED, FOREIGN, SPLITS, TRAIN, Photo, photo_from_json
from training.errors import DataError

#: Fields that do not depend on where the files are; only these are hashed.
_IDENTITY = ("id", "sha256", "label", "rating", "votes", "split", "group", "box", "damage")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run was trained and evaluated on."""

    task: str
    #: Names of the model's outputs, in order; NO_LOGO last for brands.
    labels: tuple[str, ...]
    photos: tuple[Photo, ...]
    #: {"id", "uri", "kind", "reason"} of every listed photo that could not be read.
    unreadable: tuple[dict[str, str], ...] = ()
    #: The leak report of `splits.divide`.
    leaks: Mapping[str, Any] = field(default_factory=dict)
    #: Composed training data: its parameters and the SHA-256 of the code that draws it.
    generators: tuple[Mapping[str, Any], ...] = ()
    #: Files that are not used, unreadable ones included: reason to count.
    left_out: Mapping[str, int] = field(default_factory=dict)
    #: Links that lead out of the sources and were followed: folder that they lead to, and count.
    linked: Mapping[str, int] = field(default_factory=dict)
    #: What a person should know before training.
    doubts: tuple[str, ...] = ()
    #: The model whose answers are in the votes of the photos to train on: name, SHA-256, share, and how many photos
    #: nobody else rated.
    teacher: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Content address: equal for equal photos, labels and splits, wherever the files lie."""
        digest = hashlib.sha256(json.dumps([self.task, self.labels, [dict(g) for g in self.generators]]).encode())
        for photo in sorted(self.photos, key=lambda photo: photo.id):
            digest.update(json.dumps([getattr(photo, name) for name in _IDENTITY]).encode())
        return digest.hexdigest()

    def of(self, split: str) -> list[Photo]:
        """The photos of a split, in manifest order."""
        return [photo for photo in self.photos if photo.split == split]

    def whole(self) -> Self:
        """The same photos, all to train on but foreign ones; the composed photos of val and test are left out."""
        kept = [photo for photo in self.photos if not photo.uri.startswith(COMPOSED)]
        return replace(
            self, photos=tuple(replace(p, split=TRAIN) if p.split in SPLITS else p for p in kept), leaks={}, doubts=()
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Photos by split and label, or by split and rounded rating."""
        return {
            split: dict(sorted(Counter(str(target_name(photo)) for photo in self.of(split)).items()))
            for split in (*SPLITS, FOREIGN)
        }

    def as_json(self) -> dict[str, Any]:
        """The content of data.json."""
        return {
            "sha256": self.sha256,
            "task": self.task,
            "labels": list(self.labels),
            "counts": self.counts(),
            "leaks": dict(self.leaks),
            "left_out": dict(self.left_out),
            "linked": dict(self.linked),
            "doubts": list(self.doubts),
            "teacher": dict(self.teacher),
            "unreadable": list(self.unreadable),
            "generators": [dict(generator) for generator in self.generators],
            "samples": [photo.as_json() for photo in self.photos],
        }

    def remarks(self) -> Iterator[str]:
        """What is left out, which links were followed, which files have two labels, and the doubts.

        Yields:
            Lines for people.
        """
        if self.left_out:
            yield f"left out: {counted(self.left_out)}"
        if self.linked:
            folders = sorted(self.linked)
            to = folders[0] if len(folders) == 1 else f"{len(folders)} folders, such as {folders[0]}"
            yield f"followed: {sum(self.linked.values())} links out of the sources, to {to}"
        twice = self.leaks.get("same_bytes_other_label", [])
        if twice:
            yield f"{len(twice)} pairs of equal files have two labels, such as {' and '.join(twice[0])}"
        yield from self.doubts


def counted(counts: Mapping[str, int]) -> str:
    """Counts by reason in words."""
    return "; ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))


def target_name(photo: Photo) -> str:
    """The label of a brand photo, the nearest level of a rated one."""
    if photo.label is not None:
        return photo.label
    return "unrated" if photo.rating is None else str(round(photo.rating))


def load_manifest(path: Path) -> Manifest:
    """The manifest that a run wrote.

    Raises:
        DataError: The file is missing or invalid, or its content does not have the SHA-256 that it names.
    """
    try:
        values = json.loads(path.read_text())
        manifest = Manifest(
            values["task"],
            tuple(values["labels"]),
            tuple(photo_from_json(sample) for sample in values["samples"]),
            tuple(values["unreadable"]),
            values["leaks"],
            tuple(values["generators"]),
            values.get("left_out", {}),  # runs of earlier versions did not count them
            values.get("linked", {}),
            tuple(values.get("doubts", ())),
            values.get("teacher", {}),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}") from None
    if manifest.sha256 != values["sha256"]:
        raise DataError(f"{path} was changed: its content hashes to {manifest.sha256}, not to {values['sha256']}")
    return manifest
