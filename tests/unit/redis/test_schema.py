import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.events import Brand, Deletion, Quality, Source, Tags
from consumer.redis.schema import BUCKETS, brand_keys, bucket, decision_of, fields_of, index_prefix, photo_key
from tests.fakes import MOMENT, tags

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)
HOSTILE = [
    "{}",
    "}{",
    "{a}b",
    "a{b}",
    "}}",
    "p:{00}:x",
    "ß",
    "照片 1",
    "a b",
    "\u202e\u0301",
    "👩‍👩‍👧",
    "a/b/../c",
    "*?[x]",
]


def hash_tag(key: str) -> str:
    """What Redis Cluster hashes: between the first `{` and the next `}`, if that is not empty."""
    found = re.search(r"\{([^}]*)\}", key)
    return found[1] if found and found[1] else key


FIELDS = fields_of(tags())


@st.composite
def any_tags(draw: st.DrawFn) -> Tags:
    moment = draw(st.datetimes(datetime(1970, 1, 1), datetime(2286, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
    return tags(
        photo_id=draw(ids),
        quality=Quality(draw(st.floats(0, 1)), draw(st.integers(1, 5)), draw(st.booleans())),
        brands=tuple(draw(st.lists(st.builds(Brand, texts, st.floats(0, 1)), max_size=4))),
        models=draw(st.dictionaries(texts, texts, max_size=3)),
        source=Source(draw(texts), draw(st.integers(0, 9999)), draw(st.integers(0, 2**63 - 1))),
        tagged_at=moment,
    )


@given(any_tags())
def test_a_reader_gets_the_tags_that_were_written_in_seconds_and_with_the_probabilities_of_their_brands(
    written: Tags,
) -> None:
    read = decision_of(written.photo_id, fields_of(written))
    second = written.tagged_at.replace(microsecond=0)
    kept = {each.brand: each.probability for each in written.brands}
    assert read == replace(written, probabilities=kept, tagged_at=second)


@given(any_tags())
def test_the_same_tags_give_the_same_fields(written: Tags) -> None:
    reordered = replace(written, models=dict(reversed(written.models.items())))
    assert fields_of(reordered) == fields_of(written)


def test_the_fields_are_the_documented_ones() -> None:
    assert FIELDS == {
        "ver": "0000000000001.003007.0000000000000",
        "q": "0.75",
        "qc": "4",
        "qg": "1",
        "brands": '["crimson"]',
        "bs": "[0.9]",
        "m": '{"brand_logo":"7","photo_quality":"3"}',
        "t": "2026-11-21T10:15:00Z",
        "src": "photo-uploads/0/0",
    }


def test_a_topic_with_slashes_survives() -> None:
    written = tags(source=Source("a/b/1", 2, 3))
    read = decision_of("photo-1", fields_of(written))
    assert read is not None
    assert read.source == Source("a/b/1", 2, 3)


def test_no_hash_is_none_and_a_tombstone_is_its_deletion() -> None:
    deletion = Deletion("photo-1", FIELDS["ver"], Source("t", 0, 1), MOMENT)
    tombstone = fields_of(deletion)
    assert decision_of("photo-1", {}) is None
    assert decision_of("photo-1", tombstone) == deletion
    assert tombstone == {"ver": FIELDS["ver"], "del": "1", "t": "2026-11-21T10:15:00.123Z", "src": "t/0/1"}


def test_a_time_in_milliseconds_of_an_earlier_version_is_read() -> None:
    read = decision_of("photo-1", {**FIELDS, "t": "2026-11-21T10:15:00.123Z"})
    assert isinstance(read, Tags)
    assert read.tagged_at == MOMENT


@given(ids)
def test_the_bucket_is_crc32_of_the_id_modulo_64_in_two_digits(photo_id: str) -> None:
    assert bucket(photo_id) == str(zlib.crc32(photo_id.encode()) % 64).zfill(2)


def test_the_bucket_of_a_known_id_never_changes() -> None:
    # CRC-32 of "123456789" is the check value 0xCBF43926 of the standard.
    assert bucket("123456789") == f"{0xCBF43926 % 64:02d}" == "38"


@pytest.mark.parametrize("photo_id", HOSTILE)
@pytest.mark.parametrize("brand", ["crimson", *HOSTILE])
def test_a_photo_and_its_index_entries_share_the_slot_whatever_their_names_are(photo_id: str, brand: str) -> None:
    index = index_prefix(bucket(photo_id)) + brand
    assert hash_tag(photo_key(photo_id)) == hash_tag(index) == bucket(photo_id)
    assert index in brand_keys(brand)


@given(ids, ids)
def test_two_photos_never_share_a_key(one: str, other: str) -> None:
    assert (photo_key(one) == photo_key(other)) == (one == other)


def test_a_brand_is_indexed_in_64_different_sets() -> None:
    keys = brand_keys("crimson")
    assert len(set(keys)) == BUCKETS == 64
    assert (keys[0], keys[-1]) == ("b:{00}:crimson", "b:{63}:crimson")


@pytest.mark.parametrize("field", ["other", "del"])
def test_a_field_of_another_program_or_a_later_version_does_not_matter(field: str) -> None:
    assert decision_of("photo-1", {**FIELDS, field: "\udcff"}) == decision_of("photo-1", FIELDS)


@pytest.mark.parametrize("missing", FIELDS)
def test_a_hash_without_a_field_is_an_error_that_names_key_and_field(missing: str) -> None:
    foreign = {name: value for name, value in FIELDS.items() if name != missing}
    with pytest.raises(ValueError, match=rf"hash p:\{{\d\d\}}:photo-1 has no field '{missing}'"):
        decision_of("photo-1", foreign)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("ver", value) for value in ("", "0", "zzz", "1.003007.0", FIELDS["ver"] + "0", "٣" + FIELDS["ver"][1:])],
        *[("src", value) for value in ("", "t", "t/0", "t/x/0", "t/0/x", "t/-1/0", "t/0/-1", "t/0/" + "9" * 5_000)],
        *[("src", value) for value in ("\udcff/0/1", "t/0/1_0", "t/٣/0")],
        *[("brands", value) for value in ("", "crimson", "[", "[]", '["a", "b"]', '[["crimson"]]', "[" * 100_000)],
        *[("brands", value) for value in ('"c"', '["\\ud800"]', '["\udcff"]')],
        *[("bs", value) for value in ("", "[]", "[0.9, 0.1]", '["high"]', "[NaN]", "[1e999]", "[-0.1]", "[1.1]")],
        *[("q", value) for value in ("", "high", "nan", "-inf", "1.5", "-1")],
        *[("qc", value) for value in ("", "4.5", "0", "6", "9" * 5_000)],
        *[("m", value) for value in ("{", "[" * 100_000, "[]", "5", '{"photo_quality":1}', '{"\\udfff":"1"}')],
        *[("t", value) for value in ("", "yesterday", "2026-11-21T10:15:00", "0001-01-01T00:00:00+14:00")],
        *[("t", value) for value in ("9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z", "-1")],
    ],
)
def test_a_malformed_field_is_a_value_error(field: str, value: str) -> None:
    with pytest.raises(ValueError):
        decision_of("photo-1", {**FIELDS, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("brands", "5"), ("brands", "null"), ("bs", "5"), ("bs", "[null]"), ("bs", "{}"), ("m", "null")],
)
def test_a_field_of_another_json_type_is_a_value_error(field: str, value: str) -> None:
    with pytest.raises(ValueError):
        decision_of("photo-1", {**FIELDS, field: value})
