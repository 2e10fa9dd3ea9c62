"""Deliberate breaks of what the studies published, and whether the check of a row notices them.

A break is an edit of one place in the code, made in the running interpreter: the function, constant or class that the
text stands in is compiled anew and takes the old one's place for the time of one test. To add breaks of a study, write
a module beside this one that lists them, and a test like those of the others.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import pytest
from _pytest.fixtures import FixtureFunctionDefinition

ROOT: Final = Path(__file__).parents[5]
ROWS: Final = ROOT / "docs" / "studies" / "rows.md"
_ROW: Final = re.compile(r"^\| (?P<row>[0-9.]+) \| (?P<study>\w+) \| .+ \| `(?P<test>[^`]+)` \|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Break:
    """An edit of a value that a row promises."""

    row: str
    what: str
    module: str
    old: str
    new: str
    #: The test that must notice; by default the row's own.
    test: str = ""

    @property
    def id(self) -> str:
        """Name of its test."""
        return f"{self.row} {self.what}"

    @property
    def check(self) -> str:
        """The file and the name of the test that must notice."""
        return self.test or tests_of_rows()[self.row]


def tests_of_rows() -> dict[str, str]:
    """The test of each row."""
    return {found["row"]: found["test"] for found in _ROW.finditer(ROWS.read_text())}


def rows_of(study: str) -> set[str]:
    """The rows of a study."""
    return {found["row"] for found in _ROW.finditer(ROWS.read_text()) if found["study"] == study}


def fixtures_of(module: ModuleType) -> dict[str, Any]:
    """The fixtures of a test module by name, for another module that runs its tests."""
    return {name: value for name, value in vars(module).items() if isinstance(value, FixtureFunctionDefinition)}


def noticed(broken: Break, request: pytest.FixtureRequest, patch: pytest.MonkeyPatch) -> bool:
    """Whether the check fails on the broken code by what it asserts, and not for another reason."""
    file, _, name = broken.check.partition("::")
    check: Callable[..., None] = getattr(import_module(file.removesuffix(".py").replace("/", ".")), name)
    arguments = {parameter: request.getfixturevalue(parameter) for parameter in inspect.signature(check).parameters}
    apply(broken, patch)
    try:
        check(**arguments)
    except (AssertionError, pytest.fail.Exception):
        return True
    return False


def apply(broken: Break, patch: pytest.MonkeyPatch) -> None:
    """Breaks the code until the patch is undone."""
    module = import_module(broken.module)
    source = Path(str(module.__file__)).read_text()
    assert source.count(broken.old) == 1, f"{broken.module} has {source.count(broken.old)} times: {broken.old}"
    line = source[: source.index(broken.old)].count("\n") + 1
    before, after = (_statement(text, line) for text in (source, source.replace(broken.old, broken.new)))
    assert ast.dump(before) != ast.dump(after)
    made: dict[str, Any] = dict(vars(module))
    exec(compile(ast.Module([after], []), str(module.__file__), "exec"), made)
    for name in _names(before):
        _replace(module, name, made[name], patch)


def _statement(source: str, line: int) -> ast.stmt:
    """The statement of a module that a line stands in."""
    for node in ast.parse(source).body:
        start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        if start <= line <= (node.end_lineno or 0):
            return node
    raise AssertionError(f"no statement at line {line}")


def _names(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


def _replace(module: ModuleType, name: str, new: Any, patch: pytest.MonkeyPatch) -> None:
    old = getattr(module, name)
    if isinstance(old, FunctionType):
        target, source = inspect.unwrap(old), inspect.unwrap(new)
        patch.setattr(target, "__code__", source.__code__)
        patch.setattr(target, "__defaults__", source.__defaults__)
    elif isinstance(old, type):
        for attribute, value in _methods(new).items():
            patch.setattr(old, attribute, value)
    else:
        for place, other in list(sys.modules.items()):
            if place.startswith(("training.", "tests.")) and vars(other).get(name) is old:
                patch.setattr(other, name, new)


def _methods(made: type) -> Mapping[str, Any]:
    return {name: value for name, value in vars(made).items() if isinstance(value, FunctionType | property)}
