"""The published schemas say what the code does: all of its fields, its bounds, and nothing that it refuses."""

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer import events, releases
from consumer.errors import PhotoRejected
from consumer.events import PhotoDeleted, PhotoUploaded, Record, Tags
from consumer.operations import schemas
from consumer.operations.schemas import comments, examples, kinds
from consumer.releases import Release
from consumer.runs import answers, definition
from consumer.runs.answers import Answer
from consumer.runs.comparison import Comparison
from consumer.runs.definition import Run
from consumer.runs.gates import Gates
from consumer.runs.report import REPORT_ADAPTER, Report
from consumer.runs.summary import report_of
from tests.fakes import MOMENT, tags
from tests.schema_values import neighbours, valid, validator
from tests.unit.runs.synthetic import RUN, plausible

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
WRITTEN = {
    "photo.uploaded": [
        PhotoUploaded("p", "https://h/p", MOMENT),
        PhotoUploaded("p", "https://h/p", MOMENT, 3, "uploader", "place", "0" * 64, {"iso": 100}),
    ],
    "photo.deleted": [PhotoDeleted("p", MOMENT), PhotoDeleted("p", MOMENT, 3)],
    "photo.tagged": [tags(), tags(brands=(), probabilities={}, models={})],
}
SCHEMAS = {kind: schemas.schema_of(kind) for kind in CLASSES}
VALUES = {kind: valid(schema) for kind, schema in SCHEMAS.items()}
VALIDATORS = {kind: validator(schema) for kind, schema in SCHEMAS.items()}


def event_of(kind: str, value: bytes) -> object:
    record = Record("t", 0, 0, None, value, (("ce_type", kind.encode()),))
    try:
        return events.parse(record, max_ahead_s=float("inf"))
    except PhotoRejected as rejected:
        raise ValueError(rejected.detail) from None


#: What reads each kind of record.
READERS: dict[str, Callable[[bytes], object]] = {
    "photo.uploaded": lambda value: event_of("photo.uploaded", value),
    "photo.deleted": lambda value: event_of("photo.deleted", value),
    "photo.tagged": events.decode_tags,
    "photo.release": lambda value: releases.decode(Record("t", 0, 0, None, value)),
    "run": definition.decode,
    "run.answer": answers.decode,
}


def reads(kind: str, value: object) -> bool:
    try:
        READERS[kind](json.dumps(value).encode())
    except ValueError:
        return False
    return True


def of_one_photo(value: object) -> object:
    """The same answer with tags of its own photo: two ids that must be equal are more than a schema can say."""
    if isinstance(value, dict):
        for name in ("before", "after"):
            if isinstance(found := value.get(name), dict) and "photo_id" in found:
                found["photo_id"] = value.get("photo_id")
    return value


def objects(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema and "type" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)


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
    schema = SCHEMAS[kind]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {field.name for field in fields(CLASSES[kind])}
    assert schema.get("additionalProperties", True) is True
    assert schema["title"] == kind
    assert schema["$id"] == f"https://photo-tagger.example/schemas/{kind}.v1.schema.json"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for name in schema.get("$defs", {}):
        assert f"#/$defs/{name}" in json.dumps(schema)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_object_and_every_field_is_described_in_a_sentence(kind: str) -> None:
    for part in objects(SCHEMAS[kind]):
        for name, described in (("itself", part), *part["properties"].items()):
            words = described["description"]
            assert words[0].isupper() or words.startswith("`"), (part["title"], name, words)
            assert words.endswith("."), (part["title"], name, words)
            assert "None" not in words, (part["title"], name, words)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_examples_are_valid_and_are_what_the_code_reads(kind: str) -> None:
    for example in SCHEMAS[kind]["examples"]:
        VALIDATORS[kind].validate(example)
        assert kind not in READERS or reads(kind, example)


def test_the_required_fields_are_the_documented_ones() -> None:
    assert SCHEMAS["photo.uploaded"]["required"] == ["photo_id", "uri", "uploaded_at"]
    assert SCHEMAS["photo.deleted"]["required"] == ["photo_id", "deleted_at"]
    assert set(SCHEMAS["photo.tagged"]["required"]) == {field.name for field in fields(Tags)}


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=15)
@given(st.data())
def test_the_code_reads_what_the_schema_accepts(kind: str, data: st.DataObject) -> None:
    agree(kind, data.draw(VALUES[kind]))


@pytest.mark.parametrize("kind", READERS)
def test_the_code_and_the_schema_have_the_same_bounds(kind: str) -> None:
    for example in SCHEMAS[kind]["examples"]:
        for value in neighbours(example, SCHEMAS[kind]):
            agree(kind, value)


def agree(kind: str, value: object) -> None:
    value = of_one_photo(value)
    faults = [error.message for error in VALIDATORS[kind].iter_errors(value)]
    assert reads(kind, value) == (not faults), (value, faults)


@pytest.mark.parametrize(("kind", "event"), [(kind, event) for kind, some in WRITTEN.items() for event in some])
def test_what_is_encoded_follows_the_schema(kind: str, event: Any) -> None:
    payload = json.loads(events.encode(event))
    VALIDATORS[kind].validate({**payload, "a_field_of_tomorrow": [1]})
    for name in SCHEMAS[kind]["required"]:
        assert not VALIDATORS[kind].is_valid({key: value for key, value in payload.items() if key != name})
        assert not VALIDATORS[kind].is_valid({**payload, name: None})


@pytest.mark.parametrize("photos", [0, 1, 200])
def test_the_report_of_a_run_follows_its_schema(photos: int) -> None:
    comparison = Comparison(RUN.started_at)
    for answer in plausible(photos):
        comparison.add(answer)
    VALIDATORS["run.diff"].validate(json.loads(REPORT_ADAPTER.dump_json(report_of(RUN, comparison, Gates()))))


def test_a_whole_number_may_have_a_point_as_the_schema_says() -> None:
    event = json.loads(events.encode(PhotoUploaded("p", "https://h/p", MOMENT)))
    for revision, fits in ((4.0, True), (1e3, True), (4.5, False), (float(events.MAX_REVISION + 1), False)):
        assert VALIDATORS["photo.uploaded"].is_valid({**event, "revision": revision}) is fits
        assert reads("photo.uploaded", {**event, "revision": revision}) is fits


def test_a_comment_of_a_field_is_read_as_one_line() -> None:
    meanings = comments.fields_of(Tags)
    assert meanings["source"] == "The record of the upload."
    assert meanings["probabilities"].endswith("Of a result that was published again, the tagged brands alone.")
    assert set(comments.classes_in(dict[str, Tags] | None)) >= {Tags, events.Quality, events.Source}


def test_all_kinds_fit_into_one_document() -> None:
    parts = kinds.components(kinds.KINDS)
    assert {kinds.name_of(kind) for kind in kinds.KINDS} <= parts.keys()
    text = json.dumps(parts)
    assert text.count('"$ref"') == text.count('"#/components/schemas/')
    assert parts["Tags"]["examples"] == examples.of("photo.tagged")


def test_times_are_published_as_date_time() -> None:
    assert SCHEMAS["photo.uploaded"]["properties"]["uploaded_at"]["format"] == "date-time"
    assert datetime.fromisoformat(json.loads(events.encode(tags()))["tagged_at"]) == tags().tagged_at
