"""The lists of Open Images: classes and their hierarchy, boxes, and the URL of each photo."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.data.brands import class_names
from training.data.tables import columns_missing, rows
from training.errors import DataError

#: Where the release is documented to be; each list's path below it is its path in a folder of data too.
BASE: Final = "https://storage.googleapis.com/openimages"
CLASSES: Final = "2018_04/class-descriptions-boxable.csv"
BOXES: Final = "2018_04/train/train-annotations-bbox.csv"
PHOTOS: Final = "2018_04/train/train-images-boxable-with-rotation.csv"
HIERARCHY: Final = "2018_04/bbox_labels_600_hierarchy.json"


@dataclass(frozen=True, slots=True)
class Box:
    """One object: the photo's id, the class, and left, top, right, bottom as shares of the photo's sides."""

    photo: str
    name: str
    #: Line of the list, so that the names of crops are unique.
    line: int
    sides: tuple[float, float, float, float]
    #: One box around many objects.
    group: bool
    #: A drawing or a model of the object.
    depiction: bool


@dataclass(frozen=True, slots=True)
class Original:
    """The file that a photographer uploaded, as the list of photos has it."""

    url: str
    #: In bytes; None where the list does not say.
    size: int | None = None
    #: In Base64; empty where the list does not say.
    md5: str = ""


def list_file(data: Path, name: str) -> Path:
    """Where a list lies: as in the release, or, as it is often saved by hand, without the release's folders."""
    plain = data / Path(name).name
    return plain if plain.is_file() and not (data / name).is_file() else data / name


def all_classes(data: Path) -> list[tuple[str, str]]:
    """Machine id and name of every class, by name.

    Raises:
        DataError: The list of classes is missing.
    """
    return sorted(class_names(list_file(data, CLASSES)), key=lambda pair: pair[1].lower())


def machine_names(data: Path, wanted: Sequence[str]) -> dict[str, str]:
    """Machine id to name of the wanted classes.

    Raises:
        DataError: The list of classes is missing, or a class is not in it.
    """
    path = list_file(data, CLASSES)
    found = {machine: name for machine, name in class_names(path) if name in wanted}
    missing = sorted(set(wanted) - set(found.values()))
    if missing:
        raise DataError(f"{path} has no class {', '.join(missing)}; --list-classes names them")
    return found


def boxes(data: Path, wanted: Sequence[str]) -> Iterator[Box]:
    """The boxes of some classes, in the order of the list, which is read line by line.

    Yields:
        Boxes.

    Raises:
        DataError: A list or a column is missing, or a box is empty.
    """
    names, path = machine_names(data, wanted), list_file(data, BOXES)
    for line, row in enumerate(rows(path), 2):
        if line == 2:
            columns_missing(path, row, "ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
        name = names.get(row["LabelName"])
        if name is None:
            continue
        try:
            left, right, top, bottom = (float(row[column]) for column in ("XMin", "XMax", "YMin", "YMax"))
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise DataError(f"{path}, line {line}: no box within 0..1")
        flags = (row.get("IsGroupOf") == "1", row.get("IsDepiction") == "1")
        yield Box(row["ImageID"], name, line, (left, top, right, bottom), *flags)


def originals(data: Path, photos: Sequence[str]) -> Mapping[str, Original]:
    """The original file of each photo for which the list has a URL.

    Raises:
        DataError: The list or a column is missing.
    """
    wanted, path = set(photos), list_file(data, PHOTOS)
    found = {}
    for line, row in enumerate(rows(path)):
        if line == 0:
            columns_missing(path, row, "ImageID", "OriginalURL")
        if row["ImageID"] in wanted and row["OriginalURL"]:
            size, md5 = (row.get(column) or "" for column in ("OriginalSize", "OriginalMD5"))
            found[row["ImageID"]] = Original(row["OriginalURL"], int(size) if size.isdecimal() else None, md5.strip())
    return found
