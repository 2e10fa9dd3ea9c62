import base64
import gzip
import json
import lzma
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer import events
from consumer.errors import PhotoRejected
from consumer.events import MAX_REVISION, Brand, PhotoDeleted, PhotoUploaded, Quality, Record, Source, Tags
from tests.fakes import deleted_json, record, tags, uploaded_json

#: Far enough from the first and the last year that no zone leaves the calendar.
moments = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(9998, 12, 31),  # noqa: DTZ001 - as above
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
units = st.floats(0, 1)
#: When an event can have happened, without the time of its record.
sane = st.datetimes(
    datetime(1990, 1, 2),  # noqa: DTZ001 - as above
    datetime(2026, 11, 1),  # noqa: DTZ001 - as above
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


def explanation(value: bytes | None, kind: str | None = None) -> str:
    with pytest.raises(PhotoRejected) as caught:
        events.parse(Record("t", 0, 0, None, value, () if kind is None else (("ce_type", kind.encode()),)))
    assert caught.value.reason == "invalid_event"
    return caught.value.detail


def test_an_event_needs_no_more_than_its_required_fields() -> None:
    assert events.parse(record()) == PhotoUploaded(
        "photo-1", "https://photos.example/1.jpg", datetime(2026, 11, 21, 10, 15, 0, 123_000, tzinfo=UTC)
    )


def test_unknown_fields_are_ignored() -> None:
    assert events.parse(record(uploaded_json(camera="X100", nested={"a": [1]}))) == events.parse(record())
    assert events.parse(record(deleted_json(why="spam"), kind="photo.deleted")) == events.parse(
        record(deleted_json(), kind="photo.deleted")
    )


def test_optional_fields_are_kept() -> None:
    event = events.parse(
        record(uploaded_json(revision=4, uploader="u", place="p", content_sha256="0" * 64, metadata={"iso": 100}))
    )
    assert isinstance(event, PhotoUploaded)
    assert (event.revision, event.uploader, event.place) == (4, "u", "p")
    assert (event.content_sha256, event.metadata) == ("0" * 64, {"iso": 100})


@pytest.mark.parametrize("field", ["revision", "uploader", "place", "content_sha256", "metadata"])
def test_an_optional_field_may_be_null(field: str) -> None:
    assert events.parse(record(uploaded_json(**{field: None}))) == events.parse(record())


@pytest.mark.parametrize("field", ["photo_id", "uri", "uploaded_at"])
def test_an_upload_without_a_required_field_is_refused_by_its_name(field: str) -> None:
    assert f"field {field}:" in explanation(uploaded_json(**{field: ...}))


@pytest.mark.parametrize("field", ["photo_id", "deleted_at"])
def test_a_deletion_without_a_required_field_is_refused_by_its_name(field: str) -> None:
    assert f"field {field}:" in explanation(deleted_json(**{field: ...}), "photo.deleted")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("photo_id", value) for value in (None, 7, True, [], {}, "", "x" * 201, "a\nb", "a\x00", "a\x7f", "end\n")],
        *[("uri", value) for value in (None, 7, [], {}, "", "h" * 4097)],
        *[("uploaded_at", value) for value in (None, [], {}, "", "soon", "2026-11-21", "2026-11-21T10:00:00", True)],
        *[("revision", value) for value in (-1, 1.5, "x", [], MAX_REVISION + 1)],
        *[("content_sha256", value) for value in ("", "0" * 63, "G" * 64, "A" * 64, 5)],
        ("metadata", "text"),
        ("metadata", []),
        ("uploader", 5),
        ("place", {"city": "Bern"}),
    ],
)
def test_an_ill_typed_field_is_refused_by_its_name(field: str, value: object) -> None:
    assert f"field {field}:" in explanation(uploaded_json(**{field: value}))


@pytest.mark.parametrize("value", [1_700_000_000, "1700000000"])
def test_a_bare_number_is_no_time(value: object) -> None:
    assert "field uploaded_at:" in explanation(uploaded_json(uploaded_at=value))


