"""Which photos an address asks for, and what is made of one that asks for nonsense."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from consumer.events import Brand, Quality, Source, Tags
from consumer.reader.found import cursor_of
from consumer.webserver.filters import PAGE, TIMES, Filter, filter_of

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def tags(photo_id: str, score: float, *brands: str, release: int = 1, minutes_ago: float = 0) -> Tags:
    return Tags(
        photo_id=photo_id,
        quality=Quality(score, 1 + int(score * 4 + 0.5), score >= 0.5),
        brands=tuple(Brand(brand, 0.9) for brand in brands),
        probabilities={},
        models={},
        version=f"{1:013d}.{release:06d}.{0:013d}",
        source=Source("uploads", 0, 0),
        tagged_at=NOW - timedelta(minutes=minutes_ago),
    )


PHOTOS = (
    tags("a", 0.9, "Aldera", release=2, minutes_ago=1),
    tags("b", 0.2, "Bright", minutes_ago=3),
    tags("c", 0.7, "Aldera", "Bright", minutes_ago=30),
    tags("d", 0.4, minutes_ago=600),
)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", "abcd"),
        ("brand=Aldera", "ac"),
        ("brand=Aldera&brand=Bright", "abc"),
        ("brand=aldera", ""),
        ("quality=good", "ac"),
        ("quality=poor", "bd"),
        ("level=4", "ac"),
        ("release=2", "a"),
        ("release=1&quality=good", "c"),
        ("within=5", "ab"),
        ("within=60", "abc"),
        ("order=best", "acdb"),
        ("order=worst&within=60", "bca"),
        ("page=2", ""),
    ],
)
def test_an_address_says_which_photos_are_shown_and_in_which_order(query: str, shown: str) -> None:
    wanted = filter_of(MultiDict(parse_qsl(query)))
    assert "".join(photo.photo_id for photo in wanted.turned(wanted.of(PHOTOS, NOW))) == shown


@pytest.mark.parametrize(
    "query",
    [
        *(
            "level=9",
            "level=-1",
            "level=\u0663",
            "page=0",
            "page=1e9",
            "page=99999999999",
            "within=7",
            "release=x",
            "order=",
        ),
        *(
            "q=1",
            "order=random",
            "quality=great",
            "scope=all",
            "after=",
            "after=x",
            "after=" + "A" * 9000,
            "brand=",
            f"brand={'x' * 201}",
            "level=1&level=5",
        ),
    ],
)
def test_what_makes_no_sense_counts_as_not_said(query: str) -> None:
    assert filter_of(MultiDict(parse_qsl(query, keep_blank_values=True))) == Filter()


def test_no_more_brands_are_asked_for_than_a_page_could_offer() -> None:
    assert len(filter_of(MultiDict([("brand", str(number)) for number in range(500)])).brands) == 10


def test_pages_follow_each_other_without_a_gap() -> None:
    photos = [tags(str(number), 0.5) for number in range(PAGE * 2 + 5)]
    shown = [photo for page in (1, 2, 3) for photo in Filter(page=page).turned(photos)]
    assert shown == photos


@given(
    st.builds(
        Filter,
        brands=st.lists(st.text(min_size=1, max_size=20), max_size=3, unique=True).map(tuple),
        quality=st.sampled_from(["", "good", "poor"]),
        level=st.integers(1, 5),
        release=st.integers(0, 999_999),
        within=st.sampled_from([0, *TIMES]),
        order=st.sampled_from(["newest", "best", "worst"]),
        scope=st.sampled_from(["newest", "index"]),
        page=st.integers(1, 999),
        after=st.sampled_from(["", cursor_of((0.5, "a b\u00e9")), cursor_of((1.0, "x"))]),
    )
)
def test_the_address_of_a_filter_asks_for_that_filter(wanted: Filter) -> None:
    assert filter_of(MultiDict(parse_qsl(wanted.query()))) == wanted
