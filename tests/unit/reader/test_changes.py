import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import events
from consumer.reader import Deleted
from consumer.reader.changes import Position, change_of
from tests.fakes import MOMENT, tags

TAGS = tags()
VALUE = events.encode(TAGS)


def test_tags_are_read_as_the_service_reads_them() -> None:
    assert change_of(b"photo-1", VALUE, (), 0) == TAGS == events.decode_tags(VALUE)


@pytest.mark.parametrize("number", [0, 7, 0x7B22, 0xFFFFFFFF])
def test_the_number_of_a_schema_before_tags_is_skipped(number: int) -> None:
    value = b"\0" + number.to_bytes(4) + VALUE
    assert change_of(b"photo-1", value, (), 0) == TAGS == events.decode_tags(value)


def test_unknown_fields_are_ignored() -> None:
    assert change_of(b"photo-1", json.dumps({**json.loads(VALUE), "more": 1}).encode(), (), 0) == TAGS


def test_a_null_is_a_deletion_with_what_its_headers_say() -> None:
    headers = [("version", TAGS.version.encode()), ("deleted_at", b"2026-11-21T10:15:00.123Z"), ("other", None)]
    assert change_of(b"p", None, headers, 5) == Deleted("p", TAGS.version, MOMENT)


@pytest.mark.parametrize("headers", [[], [("version", b"\xff"), ("deleted_at", b"\xff")], [("version", None)]])
def test_a_null_of_another_program_is_a_deletion_at_its_own_time(headers: list[tuple[str, bytes | None]]) -> None:
    assert change_of(b"p", None, headers, 1_000) == Deleted("p", None, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert change_of(b"p", None, headers, 10**18) == Deleted("p", None, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert change_of(b"p", None, headers, -1).deleted_at.year == 1970  # type: ignore[union-attr]


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(VALUE), **fields}).encode()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (None, VALUE, "no key"),
        (b"", None, "no key"),
        (b"\xff", VALUE, "utf-8"),
        (b"other", VALUE, "is not the photo id"),
        (b"photo-1", b"", "Expecting value"),
        (b"photo-1", b"\xff", "utf-8"),
        (b"photo-1", b"[" * 100_000, ""),
        (b"photo-1", b"[]", "is not a dict"),
        (b"photo-1", b"{}", "no field 'quality'"),
        (b"photo-1", changed(version="7"), "cannot be compared"),
        (b"photo-1", changed(quality={"score": 2, "level": 1, "good": True}), "not a number from 0 to 1"),
        (b"photo-1", changed(quality={"score": 0.5, "level": 9, "good": True}), "level 9"),
        (b"photo-1", changed(quality={"score": "0.5", "level": 3, "good": True}), "not a number"),
        (b"photo-1", changed(brands=[1]), ""),
        (b"photo-1", changed(tagged_at="yesterday"), "yesterday"),
        (b"photo-1", changed(source={"topic": "t", "partition": 0}), "no field 'offset'"),
    ],
)
def test_what_cannot_be_read_has_a_reason(key: bytes | None, value: bytes | None, why: str) -> None:
    with pytest.raises(ValueError) as refused:
        change_of(key, value, (), 0)
    assert why in str(refused.value)


@given(st.binary(max_size=60), st.binary(max_size=60) | st.none())
def test_whatever_a_record_holds_it_is_a_change_or_has_a_reason(key: bytes, value: bytes | None) -> None:
    with suppress(ValueError):
        assert change_of(key, value, (), 0)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.dictionaries(st.integers(0, 999), st.integers(0, 2**62)))
def test_a_position_is_what_its_text_says(topic_id: str, offsets: dict[int, int]) -> None:
    assert Position.of(str(Position(topic_id, offsets))) == Position(topic_id, offsets)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "[]", "{}", '{"topic_id": 1, "offsets": {}}', '{"topic_id": "", "offsets": {"0": -1}}'),
        *('{"topic_id": "", "offsets": {"x": 1}}', '{"topic_id": "", "offsets": {"0": "1"}}'),
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no position"):
        Position.of(text)