@pytest.mark.parametrize("value", ["7", True])
def test_a_revision_that_is_no_integer_is_refused(value: object) -> None:
    assert "field revision:" in explanation(uploaded_json(revision=value))


def test_an_ill_typed_deletion_is_refused_by_the_fields_name() -> None:
    assert "field deleted_at:" in explanation(deleted_json(deleted_at="2026-11-21T10:00:00"), "photo.deleted")
    assert "field photo_id:" in explanation(deleted_json(photo_id=1), "photo.deleted")


def test_every_fault_is_counted_and_the_first_is_named() -> None:
    assert "(and 2 more)" in explanation(b"{}")


def test_a_refusal_repeats_nothing_of_the_payload() -> None:
    assert "hunter2" not in explanation(uploaded_json(uploaded_at="hunter2", uri=["hunter2"]))


@pytest.mark.parametrize(("length", "fits"), [(1, True), (200, True), (201, False)])
def test_a_photo_id_has_1_to_200_characters_of_any_script(length: int, fits: bool) -> None:
    value = uploaded_json(photo_id="ß" * length)
    if fits:
        assert events.parse(record(value)).photo_id == "ß" * length
    else:
        assert "field photo_id:" in explanation(value)


def test_the_header_tells_uploads_from_deletions() -> None:
    assert isinstance(events.parse(record(kind="photo.uploaded")), PhotoUploaded)
    assert isinstance(events.parse(record(deleted_json(), kind="photo.deleted")), PhotoDeleted)


def test_without_the_header_an_event_is_an_upload() -> None:
    assert isinstance(events.parse(record()), PhotoUploaded)
    assert isinstance(events.parse(record(headers=(("ce_type", None),))), PhotoUploaded)


def test_the_last_of_repeated_headers_counts() -> None:
    both = (("ce_type", b"photo.uploaded"), ("ce_type", b"photo.deleted"))
    assert isinstance(events.parse(record(deleted_json(), headers=both)), PhotoDeleted)


@pytest.mark.parametrize("kind", ["photo.renamed", "PHOTO.UPLOADED", "photo.tagged"])
def test_an_unknown_kind_is_refused_by_its_name(kind: str) -> None:
    assert repr(kind) in explanation(uploaded_json(), kind)


def test_a_kind_that_is_not_text_is_refused() -> None:
    with pytest.raises(PhotoRejected):
        events.parse(record(headers=(("ce_type", b"\xff"),)))


def test_a_record_without_a_value_is_refused() -> None:
    assert "no value" in explanation(None)


def test_a_byte_order_mark_is_no_part_of_the_event() -> None:
    assert events.parse(record(b"\xef\xbb\xbf" + uploaded_json())) == events.parse(record())
    marked = b"\xef\xbb\xbf" + deleted_json()
    assert events.parse(record(marked, kind="photo.deleted")) == events.parse(
        record(deleted_json(), kind="photo.deleted")
    )


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-32"])
@pytest.mark.parametrize("order", ["LE", "BE"])
def test_the_byte_order_mark_of_another_encoding_is_named(encoding: str, order: str) -> None:
    payload = ("\ufeff" + uploaded_json().decode()).encode(f"{encoding}-{order}")
    assert f"byte order mark is that of {encoding}" in explanation(payload)


