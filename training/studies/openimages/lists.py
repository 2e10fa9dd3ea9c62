"""The lists of Open Images: classes and their hierarchy, boxes, and the URL of each photo."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from training.data.brands import class_names
from training.data.tables import columns_missing, rows
from training.errors import DataError

CLASSES: Final = "class-descriptions-boxable.csv"
BOXES: Final = "train-annotations-bbox.csv"
PHOTOS: Final = "train-images-boxable-with-rotation.csv"
HIERARCHY: Final = "bbox_labels_600_hierarchy.json"


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


def machine_names(data: Path, wanted: Sequence[str]) -> dict[str, str]:
    """Machine id to name of the wanted classes.

    Raises:
        DataError: The list of classes is missing, or a class is not in it.
    """
    found = {machine: name for machine, name in class_names(data / CLASSES) if name in wanted}
    missing = sorted(set(wanted) - set(found.values()))
    if missing:
        raise DataError(f"{data / CLASSES} has no class {', '.join(missing)}")
    return found


def boxes(data: Path, wanted: Sequence[str]) -> Iterator[Box]:
    """The boxes of some classes, in the order of the list, which is read line by line.

    Yields:
        Boxes.

    Raises:
        DataError: A list or a column is missing, or a box is empty.
    """
    names, path = machine_names(data, wanted), data / BOXES
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


def addresses(data: Path, photos: Sequence[str]) -> Mapping[str, str]:
    """The original URL of each photo for which the list has one.

    Raises:
        DataError: The list or a column is missing.
    """
    wanted, path = set(photos), data / PHOTOS
    found = {}
    for line, row in enumerate(rows(path)):
        if line == 0:
            columns_missing(path, row, "ImageID", "OriginalURL")
        if row["ImageID"] in wanted and row["OriginalURL"]:
            found[row["ImageID"]] = row["OriginalURL"]
    return found


def tree(data: Path, wanted: frozenset[str]) -> list[tuple[int, str]]:
    """The branches of the class hierarchy that hold the classes, as (depth, text), with the number of other branches.

    Empty without a hierarchy file.

    Raises:
        DataError: The file is not a hierarchy.
    """
    path = data / HIERARCHY
    if not path.is_file():
        return []
    names = dict(class_names(data / CLASSES))
    try:
        root: Mapping[str, Any] = json.loads(path.read_text())
        return list(_branch(root, names, wanted, 0))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a hierarchy: {type(error).__name__}: {error}") from None


def _children(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*node.get("Subcategory", ()), *node.get("Part", ())]


def _holds(node: Mapping[str, Any], names: Mapping[str, str], wanted: frozenset[str]) -> bool:
    return names.get(node["LabelName"]) in wanted or any(_holds(child, names, wanted) for child in _children(node))


def _branch(
    node: Mapping[str, Any], names: Mapping[str, str], wanted: frozenset[str], depth: int
) -> Iterator[tuple[int, str]]:
    name = names.get(node["LabelName"], "Entity" if depth == 0 else node["LabelName"])
    yield depth, f"{name} *" if name in wanted else name
    children = _children(node)
    kept = [child for child in children if _holds(child, names, wanted)]
    for child in kept:
        yield from _branch(child, names, wanted, depth + 1)
    if len(children) > len(kept) and kept:
        yield depth + 1, f"({len(children) - len(kept)} others)"
