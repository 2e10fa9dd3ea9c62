"""The published JSON Schemas, generated from the event classes, so that code and contract cannot drift apart."""

from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from consumer import events

_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {
    events.UPLOADED: events.UPLOADED_ADAPTER,
    events.DELETED: events.DELETED_ADAPTER,
    events.TAGGED: events.TAGS_ADAPTER,
}
_MAJOR: Final = 1


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of one kind of event; unknown fields are allowed, so that producers may add some."""
    schema = _ADAPTERS[kind].json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{kind}.v{_MAJOR}.schema.json",
        **schema,
        "title": kind,
    }


def write_schemas(folder: Path) -> list[Path]:
    """Writes one file for each kind of event and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in _ADAPTERS:
        path = folder / f"{kind}.v{_MAJOR}.schema.json"
        path.write_bytes(orjson.dumps(schema_of(kind), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        paths.append(path)
    return paths