#: Half of a character in an escape, as where a text was cut in the middle of an emoji.
HALVES = [r"\ud83d", r"cut \uD83D.", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\udfff"]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("field", ["note", "uploader", "place", "metadata", "a\\ud83d"])
def test_half_a_character_in_a_field_that_does_not_count_is_no_fault(field: str, half: str) -> None:
    held = f'{{"title": ["{half}"]}}' if field == "metadata" else f'"{half}"'
    value = uploaded_json()[:-1] + f', "{field}": {held}}}'.encode()
    event = events.parse(record(value))
    assert event.photo_id == "photo-1"
    events.encode(event)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("field", ["photo_id", "uri"])
def test_half_a_character_in_what_names_the_photo_is_refused(field: str, half: str) -> None:
    value = uploaded_json(**{field: ...})[:-1] + f', "{field}": "https://a/{half}"}}'.encode()
    assert explanation(value) == f"field {field}: it has half of a character, a lone surrogate"


def test_whole_characters_and_escaped_backslashes_stay_as_they_are() -> None:
    text = r"\\ud83d \ud83d\ude00 \ufffd \\"
    value = uploaded_json(uploader=...)[:-1] + f', "uploader": "{text}", "note": "\\ud83d"}}'.encode()
    event = events.parse(record(value))
    assert isinstance(event, PhotoUploaded)
    assert event.uploader == "\\ud83d \U0001f600 \ufffd \\"
    for more in (b"", b', "note": "\\ud83d"'):
        named = events.parse(record(uploaded_json(photo_id=...)[:-1] + more + b', "photo_id": "a\\ufffd"}'))
        assert named.photo_id == "a\ufffd"


FRAMES = [
    *(b"\0" + number.to_bytes(4) for number in (0, 7, 0x7B7B7B7B)),
    *(b"\0" + (7).to_bytes(8), b"\1" + b"0123456789abcdef", b"\3\0" + b"0123456789abcdef"),
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("space", [b"", b"\n "])
def test_json_behind_the_schema_id_of_a_registry_is_an_event(frame: bytes, space: bytes) -> None:
    assert events.parse(record(frame + space + uploaded_json())) == events.parse(record())


TEXT = uploaded_json()
FOUND = {
    "UTF-16": [TEXT.decode().encode(f"UTF-16-{order}") for order in ("LE", "BE")],
    "UTF-32": [TEXT.decode().encode(f"UTF-32-{order}") for order in ("LE", "BE")],
    "UTF-8 at byte": [TEXT[:-1] + b', "note": "caf\xe9"}', TEXT[:-1] + b', "note": "\xed\xa0\xbd"}'],
    "trailing characters": [b"{}\0", TEXT + b"\n" + TEXT],
    "EOF while parsing an object": [b"{", TEXT[:-1]],
    "should be an object": [b"0", b"null"],
    "gzip": [gzip.compress(TEXT)],
    "zlib": [zlib.compress(TEXT, level) for level in (0, 6, 9)],
    "xz": [lzma.compress(TEXT)],
    "zstd": [b"\x28\xb5\x2f\xfd" + TEXT],
    "Confluent's wire format with schema 42": [b"\0\0\0\0\x2a\x10beach-17\x30https", b"\0\0\0\0\x2a\0\x0a\x08beach-17"],
    "AWS Glue": [b"\x03\0" + b"0123456789abcdef" + b"\x10beach-17", b"\x03\x05" + b"0123456789abcdef" + b"x\x9c"],
    "Avro, Protobuf": [b"\x10beach-17\x30https", b"\x0a\x08beach-17\x12\x05https", b"\x83\xa8photo_id\xa1b"],
    "an Avro file": [b"Obj\x01\x04"],
    "Base64": [base64.b64encode(TEXT)],
    "XML": [b"<photo/>", b"  <?xml?>"],
    "JSON twice": [json.dumps(TEXT.decode()).encode()],
    "a list; send each event": [b"[" + TEXT + b"]", b"[]"],
    "a photo; send an event": [
        *(b"\xff\xd8\xff\xe0\0\x10JFIF", b"\x89PNG\r\n", b"GIF89a", b"RIFF\0\1\0\0WEBP", b"\0\0\0\x18ftypheic"),
    ],
    "it is empty": [b"", b" \n"],
    "application/cloudevents+json": [json.dumps({"specversion": "1.0", "type": "photo.uploaded", "data": {}}).encode()],
    "schemas.enable=false": [json.dumps({"schema": None, "payload": {}}).encode()],
    "in its field 'after'": [json.dumps({"before": None, "after": json.loads(TEXT), "op": "c"}).encode()],
    "in its field 'Message'": [json.dumps({"Type": "Notification", "Message": TEXT.decode()}).encode()],
    "its fields are 'photoId', 'Uploaded_At'": [rb'{"photoId": "a", "Uploaded_At": "\ud83d"}'],
    "its fields are 'photo_id', 'note'": [b'{"photo_id": "a", "note": "photo_id"}'],
    "its fields are none": [b"{}"],
    "its fields are 'aaa": [json.dumps({"a" * 500: 1}).encode()],
}


@pytest.mark.parametrize(("words", "value"), [(words, value) for words, values in FOUND.items() for value in values])
@pytest.mark.parametrize("kind", [events.UPLOADED, events.DELETED])
def test_what_is_not_the_json_of_an_event_is_told_as_what_it_is(words: str, value: bytes, kind: str) -> None:
    said = explanation(value, kind)
    assert words in said
    assert said.startswith("field ")
    assert len(said) < 200


STRUCTURED = {"specversion": "1.0", "id": "1", "source": "/uploads", "type": "photo.uploaded"}
DATA = json.loads(TEXT)


def structured(
    content_type: str = "application/cloudevents+json", name: str = "content-type", **fields: object
) -> Record:
    value = json.dumps({**STRUCTURED, **fields}).encode()
    # A type in the headers would be that of binary mode.
    return record(value, kind="photo.tagged", headers=((name, content_type.encode()),))


@pytest.mark.parametrize(
    "one",
    [
        structured(data=DATA),
        structured("application/cloudevents+json; charset=UTF-8", data=DATA),
        structured("Application/CloudEvents+JSON", "Content-Type", data=DATA),
        structured("application/cloudevents+json;charset=UTF-8", "CONTENT_TYPE", data=DATA),
        structured('"application/cloudevents+json"', "contentType", data=DATA),
        structured(
            data=DATA, datacontenttype="application/json; charset=utf-8", traceparent="00-1-1-01", data_base64=None
        ),
        structured(data_base64=base64.b64encode(TEXT).decode()),
        structured(data=None, data_base64=base64.b64encode(b"\xef\xbb\xbf" + TEXT).decode()),
        structured(data={**DATA, "note": 10**400, "metadata": {"a": float("inf")}, "half": "\ud83d"}),
    ],
)
def test_a_cloud_event_in_structured_mode_has_type_and_event_in_itself(one: Record) -> None:
    assert replace(events.parse(one), metadata=None) == events.parse(record())


def test_a_deletion_may_be_a_structured_cloud_event() -> None:
    one = structured(type="photo.deleted", data=json.loads(deleted_json()))
    assert events.parse(one) == events.parse(record(deleted_json(), kind="photo.deleted"))


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (structured("application/cloudevents-batch+json"), "field value: a batch of CloudEvents; send each event in a"),
        (
            structured("application/cloudevents+avro"),
            "'application/cloudevents+avro', expected application/cloudevents+json",
        ),
        (structured(data=DATA, specversion="0.3"), "field specversion: a CloudEvent of version '0.3', expected 1.0"),
        (structured(data=DATA, specversion=1.0), "field specversion: Input should be a valid string"),
        (structured(data=DATA, type="photo.renamed"), "is 'photo.renamed', expected photo.uploaded or photo.deleted"),
        (structured(data=DATA, type=None), "field type: "),
        (structured(data=DATA, datacontenttype="application/xml"), "field datacontenttype: 'application/xml'"),
        (structured(data=DATA, data_base64="e30="), "field data_base64: there is data too"),
        (structured(data_base64="{}"), "field data_base64: it is no Base64"),
        (structured(data=TEXT.decode()), "written as JSON twice"),
        (structured(), "field data: the event is missing"),
        (structured(data=[DATA]), "field value: it is a list"),
        (structured(data={**DATA, "photo_id": "a\ud83d"}), "field photo_id: it has half of a character"),
        (structured(data={}), "field photo_id: Field required"),
        (
            record(TEXT, headers=(("content-type", b"application/cloudevents+json"),)),
            "field specversion: Field required",
        ),
    ],
)
def test_a_structured_cloud_event_that_is_none_of_ours_is_refused_in_words(one: Record, words: str) -> None:
    with pytest.raises(PhotoRejected) as caught:
        events.parse(one)
    assert caught.value.reason == "invalid_event"
    assert words in caught.value.detail


