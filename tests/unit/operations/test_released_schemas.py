"""Who works by a schema that was released before works on: our reader takes what it accepts, it accepts what we write.

`tests/released/<version>/` holds the schemas as they were published, for each version of the changelog.
"""

import copy
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer import events
from consumer.errors import PhotoRejected
from consumer.events import Record
from consumer.operations import schemas
from tests.schema_values import Schema, neighbours, valid, validator

ROOT = Path(__file__).parents[3]
RELEASED = sorted((ROOT / "tests" / "released").rglob("*.schema.json"))
#: What others send, and what others read.
SENT = ("photo.uploaded", "photo.deleted")
WRITTEN = ("photo.tagged",)


def kind_of(path: Path) -> str:
    return path.name.removesuffix(".v1.schema.json")


def stated(path: Path) -> Schema:
    found: Schema = json.loads(path.read_text())
    return found


def cases(kinds: tuple[str, ...]) -> list[Any]:
    chosen = [path for path in RELEASED if kind_of(path) in kinds]
    assert {kind_of(path) for path in chosen} == set(kinds)
    return [pytest.param(path, id=f"{path.parent.name}-{kind_of(path)}") for path in chosen]


def is_read(kind: str, value: object) -> bool:
    record = Record("t", 0, 0, None, json.dumps(value).encode(), (("ce_type", kind.encode()),))
    try:
        events.parse(record, max_ahead_s=float("inf"))
    except PhotoRejected:
        return False
    return True


def unread(kind: str, schema: Schema, read: Callable[[str, object], bool] = is_read) -> list[object]:
    """What the schema accepts and the reader refuses, among the neighbours of today's examples."""
    accepts = validator(schema).is_valid
    times = ("uploaded_at", "deleted_at")
    found = [value for each in schemas.schema_of(kind)["examples"] for value in neighbours(each, schema)]
    return [
        value
        for value in found
        if accepts(value)
        # 0.1.0 said `date-time` without a pattern, which a validator need not check.
        and validator(
            {"properties": {name: {"pattern": "^[0-9-]+T[0-9:.]+(Z|[+-][0-9:]+)$"} for name in times}}
        ).is_valid(value)
        and not any(isinstance(value, dict) and value.get(name) in NO_TIMES for name in times)
        and not read(kind, value)
    ]


#: Of the right form, and no times.
NO_TIMES = (
    *("2026-13-01T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T10:60:00Z", "2026-11-21T23:59:60Z"),
    *("2026-11-21T10:15:00+24:00", "2026-11-21T10:15:00Z\n"),
)


def missing(changelog: str, version: str, released: dict[str, set[str]]) -> list[str]:
    """What a release forgot."""
    headings = re.findall(r"^## \[(\d[^]]*)\]", changelog, re.MULTILINE)
    found = [f"CHANGELOG.md: no heading for {version}, the version in pyproject.toml"] * (version not in headings)
    for each in headings:
        if not released.get(each, set()) >= {*SENT, *WRITTEN}:
            folder = f"tests/released/{each}"
            found.append(f"mkdir -p {folder} && cp docs/schemas/photo.[dtu]*.v*.schema.json {folder}/")
    return found


def test_each_release_has_its_schemas_kept() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    kept: dict[str, set[str]] = {}
    for path in RELEASED:
        kept.setdefault(path.parent.name, set()).add(kind_of(path))
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert missing(changelog, version, kept) == []
    (command,) = missing(f"## [9.0.0] - 2030-01-01\n{changelog}", "9.0.0", kept)
    assert command.startswith("mkdir -p tests/released/9.0.0 && cp docs/schemas/photo.")
    assert missing(changelog, "9.0.0", kept) == ["CHANGELOG.md: no heading for 9.0.0, the version in pyproject.toml"]


@pytest.mark.parametrize("path", cases(SENT))
def test_what_an_earlier_schema_accepts_is_read_today(path: Path) -> None:
    assert unread(kind_of(path), stated(path)) == []


@pytest.mark.parametrize("path", cases(SENT))
@settings(max_examples=30)
@given(st.data())
def test_what_is_drawn_from_an_earlier_schema_is_read_today(path: Path, data: st.DataObject) -> None:
    assert is_read(kind_of(path), data.draw(valid(stated(path))))


@pytest.mark.parametrize("path", cases(WRITTEN))
@settings(max_examples=30)
@given(st.data())
def test_what_is_written_today_follows_an_earlier_schema(path: Path, data: st.DataObject) -> None:
    drawn = data.draw(valid(schemas.schema_of(kind_of(path))))
    written = events.encode(events.decode_tags(json.dumps(drawn).encode()))
    validator(stated(path)).validate(json.loads(written))


def test_a_breaking_change_is_seen() -> None:
    schema = schemas.schema_of("photo.uploaded")
    assert unread("photo.uploaded", schema) == []
    longer, less, other = (copy.deepcopy(schema) for _ in range(3))
    longer["properties"]["photo_id"]["maxLength"] = 201
    less["required"].remove("uri")
    other["properties"]["place"]["anyOf"].append({"type": "object"})
    for earlier in (longer, less, other):
        assert unread("photo.uploaded", earlier) != []
