"""Where the classes stand in the tree of all classes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Canvas

from training.data.brands import class_names
from training.errors import DataError
from training.studies import pictures
from training.studies.openimages.lists import CLASSES, HIERARCHY


def tree(data: Path, wanted: frozenset[str]) -> list[tuple[int, str]]:
    """The branches that hold the classes, as (depth, text), with the number of branches that are left out.

    Empty where there is not a hierarchy.

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


def drawn(lines: list[tuple[int, str]]) -> bytes:
    """The tree as a picture."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.set_axis_off()
        for row, (depth, text) in enumerate(lines):
            axes.text(depth, -row, text, va="center")
            if depth:
                above = next(index for index in range(row - 1, -1, -1) if lines[index][0] == depth - 1)
                corner = depth - 0.75
                axes.plot([corner, corner, depth - 0.1], [-above - 0.4, -row, -row], color=pictures.GREY, linewidth=1)
        axes.set_xlim(-0.2, max(depth for depth, _ in lines) + 2)
        axes.set_ylim(-len(lines) + 0.5, 0.5)

    return pictures.plot(paint, 6.0, 0.25 * len(lines) + 0.4)