@pytest.mark.parametrize("name", ["CE_Type", "ce-type", "CE_TYPE", "Ce-Type"])
def test_the_name_of_a_header_counts_in_any_spelling(name: str) -> None:
    headers = ((name, b"photo.deleted"),)
    assert isinstance(events.parse(record(deleted_json(), headers=headers)), PhotoDeleted)
    assert not events.says_nothing(replace(record(headers=headers), value=None))


PARENT, STATE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "rojo=00f067aa0ba902b7"


def test_the_trace_context_of_a_structured_cloud_event_is_that_of_the_event() -> None:
    one = structured(data=DATA, traceparent=PARENT, tracestate=STATE)
    assert events.trace_of(one) == (("traceparent", PARENT.encode()), ("tracestate", STATE.encode()))
    sent = replace(one, headers=(*one.headers, ("TraceParent", b"00-1-1-01")))
    assert events.trace_of(sent) == (("traceparent", b"00-1-1-01"),)


@pytest.mark.parametrize(
    "one",
    [
        structured(data=DATA),
        structured(data=DATA, traceparent=7, tracestate=None),
        structured(data=DATA, traceparent="00-\ud83d"),
        structured("application/json", data=DATA, traceparent=PARENT),
        replace(structured(traceparent=PARENT), value=None),
        replace(structured(), value=b"\xff"),
    ],
)
def test_what_is_no_trace_context_is_not_passed_on(one: Record) -> None:
    assert events.trace_of(one) == ()


