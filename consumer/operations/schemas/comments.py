"""What the comments say of the fields of a dataclass: those that begin with `#:`, above the field."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Final, get_args, get_type_hints

_MARK: Final = "#:"


def fields_of(kind: type) -> dict[str, str]:
    """The comment of each field that has one, on one line."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    found = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment = " ".join(reversed(list(_above(lines, node.lineno))))
            if comment:
                found[node.target.id] = comment
    return found


def classes_in(hint: object) -> Iterator[type]:
    """The dataclasses in a type: itself, or those of its fields and of what its fields hold.

    Yields:
        Each, some of them more than once.
    """
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint
        for inner in get_type_hints(hint).values():
            yield from classes_in(inner)
    for inner in get_args(hint):
        yield from classes_in(inner)


def _above(lines: list[str], number: int) -> Iterator[str]:
    """The lines of the comment above a line, the last one first.

    Yields:
        Each, without its mark.
    """
    for line in reversed(lines[: number - 1]):
        if not (text := line.strip()).startswith(_MARK):
            return
        yield text.removeprefix(_MARK).strip()
