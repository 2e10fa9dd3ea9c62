"""Each attribute is one of the conventions of the package that is installed, and not one that they left behind."""

import ast
import importlib
from itertools import pairwise
from pathlib import Path

import pytest
from opentelemetry.semconv import attributes, schemas
from opentelemetry.semconv._incubating import attributes as incubating

from consumer.tracing import conventions

OURS = "photo_tagger."
NAMES = [value for name, value in vars(conventions).items() if name.isupper() and name != "SCHEMA"]


def documented() -> dict[str, str]:
    """The text of each attribute of the conventions, by its name."""
    found = {}
    for package in (incubating, attributes):
        for path in Path(package.__path__[0]).glob("*_attributes.py"):
            module = importlib.import_module(f"{package.__name__}.{path.stem}")
            body = ast.parse(path.read_text()).body
            for assigned, text in pairwise(body):
                if isinstance(assigned, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[getattr(module, ast.unparse(assigned.target))] = ast.unparse(text)
    return found


def test_the_schema_is_the_newest_of_the_package() -> None:
    assert list(schemas.Schemas)[-1].value == conventions.SCHEMA


def test_every_attribute_is_of_the_conventions_or_ours() -> None:
    known = documented()
    assert len(known) > 500
    for name in NAMES:
        if not name.startswith(OURS):
            assert name in known, name
            assert "Deprecated: " not in known[name], name


@pytest.mark.parametrize("name", NAMES)
def test_no_two_are_the_same(name: str) -> None:
    assert NAMES.count(name) == 1
