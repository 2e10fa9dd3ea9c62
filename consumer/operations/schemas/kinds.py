"""The JSON Schema of each kind of record and report, made from the classes that read and write them."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from consumer import events, releases
from consumer.operations.schemas import comments, examples
from consumer.runs import answers, definition, report

#: A schema is known by its name; none is served there.
BASE: Final = "https://photo-tagger.example/schemas/"
MAJOR: Final = 1
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_CLASSES: Final[dict[str, type]] = {
    events.UPLOADED: events.PhotoUploaded,
    events.DELETED: events.PhotoDeleted,
    events.TAGGED: events.Tags,
    releases.RELEASE: releases.Release,
    definition.RUN: definition.Run,
    answers.ANSWER: answers.Answer,
    report.DIFF: report.Report,
}
KINDS: Final = tuple(_CLASSES)
_MODE: Final[JsonSchemaMode] = "validation"


def file_of(kind: str) -> str:
    """The name of the file of a schema."""
    return f"{kind}.v{MAJOR}.schema.json"


def schema_of(kind: str) -> Schema:
    """The JSON Schema of one kind; unknown fields are allowed, so that some may be added."""
    own = _CLASSES[kind]
    schema = TypeAdapter(own).json_schema(mode=_MODE)
    parts = schema.pop("$defs", {})
    _describe(own, {own.__name__: schema, **parts})
    schema.pop("title")
    return {
        "$schema": DIALECT,
        "$id": f"{BASE}{file_of(kind)}",
        "title": kind,
        **({"$defs": parts} if parts else {}),
        **schema,
        "examples": examples.of(kind),
    }


def components(kinds: tuple[str, ...]) -> dict[str, Schema]:
    """The schemas of several kinds in one document, under `#/components/schemas/`, each part once."""
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (kind, _MODE, TypeAdapter(_CLASSES[kind])) for kind in kinds
    ]
    made, together = TypeAdapter.json_schemas(adapters, ref_template="#/components/schemas/{model}")
    parts: dict[str, Schema] = together["$defs"]
    for kind in kinds:
        _describe(_CLASSES[kind], parts)
        own = made[kind, _MODE]["$ref"].rpartition("/")[2]
        parts[own] = {**parts[own], "examples": examples.of(kind)}
    return parts


def name_of(kind: str) -> str:
    """The name of a kind among the components."""
    return _CLASSES[kind].__name__


def _describe(own: type, schemas: dict[str, Schema]) -> None:
    """Completes the schemas of a class and its parts, by name: what a field means, and the form of a time."""
    for kind in comments.classes_in(own):
        schema = schemas[kind.__name__]
        meanings = comments.fields_of(kind)
        for name, field in schema["properties"].items():
            field.pop("title", None)
            field["description"] = meanings[name]
        for part in _parts(schema):
            if part.get("format") == "date-time":
                part.setdefault("pattern", events.TIME_FORM)


def _parts(schema: object) -> Iterator[Schema]:
    """Every object within a schema.

    Yields:
        Each, the outer ones first.
    """
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from _parts(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _parts(inner)
