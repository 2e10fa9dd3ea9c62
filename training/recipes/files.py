"""Reads recipes from YAML, applies overrides, and prints them with every value's description."""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from functools import reduce
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from training.errors import RecipeError
from training.recipes.recipe import Recipe
from training.recipes.sources import Source

_INDENT = "  "
#: Kind to class of every source.
_SOURCES = {get_args(part.model_fields["kind"].annotation)[0]: part for part in get_args(get_args(Source)[0])}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which 1e-5 is a number; YAML 1.1 reads it as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def shipped() -> dict[str, str]:
    """Name and text of every recipe in the package."""
    folder = files("training.recipes")
    found = {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}
    return {name: found[name].read_text() for name in sorted(found)}


def read(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a shipped name or of a YAML file, with `key.path=value` overrides, values in YAML.

    Raises:
        RecipeError: No such recipe, invalid YAML, an unknown key (the nearest known one is named) or an invalid value.
    """
    known = shipped()
    text: str | bytes
    if name in known:
        text = known[name]
    elif Path(name).is_file():
        text = Path(name).read_bytes()  # YAML is UTF-8, or UTF-16 with a byte-order mark
    else:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RecipeError(f"no recipe {name}: neither a file nor one of {', '.join(known)}{hint}")
    try:
        values = load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{name} holds no keys")
    for override in overrides:
        _override(values, override)
    return parse(values)


def parse(values: dict[str, Any]) -> Recipe:
    """A recipe from plain values.

    Raises:
        RecipeError: As `read`.
    """
    try:
        return Recipe.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        unknown = [_unknown_key(e["loc"]) for e in error.errors() if e["type"] == "extra_forbidden"]
        lines = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise RecipeError("; ".join(unknown or lines)) from None


def load(text: str | bytes) -> Any:  # noqa: ANN401 - a YAML tree
    """The values of YAML text; raises yaml.YAMLError."""
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader


def dump(recipe: Recipe) -> str:
    """YAML of every value, which `read` reads back to an equal recipe."""
    values = recipe.model_dump(mode="json")
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


def described(recipe: Recipe) -> str:
    """YAML of every value, each with its description as a comment."""
    return "\n".join(_described(recipe, "")) + "\n"


def _described(part: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(part).model_fields.items():
        value, comment = getattr(part, name), f"  # {field.description}" if field.description else ""
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:{comment}"
            yield from _described(value, indent + _INDENT)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield f"{indent}{name}:{comment}"
            for item in value:
                lines = list(_described(item, indent + _INDENT * 2))
                yield f"{indent}{_INDENT}- {lines[0].strip()}"
                yield from lines[1:]
        else:
            plain = part.model_dump(mode="json")[name]
            text = yaml.safe_dump([plain], default_flow_style=True, allow_unicode=True, width=10_000).strip()
            yield f"{indent}{name}: {text[1:-1]}{comment}"


def _override(values: Any, override: str) -> None:  # noqa: ANN401 - a YAML tree
    path, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"--set {override}: write key.path=value")
    *parents, last = path.split(".")
    try:
        value = load(text)
        target: Any = reduce(_child, parents, values)
        if isinstance(target, list):
            target[int(last)] = value
        else:
            target[last] = value
    except (ValueError, IndexError, TypeError, yaml.YAMLError) as error:
        raise RecipeError(f"--set {override}: {error}") from None


def _child(target: Any, key: str) -> Any:  # noqa: ANN401 - a YAML tree
    if isinstance(target, list):
        return target[int(key)]
    if target.get(key) is None:
        target[key] = {}
    return target[key]


def _unknown_key(location: Sequence[int | str]) -> str:
    """The message for an unknown key, with the nearest known key of its section.

    After a source's number, pydantic's location has the source's kind, which is not part of the key's path.
    """
    *path, key = location
    section: type[BaseModel] = Recipe
    for name in path:
        annotation = section.model_fields[str(name)].annotation if name in section.model_fields else None
        parts = (annotation, *get_args(annotation), _SOURCES.get(str(name)))
        section = next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), section)
    near = difflib.get_close_matches(str(key), section.model_fields, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(section.model_fields)}"
    return f"unknown key {'.'.join(str(name) for name in location if name not in _SOURCES)}; {hint}"
