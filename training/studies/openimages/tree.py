"""The hierarchy of the classes: the branches that hold some of them, and all of it, as lines and as pictures."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.evaluation.figures import GREY, ORANGE, subplots
from training.studies.openimages.lists import HIERARCHY, all_classes, list_file
from training.studies.pictures import png, styled

#: Of the picture of the whole tree: lines in a column, and inches.
_LINES, _COLUMN_IN, _LINE_IN = 105, 2.1, 0.115


def tree(data: Path, wanted: frozenset[str]) -> list[tuple[int, str]]:
    """The branches of the class hierarchy that hold the classes, as (depth, text), with the number of other branches.

    Empty without a hierarchy file.

    Raises:
        DataError: The file is not a hierarchy.
    """
    return _lines(data, lambda root, names: _branch(root, names, wanted, 0))


def whole_tree(data: Path, wanted: frozenset[str]) -> list[tuple[int, str]]:
    """Every node of the class hierarchy as (depth, text), with a star at the classes; otherwise as `tree`."""
    return _lines(data, lambda root, names: _every(root, names, wanted, 0))


def _lines(
    data: Path, walk: Callable[[Mapping[str, Any], Mapping[str, str]], Iterator[tuple[int, str]]]
) -> list[tuple[int, str]]:
    path = list_file(data, HIERARCHY)
    if not path.is_file():
        return []
    names = dict(all_classes(data))
    try:
        return list(walk(json.loads(path.read_text()), names))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a hierarchy: {type(error).__name__}: {error}") from None


def _children(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*node.get("Subcategory", ()), *node.get("Part", ())]


def _holds(node: Mapping[str, Any], names: Mapping[str, str], wanted: frozenset[str]) -> bool:
    return names.get(node["LabelName"]) in wanted or any(_holds(child, names, wanted) for child in _children(node))


def _branch(
    node: Mapping[str, Any], names: Mapping[str, str], wanted: frozenset[str], depth: int
) -> Iterator[tuple[int, str]]:
    yield depth, _text(node, names, wanted, depth)
    children = _children(node)
    kept = [child for child in children if _holds(child, names, wanted)]
    for child in kept:
        yield from _branch(child, names, wanted, depth + 1)
    if len(children) > len(kept) and kept:
        yield depth + 1, f"({len(children) - len(kept)} others)"


def _every(
    node: Mapping[str, Any], names: Mapping[str, str], wanted: frozenset[str], depth: int
) -> Iterator[tuple[int, str]]:
    yield depth, _text(node, names, wanted, depth)
    for child in _children(node):
        yield from _every(child, names, wanted, depth + 1)


def _text(node: Mapping[str, Any], names: Mapping[str, str], wanted: frozenset[str], depth: int) -> str:
    name = names.get(node["LabelName"], "Entity" if depth == 0 else node["LabelName"])
    return f"{name} *" if name in wanted else name


@styled
def draw_branches(lines: Sequence[tuple[int, str]]) -> bytes:
    """The branches of the hierarchy as a picture."""
    axes = subplots(6.0, 0.25 * len(lines) + 0.4)
    axes.set_axis_off()
    for row, (depth, text) in enumerate(lines):
        axes.text(depth, -row, text, va="center")
        if depth:
            above = next(index for index in range(row - 1, -1, -1) if lines[index][0] == depth - 1)
            corner = depth - 0.75
            axes.plot([corner, corner, depth - 0.1], [-above - 0.4, -row, -row], color=GREY, linewidth=1)
    axes.set_xlim(-0.2, max(depth for depth, _ in lines) + 2)
    axes.set_ylim(-len(lines) + 0.5, 0.5)
    return png(axes)


@styled
def draw_whole(lines: Sequence[tuple[int, str]]) -> bytes:
    """Every class, indented by its depth, in columns; those with a star stand out."""
    columns, high = -(-len(lines) // _LINES), min(len(lines), _LINES)
    axes = subplots(_COLUMN_IN * columns, _LINE_IN * high + 0.2)
    axes.set_axis_off()
    for index, (depth, text) in enumerate(lines):
        column, row = divmod(index, _LINES)
        marked = text.endswith(" *")
        axes.text(
            column + 0.06 * depth, -row, text, va="center", fontsize=6, weight="bold" if marked else "normal",
            bbox={"facecolor": ORANGE, "edgecolor": "none", "pad": 1} if marked else None,
        )  # fmt: skip
    axes.set_xlim(0, columns)
    axes.set_ylim(-high, 1)
    return png(axes, 256)
