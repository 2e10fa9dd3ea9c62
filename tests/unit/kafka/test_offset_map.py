"""The commit metadata: exact, small, and never trusted where it is damaged."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.kafka import offset_map

WRITTEN = "2:IIIIIIIIIIIIIIIIIIIIII:XVH0BAo="
positions = st.integers(0, 2**62)
#: 16 bytes in base64 without its padding, as Kafka writes the id of a topic; or none.
ids = st.just("") | st.binary(min_size=16, max_size=16).map(lambda raw: base64.b64encode(raw).decode()[:22])


@given(position=positions, places=st.sets(st.integers(1, offset_map.CAPACITY - 1), max_size=300), topic_id=ids)
def test_what_is_encoded_is_decoded(position: int, places: set[int], topic_id: str) -> None:
    done = {position + place for place in places}
    text = offset_map.encode(position, done, topic_id)
    assert offset_map.decode(position, text) == done
    assert offset_map.topic_of(position, text) == topic_id
    assert len(text) < 4_096
    assert text.isascii()


@given(position=positions, places=st.sets(st.integers(-50, 0) | st.integers(offset_map.CAPACITY, 2**40), min_size=1))
def test_offsets_that_do_not_fit_are_left_out(position: int, places: set[int]) -> None:
    assert offset_map.encode(position, {position + place for place in places}) == ""


@given(
    position=positions,
    text=st.text() | st.builds("{}{}".format, st.sampled_from(["1:", "2:", "2::", "2:id:", "3:"]), st.text()),
)
def test_foreign_text_is_an_empty_map_of_no_topic(position: int, text: str) -> None:
    assert offset_map.decode(position, text) == frozenset()
    assert offset_map.topic_of(position, text) == ""


@given(
    position=positions,
    places=st.sets(st.integers(1, 500), min_size=1),
    at=st.integers(0),
    other=st.characters(codec="ascii"),
    topic_id=ids,
)
def test_a_damaged_map_is_an_empty_map_or_the_same(
    position: int, places: set[int], at: int, other: str, topic_id: str
) -> None:
    done = {position + place for place in places}
    text = offset_map.encode(position, done, topic_id)
    at %= len(text)
    damaged = text[:at] + other + text[at + 1 :]
    read = offset_map.topic_of(position, damaged), offset_map.decode(position, damaged)
    assert read in (("", frozenset()), (topic_id, done))


@given(position=positions, away=st.integers(1, 1_000), places=st.sets(st.integers(1, 500), min_size=1))
def test_a_map_of_another_position_is_an_empty_map(position: int, away: int, places: set[int]) -> None:
    text = offset_map.encode(position, {position + place for place in places})
    assert offset_map.decode(position + away, text) == frozenset()


def test_no_metadata_is_an_empty_map() -> None:
    assert offset_map.decode(5, None) == offset_map.decode(5, "") == frozenset()


def test_the_map_of_an_earlier_release_is_read() -> None:
    assert offset_map.decode(5, "1:e6sJ9Qo=") == {6, 8}


def test_what_is_written_is_what_the_members_of_other_releases_read() -> None:
    assert offset_map.encode(5, {6, 8}, "I" * 22) == WRITTEN
    assert (offset_map.decode(5, WRITTEN), offset_map.topic_of(5, WRITTEN)) == ({6, 8}, "I" * 22)


@pytest.mark.parametrize("more", [0, 1])
def test_a_map_with_more_places_than_a_window_has_is_not_believed(more: int) -> None:
    bits = bytes(offset_map.CAPACITY // 8 - 1 + more) + b"\x80"
    checksum = zlib.crc32((5).to_bytes(8, "big") + bits).to_bytes(4, "big")
    text = "1:" + base64.b64encode(checksum + bits).decode()
    assert offset_map.decode(5, text) == (frozenset() if more else {5 + offset_map.CAPACITY - 1})
