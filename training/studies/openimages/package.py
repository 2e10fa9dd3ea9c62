"""The cropped data as a package: a folder of crops and a manifest of their SHA-256, which needs no photo host."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from training.data.photos import Photo
from training.errors import DataError
from training.runs.checkpoint import write_text
from training.serving.files import sha256
from training.studies.openimages.lists import CLASSES, HIERARCHY, list_file

#: In the cache of the study.
FOLDER: Final = "package"
MANIFEST: Final = "package.json"
_CROPS: Final = "images_cropped"


@dataclass(frozen=True, slots=True)
class Package:
    """Crops, the SHA-256 of the lists that they were cut by, and notes on what was left out."""

    crops: tuple[Photo, ...]
    lists: Mapping[str, str]
    notes: tuple[str, ...]
    #: With boxes around groups and of depictions.
    as_published: bool


def is_one(data: Path) -> bool:
    """Whether a folder of data is a package."""
    return (data / MANIFEST).is_file()


def write(folder: Path, package: Package, data: Path) -> None:
    """Writes a package anew, with the lists of classes and their hierarchy, which are small.

    The manifest is written last, so that a folder without one is no package.
    """
    shutil.rmtree(folder, ignore_errors=True)
    entries = []
    for crop in sorted(package.crops, key=lambda crop: crop.id):
        name = f"{_CROPS}/{str(crop.label).replace(' ', '_')}/{Path(crop.uri).name}"
        _put(Path(crop.uri), folder / name)
        entries.append({"file": name, "sha256": crop.sha256, "id": crop.id, "class": crop.label, "photo": crop.group})
    for name in (CLASSES, HIERARCHY):
        if list_file(data, name).is_file():
            _put(list_file(data, name), folder / name)
    content = {
        "as_published": package.as_published,
        "lists": dict(package.lists),
        "notes": list(package.notes),
        "crops": entries,
    }
    write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def _put(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, place)


def read(data: Path, classes: Sequence[str], *, as_published: bool) -> Package:
    """The crops of some classes in a package, each with the SHA-256 that the manifest names.

    Raises:
        DataError: The manifest is broken, a crop is missing or was changed, or the package was cut by other rules.
    """
    path = data / MANIFEST
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        crops = tuple(_crop(data, entry) for entry in content["crops"] if entry["class"] in classes)
        found = Package(crops, content["lists"], tuple(content["notes"]), as_published=content["as_published"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a package: {type(error).__name__}: {error}") from None
    if found.as_published != as_published:
        how = "with" if found.as_published else "without"
        raise DataError(f"{path} was cut {how} the boxes that only --as-published takes")
    return found


def _crop(data: Path, entry: Mapping[str, str]) -> Photo:
    name = PurePosixPath(entry["file"])
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{data / MANIFEST}: {name} is outside of the package")
    file = data / name
    if not file.is_file() or sha256(file) != entry["sha256"]:
        raise DataError(f"{file} is missing or was changed: its SHA-256 is not that of {MANIFEST}")
    return Photo(entry["id"], str(file), "openimages", label=entry["class"], group=entry["photo"])
