"""Searches on a Redis that is a dictionary: whatever the indexes hold, the pages together are the right answer."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.events import Brand, Quality, Tags
from consumer.reader import Page
from consumer.reader.found import Query, cursor_of, place_of
from consumer.reader.reading import Reading, T, find
from consumer.redis.schema import bucket, fields_of, index_prefix, photo_key, quality_key
from consumer.tags import level_of
from tests.fakes import MOMENT, tags

NAMES = ("puma", "shell", "adidas")


class Memory:
    """Answers the commands of a search."""

    def __init__(self, photos: Sequence[Tags]) -> None:
        self.hashes = {photo_key(each.photo_id): fields_of(each) for each in photos}
        self.indexes: dict[str, dict[str, float]] = {}
        self.round_trips = 0
        for each in photos:
            for brand in each.brands:
                self.add(index_prefix(bucket(each.photo_id)) + brand.brand, each)
            if each.quality.good:
                self.add(quality_key(bucket(each.photo_id)), each)

    def add(self, key: str, photo: Tags) -> None:
        self.indexes.setdefault(key, {})[photo.photo_id] = photo.quality.score

    def carry_out(self, reading: Reading[T]) -> T:
        try:
            commands = next(reading)
            while True:
                self.round_trips += 1
                commands = reading.send([self.reply(*command) for command in commands])
        except StopIteration as end:
            value: T = end.value
            return value

    def reply(self, name: Any, key: Any, *arguments: Any) -> list[Any]:
        if name == "HMGET":
            return [self.hashes.get(key, {}).get(field) for field in arguments]
        assert name == "ZREVRANGEBYSCORE"
        high, low, *_, offset, count = arguments
        ranked = sorted(((score, each) for each, score in self.indexes.get(key, {}).items()), reverse=True)
        below = str(high).startswith("(")
        top = float("inf") if high == "+inf" else float(str(high).lstrip("("))
        fitting = [[each, score] for score, each in ranked if low <= score and (score < top if below else score <= top)]
        return fitting[offset : offset + count]


def photo(number: int, score: float, names: Sequence[str], good: bool, hours: int) -> Tags:
    return tags(
        photo_id=f"photo-{number}",
        quality=Quality(score, level_of(score), good),
        brands=tuple(Brand(name, 0.9) for name in names),
        tagged_at=MOMENT + timedelta(hours=hours),
    )


photos = st.lists(
    # Few scores, so that many photos have the same one.
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.125, 0.3, 0.374999, 0.375, 0.625, 0.8, 0.874999, 0.875, 1.0]),
        st.lists(st.sampled_from(NAMES), unique=True, max_size=3),
        st.booleans(),
        st.integers(0, 3),
    ),
    max_size=80,
)
queries = st.fixed_dictionaries(
    {
        "brands": st.one_of(st.none(), st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), min_size=1)),
        "min_quality": st.sampled_from([0.0, 0.3, 0.7]),
        "level": st.one_of(st.none(), st.integers(1, 5)),
        "since": st.one_of(st.none(), st.integers(0, 4).map(lambda hours: MOMENT + timedelta(hours=hours))),
        "limit": st.integers(1, 30),
    }
)


def asked(query: dict[str, Any], cursor: str | None = None) -> Query:
    options = dict(query)
    return Query.of(options.pop("brands"), options.pop("min_quality"), cursor=cursor, **options)


def fits(each: Tags, query: dict[str, Any]) -> bool:
    wanted = {query["brands"]} if isinstance(query["brands"], str) else set(query["brands"] or ())
    listed = wanted & {brand.brand for brand in each.brands} if wanted else each.quality.good
    return (
        bool(listed)
        and each.quality.score >= query["min_quality"]
        and query["level"] in {None, each.quality.level}
        and (query["since"] is None or each.tagged_at >= query["since"])
    )


def pages(memory: Memory, query: dict[str, Any]) -> list[Page]:
    found, cursor = list[Page](), None
    while not found or cursor is not None:
        found.append(memory.carry_out(find(asked(query, cursor), str)))
        cursor = found[-1].cursor
    return found


@given(photos, queries)
def test_the_pages_together_are_all_that_fits_best_first(rows: list[Any], query: dict[str, Any]) -> None:
    held = [photo(number, *row) for number, row in enumerate(rows)]
    right = sorted((each for each in held if fits(each, query)), key=lambda each: (each.quality.score, each.photo_id))
    found = pages(Memory(held), query)
    assert [each.photo_id for page in found for each in page] == [each.photo_id for each in reversed(right)]
    assert all(len(page) <= query["limit"] for page in found)
    assert all(len(page) == query["limit"] for page in found[:-1])


def test_what_is_written_between_pages_moves_no_other_photo() -> None:
    held = [photo(number, round(0.3 + number / 1000, 6), ("puma",), True, 0) for number in range(100)]
    memory, query = Memory(held), {"brands": None, "min_quality": 0.0, "level": None, "since": None, "limit": 10}
    seen, cursor = list[str](), None
    for number in range(100, 130):
        page = memory.carry_out(find(asked(query, cursor), str))
        seen += [each.photo_id for each in page]
        cursor = page.cursor
        if cursor is None:
            break
        better = photo(number, 0.9, (), True, 0)
        memory.hashes[photo_key(better.photo_id)] = fields_of(better)
        memory.add(quality_key(bucket(better.photo_id)), better)
        gone = held[number - 100]
        memory.hashes.pop(photo_key(gone.photo_id))
    assert len(seen) == len(set(seen))
    assert {each.photo_id for each in held[30:]} <= set(seen)


def test_a_page_of_the_best_takes_few_round_trips_whatever_share_one_bucket_has() -> None:
    same = [each for each in range(20_000) if bucket(f"photo-{each}") == "07"][:200]
    memory = Memory([photo(number, 0.9, ("puma",), True, 0) for number in same])
    page = memory.carry_out(find(Query.of("puma", 0.0, level=None, since=None, limit=100, cursor=None), str))
    assert len(page) == 100
    assert memory.round_trips <= 6


def test_a_search_for_what_hardly_any_photo_has_ends_with_a_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.reader.reading._MOST_LOOKED_AT", 1_000)
    memory = Memory([photo(number, 0.9, (), True, 0) for number in range(1_100)])
    late = MOMENT + timedelta(days=1)
    page = memory.carry_out(find(Query.of(None, 0.0, level=None, since=late, limit=5, cursor=None), str))
    assert page == []
    assert page.cursor is not None
    again = memory.carry_out(find(Query.of(None, 0.0, level=None, since=late, limit=5, cursor=page.cursor), str))
    assert (again, again.cursor) == ([], None)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"limit": 0}, "limit"),
        ({"level": 6}, "level 6"),
        ({"level": 0}, "level 0"),
        ({"brands": []}, "brands is empty"),
        ({"since": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is the point
        ({"cursor": "x"}, "no cursor"),
        ({"cursor": "\u00fc"}, "no cursor"),
        ({"cursor": ""}, "no cursor"),
        ({"cursor": cursor_of((1.5, "photo"))}, "no cursor"),
        ({"cursor": cursor_of((0.5, ""))}, "no cursor"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused(options: dict[str, Any], why: str) -> None:
    given_options = {"brands": None, "level": None, "since": None, "limit": 1, "cursor": None, **options}
    with pytest.raises(ValueError, match=why):
        Query.of(given_options.pop("brands"), 0.0, **given_options)


@given(st.floats(0, 1), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_cursor_is_the_place_that_it_was_made_of(quality: float, photo_id: str) -> None:
    assert place_of(cursor_of((quality, photo_id))) == (quality, photo_id)


def test_a_brand_that_no_text_can_name_shows_no_photo() -> None:
    memory = Memory([photo(1, 0.5, ("puma",), True, 0)])
    query = Query.of("\udcff", 0.0, level=None, since=None, limit=1, cursor=None)
    assert memory.carry_out(find(query, str)) == []


def test_an_entry_whose_photo_says_otherwise_is_left_out() -> None:
    held = [photo(number, 0.5, ("puma",), True, 0) for number in range(4)]
    memory = Memory(held)
    changed = replace(held[0], quality=Quality(0.5, 3, good=False))
    memory.hashes[photo_key("photo-0")] = fields_of(changed)
    memory.hashes[photo_key("photo-1")]["del"] = "1"
    memory.hashes[photo_key("photo-2")]["brands"] = "{}"
    query = Query.of(None, 0.0, level=None, since=MOMENT.astimezone(UTC), limit=9, cursor=None)
    assert [each.photo_id for each in memory.carry_out(find(query, str))] == ["photo-3"]


ANY = {"brands": "puma", "min_quality": 0.0, "level": None, "since": None, "limit": 1}


@pytest.mark.parametrize("level", ["0", "-1", "6", "9" * 30, "\u0663", "x"])
def test_a_hash_without_a_proper_level_is_not_found(level: str) -> None:
    memory = Memory([photo(1, 0.9, ("puma",), True, 0), photo(2, 0.8, ("puma",), True, 0)])
    memory.hashes[photo_key("photo-1")]["qc"] = level
    for names in ("puma", None):
        found = [each.photo_id for page in pages(memory, {**ANY, "brands": names}) for each in page]
        assert found == ["photo-2"]


@pytest.mark.parametrize("score", [1.5, 1e308, float("inf")])
def test_an_entry_whose_score_is_no_quality_does_not_end_the_pages(
    score: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.reader.reading._MOST_LOOKED_AT", 1)
    memory = Memory([photo(number, 0.5, ("puma",), True, 0) for number in range(3)])
    memory.indexes[index_prefix(bucket("photo-1")) + "puma"]["photo-1"] = score
    assert [each.photo_id for page in pages(memory, ANY) for each in page] == ["photo-2", "photo-0"]