def test_any_other_content_type_is_that_of_binary_mode() -> None:
    for content_type in (b"application/json", b"application/json; charset=utf-8", b"", b"\xff", None):
        assert events.parse(record(headers=(("content-type", content_type),))) == events.parse(record())


@pytest.mark.parametrize(
    "value", [b"", b"null", b"[]", b'"text"', b"\xff\xfe", b'{"photo_id": "\\ud800"}', b"[" * 9999]
)
def test_what_is_no_json_object_is_refused(value: bytes) -> None:
    assert explanation(value).startswith("field ")


#: What a parser written by somebody else may trip over, as JSON texts.
HOSTILE = [
    '"\\ud800"',
    '"\\udfff\\ud800"',
    '"\\u0000"',
    "1" * 5_000,
    "-" + "9" * 400,
    "1e999",
    "-1e999",
    "NaN",
    "-Infinity",
    "[" * 400 + "]" * 400,
    '{"a":' * 400 + "1" + "}" * 400,
    "[" * 100_000,
    '"' + "x" * 100_000 + '"',
    "true",
    '"2026-02-30T00:00:00Z"',
    '"2026-11-21T10:15:00+99:99"',
    '"-2026-11-21T10:15:00Z"',
    '"10000-01-01T00:00:00Z"',
    '"2026-11-21T10:15:60Z"',
    '"1e-5"',
    '"17-00000000000000000000"',
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:20])
@pytest.mark.parametrize(
    "field", ["photo_id", "uri", "uploaded_at", "revision", "uploader", "content_sha256", "metadata", "more"]
)
def test_no_json_value_raises_anything_but_a_refusal_that_fits_into_a_header(field: str, text: str) -> None:
    # Twice in one object: the last one counts.
    value = uploaded_json()[:-1] + f', "{field}": {text}, "{field}": {text}}}'.encode()
    try:
        event = events.parse(record(value))
    except PhotoRejected as rejected:
        assert rejected.reason == "invalid_event"  # noqa: PT017 - both ends are right
        assert len(rejected.detail) < 500  # noqa: PT017
        rejected.detail.encode()
    else:
        events.encode(event)
        events.milliseconds(event.uploaded_at)


@pytest.mark.parametrize("kind", ["x" * 600_000, "\ud7ff\U0010ffff" * 9_999, "\x1b[2J", ""])
def test_a_kind_of_any_length_is_quoted_briefly(kind: str) -> None:
    assert len(explanation(uploaded_json(), kind)) < 1_500


