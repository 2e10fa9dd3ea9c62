import json
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consumer import events
from consumer.events import PhotoDeleted, PhotoUploaded, Tags
from consumer.operations import schemas
from consumer.releases import Release
from consumer.runs.answers import Answer
from consumer.runs.definition import Run
from consumer.runs.report import Report
from tests.fakes import MOMENT, tags

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "docs" / "schemas"
CLASSES = {
    "photo.uploaded": PhotoUploaded,
    "photo.deleted": PhotoDeleted,
    "photo.tagged": Tags,
    "photo.release": Release,
    "run": Run,
    "run.answer": Answer,
    "run.diff": Report,
}
JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
EXAMPLES = {
    "photo.uploaded": [
        PhotoUploaded("p", "https://h/p", MOMENT),
        PhotoUploaded("p", "https://h/p", MOMENT, 3, "uploader", "place", "0" * 64, {"iso": 100}),
    ],
    "photo.deleted": [PhotoDeleted("p", MOMENT), PhotoDeleted("p", MOMENT, 3)],
    "photo.tagged": [tags(), tags(brands=(), probabilities={}, models={})],
}


def follows(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value has the types, properties and entries that a schema asks for."""
    if "$ref" in schema:
        return follows(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in schema:
        return any(follows(value, entry, root) for entry in schema["anyOf"])
    kind = schema.get("type")
    if kind and (not isinstance(value, JSON_TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if schema.get("format") == "date-time":
        return datetime.fromisoformat(value).tzinfo is not None
    if kind == "array":
        return all(follows(entry, schema["items"], root) for entry in value)
    if kind != "object":
        return True
    further = schema.get("additionalProperties", True)
    return set(schema.get("required", ())) <= value.keys() and all(
        follows(entry, schema["properties"][name], root)
        if name in schema.get("properties", {})
        else not isinstance(further, dict) or follows(entry, further, root)
        for name, entry in value.items()
    )


def test_the_published_files_are_what_the_code_generates(tmp_path: Path) -> None:
    written = {path.name: path.read_bytes() for path in schemas.write_schemas(tmp_path / "new")}
    published = {path.name: path.read_bytes() for path in PUBLISHED.iterdir()}
    assert written == published, "run: make schemas"
    copies = ROOT / "training" / "data"
    assert (copies / schemas.IMAGE_FORMATS).read_bytes() == written[schemas.IMAGE_FORMATS], "run: make schemas"
    metadata = ROOT / "consumer" / "imaging" / "metadata.py"
    assert (copies / metadata.name).read_bytes() == metadata.read_bytes(), "run: make schemas"


@pytest.mark.parametrize("kind", CLASSES)
def test_a_schema_names_every_field_of_its_event_and_allows_more(kind: str) -> None:
    schema = schemas.schema_of(kind)
    assert set(schema["properties"]) == {field.name for field in fields(CLASSES[kind])}
    assert schema.get("additionalProperties", True) is True
    assert schema["title"] == kind
    assert schema["$id"] == f"{kind}.v1.schema.json"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["description"]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_schema_refers_only_to_what_it_defines(kind: str) -> None:
    schema = schemas.schema_of(kind)
    text = json.dumps(schema)
    for name in schema.get("$defs", {}):
        assert f"#/$defs/{name}" in text
    assert text.count('"$ref"') == text.count('"#/$defs/')


def test_the_required_fields_are_the_documented_ones() -> None:
    assert schemas.schema_of("photo.uploaded")["required"] == ["photo_id", "uri", "uploaded_at"]
    assert schemas.schema_of("photo.deleted")["required"] == ["photo_id", "deleted_at"]
    assert set(schemas.schema_of("photo.tagged")["required"]) == {field.name for field in fields(Tags)}


@pytest.mark.parametrize(("kind", "event"), [(kind, event) for kind, some in EXAMPLES.items() for event in some])
def test_what_is_encoded_follows_the_schema(kind: str, event: Any) -> None:
    schema = schemas.schema_of(kind)
    payload = json.loads(events.encode(event))
    assert follows(payload, schema, schema)
    assert follows({**payload, "a_field_of_tomorrow": [1]}, schema, schema)
    for name in schema["required"]:
        assert not follows({key: value for key, value in payload.items() if key != name}, schema, schema)
        assert not follows({**payload, name: None}, schema, schema)


def test_the_bounds_of_a_photo_id_and_a_revision_are_published() -> None:
    properties = schemas.schema_of("photo.uploaded")["properties"]
    assert (properties["photo_id"]["minLength"], properties["photo_id"]["maxLength"]) == (1, 200)
    revision = next(entry for entry in properties["revision"]["anyOf"] if entry["type"] == "integer")
    assert (revision["minimum"], revision["maximum"]) == (0, events.MAX_REVISION)


def test_times_are_published_as_date_time() -> None:
    assert schemas.schema_of("photo.uploaded")["properties"]["uploaded_at"]["format"] == "date-time"
    assert datetime.fromisoformat(json.loads(events.encode(tags()))["tagged_at"]) == MOMENT.astimezone(UTC)
