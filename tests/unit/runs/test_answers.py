"""Answers survive their topic, and what another program writes there is refused by its field."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.events import MAX_REVISION
from consumer.runs.answers import Answer, decode, encode
from consumer.tags import Brand, Quality, Source, Tags

MOMENT = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
SOURCE = Source("photo-uploads", 2, 41)
TAGS = Tags(
    "p",
    Quality(0.5, 3, True),
    (Brand("Aldera", 0.9),),
    {"Aldera": 0.9, "no_logo": 0.1},
    {"photo_quality": "2"},
    "0000000000007.000000.0000000000000",
    SOURCE,
    MOMENT,
)
JUDGED = Answer("p", "https://h/p", MOMENT, 7, SOURCE, None, TAGS, None, "", "jpeg", 12.5)
UNREADABLE = Answer("?", None, None, 0, SOURCE, None, None, "invalid_event", "field uri: missing", None, 0.0)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
units = st.floats(0, 1)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
#: Hypothesis adds the zone.
moments = st.datetimes(datetime(1990, 1, 2), datetime(9999, 12, 30), timezones=zones)  # noqa: DTZ001
sources = st.builds(Source, texts, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
qualities = st.builds(Quality, units, st.integers(1, 5), st.booleans())
brands = st.lists(st.builds(Brand, texts, units), max_size=3).map(tuple)


@st.composite
def tags_of(draw: Any, photo_id: str) -> Tags:
    probabilities = draw(st.dictionaries(texts, units, max_size=3))
    version = draw(st.from_regex(r"[0-9]{13}\.[0-9]{6}\.[0-9]{13}", fullmatch=True, alphabet="0123456789."))
    models = draw(st.dictionaries(texts, texts, max_size=2))
    return Tags(photo_id, draw(qualities), draw(brands), probabilities, models, version, draw(sources), draw(moments))


@st.composite
def answers(draw: Any) -> Answer:
    photo_id, judged = draw(ids), draw(st.booleans())
    return Answer(
        photo_id=photo_id,
        uri=draw(st.none() | texts),
        uploaded_at=draw(st.none() | moments),
        content_rev=draw(st.integers(0, MAX_REVISION)),
        source=draw(sources),
        before=draw(st.none() | tags_of(photo_id)),
        after=draw(tags_of(photo_id)) if judged else None,
        reason=None if judged else draw(texts),
        detail=draw(texts),
        format=draw(st.none() | texts),
        took_ms=draw(st.floats(0, 1e9)),
    )


@given(answers())
def test_an_answer_comes_back_as_it_was(answer: Answer) -> None:
    assert decode(encode(answer)) == answer


def test_a_name_that_is_not_utf_8_is_quoted() -> None:
    answer = decode(encode(replace(UNREADABLE, photo_id="k\udcff", detail="no file caf\udce9.jpg")))
    assert (answer.photo_id, answer.detail) == (r"k\udcff", r"no file caf\udce9.jpg")


@pytest.mark.parametrize("answer", [JUDGED, UNREADABLE])
def test_an_answer_has_either_tags_or_a_reason(answer: Answer) -> None:
    with pytest.raises(ValueError, match="either after or reason"):
        replace(answer, after=TAGS, reason="http_4xx")
    with pytest.raises(ValueError, match="either after or reason"):
        replace(answer, after=None, reason=None)


def changed(path: str, value: Any) -> bytes:
    payload = json.loads(encode(replace(JUDGED, before=TAGS)))
    *outer, name = path.split(".")
    inside = payload
    for part in outer:
        inside = inside[int(part)] if isinstance(inside, list) else inside[part]
    inside[name] = value
    return json.dumps(payload).encode()


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("photo_id", None, "photo_id"),
        ("photo_id", "q", "before.photo_id"),
        ("uri", 7, "uri"),
        ("uploaded_at", 1_700_000_000, "uploaded_at"),
        ("uploaded_at", "2026-11-21T10:15:00", "uploaded_at"),
        ("content_rev", -1, "content_rev"),
        ("content_rev", MAX_REVISION + 1, "content_rev"),
        ("content_rev", "7", "content_rev"),
        ("source", None, "source"),
        ("reason", "http_4xx", "value"),
        ("detail", None, "detail"),
        ("took_ms", -1, "took_ms"),
        ("took_ms", float("nan"), "took_ms"),
        ("before.photo_id", "q", "before.photo_id"),
        ("after.photo_id", "q", "after.photo_id"),
        ("after.quality.score", 1.01, "after.quality.score"),
        ("after.quality.score", float("nan"), "after.quality.score"),
        ("before.quality.level", 0, "before.quality.level"),
        ("after.quality.level", 6, "after.quality.level"),
        ("after.brands", [{"brand": "Aldera", "probability": 2}], "after.brands.0.probability"),
        ("after.probabilities", {"Aldera": -0.1}, "after.probabilities.Aldera"),
        ("after.version", "7.0.0", "after.version"),
        ("after.tagged_at", "2026-11-21T10:15:00", "after.tagged_at"),
    ],
)
def test_what_is_no_answer_is_refused_by_its_field(path: str, value: object, field: str) -> None:
    with pytest.raises(ValueError, match=rf"^field {field}: "):
        decode(changed(path, value))


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"\xff", b'{"photo_id": "\\ud800"}'])
def test_other_bytes_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"^field "):
        decode(value)


def test_unknown_fields_are_ignored() -> None:
    assert decode(changed("added_later", 1)) == replace(JUDGED, before=TAGS)