UNSET = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00.001+00:00",
    "1601-01-01T00:00:00Z",
    "1899-12-30T00:00:00Z",
    "1904-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "1970-01-01T01:00:00Z",
    "1970-01-21T00:30:00Z",
    "1980-01-06T00:00:00Z",
]
KINDS = {"uploaded_at": (uploaded_json, events.UPLOADED), "deleted_at": (deleted_json, events.DELETED)}


@pytest.mark.parametrize("revision", [None, 7])
@pytest.mark.parametrize("text", UNSET)
@pytest.mark.parametrize("field", KINDS)
def test_what_an_unset_time_looks_like_is_no_time_of_an_event(field: str, text: str, revision: int | None) -> None:
    make, kind = KINDS[field]
    assert f"field {field}: {text[:10]}" in (words := explanation(make(**{field: text}, revision=revision), kind))
    assert "unset" in words


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_MS = events.milliseconds(NOW)
DAY_S = events.MAX_CLOCK_AHEAD_S


def parsed_at(field: str, moment: datetime, written_ms: int, **more: float) -> events.Event:
    make, kind = KINDS[field]
    value = make(**{field: moment.isoformat()})
    return events.parse(
        Record("t", 0, 0, None, value, (("ce_type", kind.encode()),), timestamp_ms=written_ms), now_ms=NOW_MS, **more
    )


