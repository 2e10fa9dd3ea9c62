"""The done-map in the commit metadata: exact, small, and never trusted where it is damaged."""

from hypothesis import given
from hypothesis import strategies as st

from consumer.kafka import offset_map

positions = st.integers(0, 2**62)


@given(position=positions, places=st.sets(st.integers(1, offset_map.CAPACITY - 1), max_size=300))
def test_what_is_encoded_is_decoded(position: int, places: set[int]) -> None:
    done = {position + place for place in places}
    text = offset_map.encode(position, done)
    assert offset_map.decode(position, text) == done
    assert len(text) < 4_096
    assert text.isascii()


@given(position=positions, places=st.sets(st.integers(-50, 0) | st.integers(offset_map.CAPACITY, 2**40), min_size=1))
def test_offsets_that_do_not_fit_are_left_out(position: int, places: set[int]) -> None:
    assert offset_map.encode(position, {position + place for place in places}) == ""


@given(position=positions, text=st.text() | st.text(st.characters(codec="ascii")).map(lambda text: "1:" + text))
def test_foreign_text_is_an_empty_map(position: int, text: str) -> None:
    assert offset_map.decode(position, text) == frozenset()


@given(
    position=positions,
    places=st.sets(st.integers(1, 500), min_size=1),
    at=st.integers(0),
    other=st.characters(codec="ascii"),
)
def test_a_damaged_map_is_an_empty_map_or_the_same(position: int, places: set[int], at: int, other: str) -> None:
    done = {position + place for place in places}
    text = offset_map.encode(position, done)
    at %= len(text)
    assert offset_map.decode(position, text[:at] + other + text[at + 1 :]) in (frozenset(), done)


@given(position=positions, away=st.integers(1, 1_000), places=st.sets(st.integers(1, 500), min_size=1))
def test_a_map_of_another_position_is_an_empty_map(position: int, away: int, places: set[int]) -> None:
    text = offset_map.encode(position, {position + place for place in places})
    assert offset_map.decode(position + away, text) == frozenset()


def test_no_metadata_is_an_empty_map() -> None:
    assert offset_map.decode(5, None) == offset_map.decode(5, "") == frozenset()
