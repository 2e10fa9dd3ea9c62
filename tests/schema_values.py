"""Values for a JSON Schema of ours: those that it accepts, and those of which one part is at a bound or beyond it."""

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
from hypothesis import strategies as st

Schema = dict[str, Any]
Path = tuple[str | int, ...]

_TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
_TIMES = [
    "1990-01-02T00:00:00Z",
    "2026-11-21T10:15:00Z",
    "2026-11-21T10:15:00.1+23:59",
    "2026-11-21T10:15:00.123456789-11:30",
    "2024-02-29T23:59:59+00:00",
]
_NO_TIMES = [
    *("2026-11-21", "2026-11-21T10:15:00", "2026-13-01T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T10:60:00Z"),
    *("2026-11-21T23:59:60Z", "2026-11-21T10:15:00+24:00", "soon", "2026-11-21T10:15:00Z\n"),
]
#: What no schema of ours accepts everywhere.
_OTHERS: list[Any] = [None, True, 7, 1.5, "text", "", [], {}, [1], {"a": 1}]
_MATCHING = {
    r"^[^\x00-\x1f\x7f]+$": _TEXTS.filter(bool),
    r"^[0-9a-f]{64}$": st.text("0123456789abcdef", min_size=64, max_size=64),
}


def validator(schema: Schema) -> jsonschema.Draft202012Validator:
    """A validator in which `$` is the end of the text, as in ECMA 262; Python's lets a newline follow."""

    def matches(_: object, pattern: str, value: object, __: object) -> Iterator[jsonschema.ValidationError]:
        if isinstance(value, str) and not re.search(pattern.removesuffix("$") + r"\Z", value):
            yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")

    kind = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": matches})
    found: jsonschema.Draft202012Validator = kind(schema)
    return found


def valid(schema: Schema, root: Schema | None = None) -> st.SearchStrategy[Any]:
    """Values that a schema accepts, often at its bounds."""
    root = schema if root is None else root
    if "$ref" in schema:
        return st.deferred(lambda: valid(_resolved(schema, root), root))
    if "anyOf" in schema:
        return st.one_of([valid(each, root) for each in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _OF_TYPE[schema["type"]](schema, root)


def neighbours(value: Any, schema: Schema) -> Iterator[Any]:
    """The value with one part at a bound, just beyond it, of another type or missing: every part in every way."""
    for path, part in _places(value, schema, schema):
        for wrong in (*_at_the_bounds(part), *_OTHERS):
            yield _changed(value, path, wrong)
        if path and isinstance(path[-1], str):
            yield _changed(value, path, ...)


def _changed(value: Any, path: Path, part: object) -> Any:
    """A copy with another part; without it, where that is `...`."""
    if not path:
        return part
    changed = held = copy.deepcopy(value)
    *way, last = path
    for step in way:
        held = held[step]
    if part is ...:
        held.pop(last, None)
    else:
        held[last] = part
    return changed


def _resolved(schema: Schema, root: Schema) -> Schema:
    found: Schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return found


def _places(value: Any, schema: Schema, root: Schema, path: Path = ()) -> Iterator[tuple[Path, Schema]]:
    if "anyOf" in schema:  # each of ours is of something or null
        schema = next(each for each in schema["anyOf"] if each.get("type") != "null")
    if "$ref" in schema:
        schema = _resolved(schema, root)
    yield path, schema
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            yield from _places(value.get(name), part, root, (*path, name))
        if isinstance(part := schema.get("additionalProperties"), dict):
            for name, inner in value.items():
                yield from _places(inner, part, root, (*path, name))
    elif isinstance(value, list) and value:
        yield from _places(value[0], schema["items"], root, (*path, 0))


def _at_the_bounds(schema: Schema) -> list[Any]:
    if schema.get("format") == "date-time":
        return [*_TIMES, *_NO_TIMES]
    found: list[Any] = []
    step = (lambda value, to: value + (1 if to > 0 else -1)) if schema.get("type") == "integer" else math.nextafter
    for name, way in (
        ("minimum", -math.inf),
        ("maximum", math.inf),
        ("exclusiveMinimum", -math.inf),
        ("exclusiveMaximum", math.inf),
    ):
        if (bound := schema.get(name)) is not None:
            found += [bound, step(bound, way)]
    for name, more in (("minLength", -1), ("maxLength", 1)):
        if (bound := schema.get(name)) is not None:
            found += ["x" * bound, "x" * (bound + more), "ß" * bound, "\U0001f600" * (bound + more)]
    if "pattern" in schema:
        found += ["a\nb", "a\n", "\x7f", "0" * 63, "0" * 64, "A" * 64, "0" * 65, "0" * 64 + "\n"]
        found += [f"{'1' * 13}.{'2' * 6}.{'3' * 13}{end}" for end in ("", "4", "\n")]
        found += ["1", "0", "999", "1000", "night-2", "-night", "n" * 40, "n" * 41]
    return found


def _text(schema: Schema, _: Schema) -> st.SearchStrategy[Any]:
    if schema.get("format") == "date-time":
        return st.sampled_from(_TIMES)
    if "pattern" in schema:
        pattern = schema["pattern"]
        own = _MATCHING.get(pattern)
        return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True) if own is None else own
    least, most = schema.get("minLength", 0), schema.get("maxLength", 20)
    return _TEXTS.filter(lambda text: least <= len(text) <= most)


def _object(schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    properties = schema.get("properties", {})
    needed = set(schema.get("required", ()))
    further = schema.get("additionalProperties", True)
    if not properties:
        values = valid(further, root) if isinstance(further, dict) else st.integers() | _TEXTS
        return st.dictionaries(_TEXTS, values, max_size=2)
    always = {name: valid(part, root) for name, part in properties.items() if name in needed}
    sometimes = {name: valid(part, root) for name, part in properties.items() if name not in needed}
    known = st.fixed_dictionaries(always, optional=sometimes)
    return st.builds(
        lambda value, more: {**{name: part for name, part in more.items() if name not in properties}, **value},
        known,
        st.dictionaries(st.just("a_field_of_tomorrow"), st.integers() | _TEXTS, max_size=1),
    )


def _integer(schema: Schema, _: Schema) -> st.SearchStrategy[Any]:
    return st.integers(
        schema.get("minimum", -(2**40)), schema.get("maximum", schema.get("exclusiveMaximum", 2**40) - 1)
    )


def _number(schema: Schema, _: Schema) -> st.SearchStrategy[Any]:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -1e9))
    exclusive = "exclusiveMinimum" in schema
    return st.floats(least, schema.get("maximum", 1e9), exclude_min=exclusive, allow_nan=False)


_OF_TYPE = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
    "array": lambda schema, root: st.lists(valid(schema["items"], root), max_size=2),
    "object": _object,
}