@pytest.mark.parametrize(
    ("record_ms", "base"),
    [
        pytest.param(NOW_MS, NOW, id="just now"),
        pytest.param(NOW_MS - 86_400_000 * 400, NOW - timedelta(days=400), id="long ago: a replay"),
        pytest.param(NOW_MS + 86_400_000 * 36_500, NOW, id="a producer's clock is a century ahead"),
        pytest.param(0, NOW, id="no time"),
        pytest.param(-1, NOW, id="no time, in librdkafka's words"),
        pytest.param(1, NOW, id="a number that is no time"),
        pytest.param(NOW_MS // 1_000, NOW, id="seconds for milliseconds"),
        pytest.param(NOW_MS * 1_000, NOW, id="microseconds for milliseconds"),
        pytest.param(315_964_800_000, NOW, id="a clock that was never set: 1980"),
    ],
)
@pytest.mark.parametrize("field", KINDS)
def test_an_event_is_at_most_so_much_ahead_of_its_record(field: str, record_ms: int, base: datetime) -> None:
    assert parsed_at(field, base + timedelta(seconds=DAY_S), record_ms)
    assert parsed_at(field, base - timedelta(days=3_000), record_ms)
    for ahead in (timedelta(seconds=DAY_S, milliseconds=1), timedelta(days=36_500)):
        with pytest.raises(PhotoRejected, match=rf"invalid_event: field {field}: .* 86400 are allowed"):
            parsed_at(field, base + ahead, record_ms)


@pytest.mark.parametrize("field", KINDS)
def test_the_last_day_of_the_calendar_is_refused_and_the_allowance_is_settable(field: str) -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    with pytest.raises(PhotoRejected, match="invalid_event"):
        parsed_at(field, last, NOW_MS)
    assert parsed_at(field, last, NOW_MS, max_ahead_s=float("inf"))
    assert parsed_at(field, NOW + timedelta(seconds=60), NOW_MS, max_ahead_s=60.0)
    with pytest.raises(PhotoRejected, match="60 are allowed"):
        parsed_at(field, NOW + timedelta(seconds=61), NOW_MS, max_ahead_s=60.0)


@given(
    st.binary(max_size=80) | st.recursive(st.none() | texts, st.lists).map(lambda value: json.dumps(value).encode()),
    st.sampled_from([None, "photo.uploaded", "photo.deleted", "other"]),
)
def test_no_bytes_raise_anything_but_a_refusal(value: bytes, kind: str | None) -> None:
    assert explanation(value, kind)


@given(
    st.sampled_from(["photo_id", "uri", "uploaded_at", "revision", "uploader", "content_sha256", "metadata"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10), st.lists, max_leaves=3
    ),
)
def test_no_value_of_a_field_raises_anything_but_a_refusal(field: str, value: object) -> None:
    try:
        event = events.parse(record(uploaded_json(**{field: value})))
    except PhotoRejected as rejected:
        assert rejected.detail.startswith("field ")  # noqa: PT017 - both ends are right
    else:
        assert isinstance(event, PhotoUploaded)


@st.composite
def any_tags(draw: st.DrawFn) -> Tags:
    utc = st.datetimes(datetime(1970, 1, 1), datetime(2286, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
    return tags(
        photo_id=draw(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)),
        quality=Quality(draw(units), draw(st.integers(1, 5)), draw(st.booleans())),
        brands=tuple(draw(st.lists(st.builds(Brand, texts, units), max_size=4))),
        probabilities=draw(st.dictionaries(texts, units, max_size=4)),
        models=draw(st.dictionaries(texts, texts, max_size=3)),
        source=Source(draw(texts), draw(st.integers(0, 9999)), draw(st.integers(0, 2**63 - 1))),
        tagged_at=draw(utc),
    )


@given(any_tags())
def test_tags_survive_their_json_form(decided: Tags) -> None:
    assert events.decode_tags(events.encode(decided)) == decided


@given(st.builds(PhotoUploaded, st.just("a b/ü"), st.just("https://h/x?y=1#z"), sane, st.integers(0, MAX_REVISION)))
def test_an_event_that_we_encode_is_the_event_that_we_parse(event: PhotoUploaded) -> None:
    assert events.parse(record(events.encode(event))) == event


def test_encoded_times_carry_their_zone() -> None:
    assert json.loads(events.encode(tags()))["tagged_at"] == "2026-11-21T10:15:00Z"


@pytest.mark.parametrize("payload", [b"{}", b"", b"null", b'{"photo_id": 1}'])
def test_a_payload_that_is_no_tags_is_a_value_error_that_names_a_field(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"^field \w+:"):
        events.decode_tags(payload)


def test_the_time_of_tags_is_in_utc_or_refused() -> None:
    def payload(moment: str) -> bytes:
        return json.dumps({**json.loads(events.encode(tags())), "tagged_at": moment}).encode()

    read = events.decode_tags(payload("2026-11-21T12:15:00+02:00")).tagged_at
    assert (read.tzinfo, read.hour) == (UTC, 10)
    for moment in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"):
        with pytest.raises(ValueError, match=r"^field tagged_at: the time is outside the calendar"):
            events.decode_tags(payload(moment))


@given(moments)
@example(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
@example(datetime(2009, 3, 1, 0, 0, 0, 1_000, tzinfo=UTC))
def test_milliseconds_are_exact(moment: datetime) -> None:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    exact = Fraction(since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds, 1_000)
    assert events.milliseconds(moment) == exact.__floor__()


@given(moments.filter(lambda moment: moment.year > 1000))
def test_a_formatted_time_is_the_millisecond_that_it_lies_in(moment: datetime) -> None:
    text = events.format_time(moment)
    assert len(text) == len("2026-11-21T10:15:00.123Z")
    assert events.milliseconds(datetime.fromisoformat(text)) == events.milliseconds(moment)


def test_a_formatted_time_has_four_digits_of_the_year() -> None:
    assert events.format_time(datetime(500, 1, 1, tzinfo=UTC)) == "0500-01-01T00:00:00.000Z"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"])
def test_the_first_and_the_last_day_of_the_calendar_are_refused_or_ordered_in_any_zone(text: str) -> None:
    try:
        event = events.parse(record(uploaded_json(uploaded_at=text)))
    except PhotoRejected:
        return
    assert isinstance(event, PhotoUploaded)
    events.milliseconds(event.uploaded_at)


def test_a_header_is_its_last_value_and_its_default_where_absent_or_empty() -> None:
    one = record(headers=(("a", b"1"), ("a", b"2"), ("b", None), ("c", b"\xff")))
    assert [one.header(name, "-") for name in "abcd"] == ["2", "-", "\\xff", "-"]
