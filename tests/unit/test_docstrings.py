"""What ruff cannot see of the docstring rule: nothing public is without one, and `Raises:` names what exists."""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer import errors as consumer_errors
from training import errors as training_errors

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path.relative_to(ROOT).as_posix() for folder in ("consumer", "training") for path in (ROOT / folder).rglob("*.py")
)

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Functions, classes and methods whose every name is public; what is inside a function is its own affair."""
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_"):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{prefix}{child.name}.")


def known_names(tree: ast.Module) -> set[str]:
    """What a reader of the module can look up: its classes and imports, our errors and the language's."""
    names = {*vars(consumer_errors), *vars(training_errors), *vars(builtins)}
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef():
                names.add(node.name)
            case ast.Import() | ast.ImportFrom():
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
                names |= {alias.name for alias in node.names}
    return names


def raised(docstring: str) -> list[str]:
    """The names in the section `Raises:`."""
    section = re.search(r"^Raises:\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE)
    return re.findall(r"^ {4}([\w.]+):", section[1], re.MULTILINE) if section else []


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_a_docstring(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text())
    assert ast.get_docstring(tree), module
    assert [name for name, node in public(tree) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("module", MODULES)
def test_what_a_docstring_says_is_raised_exists(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text())
    known = known_names(tree)
    unknown = [
        f"{name}: {exception}"
        for name, node in public(tree)
        if "Raises:" in (docstring := ast.get_docstring(node) or "")
        for exception in raised(docstring) or ["a section without a name"]
        if exception.partition(".")[0] not in known
    ]
    assert unknown == []
