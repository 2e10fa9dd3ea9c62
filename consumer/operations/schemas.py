"""Published schemas, generated from the code: of events, releases, runs and their reports; and the image formats.

Training reads the image formats from a copy in its own package.
"""

from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from consumer import events, releases
from consumer.imaging import formats
from consumer.operations import reference
from consumer.runs import answers, definition, report

_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {
    events.UPLOADED: events.UPLOADED_ADAPTER,
    events.DELETED: events.DELETED_ADAPTER,
    events.TAGGED: events.TAGS_ADAPTER,
    releases.RELEASE: releases.RELEASE_ADAPTER,
    definition.RUN: definition.RUN_ADAPTER,
    answers.ANSWER: answers.ANSWER_ADAPTER,
    report.DIFF: report.REPORT_ADAPTER,
}
_MAJOR: Final = 1
IMAGE_FORMATS: Final = "image-formats.json"


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of one kind; unknown fields are allowed, so that some may be added."""
    schema = _ADAPTERS[kind].json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{kind}.v{_MAJOR}.schema.json",
        **schema,
        "title": kind,
    }


def write_schemas(folder: Path) -> list[Path]:
    """Writes a file for each kind of event and report, the image formats, the page of metrics; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {folder / f"{kind}.v{_MAJOR}.schema.json": schema_of(kind) for kind in _ADAPTERS}
    contents[folder / IMAGE_FORMATS] = formats.published()
    for path, content in contents.items():
        path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    page = folder / reference.PAGE
    page.write_text(reference.page(), encoding="utf-8")
    return [*contents, page]
