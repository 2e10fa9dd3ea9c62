"""The newest results: one of each photo, no more than asked for, counted once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from consumer import events
from consumer.events import Quality, Record, Source, Tags, milliseconds
from consumer.webserver.newest import MINUTES, Newest

NOW = datetime(2026, 11, 29, 12, 0, 30, tzinfo=UTC)


def record(photo_id: str, offset: int, *, seconds_ago: float = 0, release: int = 1, partition: int = 0) -> Record:
    at = NOW - timedelta(seconds=seconds_ago)
    version = f"{1:013d}.{release:06d}.{0:013d}"
    tags = Tags(photo_id, Quality(0.5, 3, good=True), (), {"no_logo": 1.0}, {}, version, Source("u", 0, offset), at)
    key = photo_id.encode()
    return Record("tags", partition, offset, key, events.encode(tags), timestamp_ms=milliseconds(at))


def ids(newest: Newest) -> list[str]:
    return [result.tags.photo_id for result in newest.results()]


def test_the_newest_come_first_whatever_partition_they_are_in() -> None:
    newest = Newest(10)
    newest.add(
        [record("a", 0, seconds_ago=9), record("c", 1, seconds_ago=1), record("b", 0, seconds_ago=5, partition=1)]
    )
    assert ids(newest) == ["c", "b", "a"]
    assert newest.results()[0].place == Source("tags", 0, 1)
    assert newest.results()[0].tags.probabilities == {}


def test_of_each_photo_the_result_in_force_is_kept() -> None:
    newest = Newest(10)
    newest.add([record("a", 0, release=2), record("a", 1, release=3, seconds_ago=1), record("a", 2, release=1)])
    (found,) = newest.results()
    assert found.tags.version == "0000000000001.000003.0000000000000"
    newest.add([Record("tags", 0, 3, b"a", None)])
    assert newest.get("a") is None
    assert ids(newest) == []


def test_no_more_are_kept_than_asked_for() -> None:
    newest = Newest(10)
    newest.add(record(str(number), number, seconds_ago=1000 - number) for number in range(500))
    assert ids(newest) == [str(number) for number in range(499, 489, -1)]
    newest.add([record("old", 500, seconds_ago=5000)])
    assert "old" not in ids(newest)


def test_what_is_no_result_is_passed_over() -> None:
    newest = Newest(10)
    good = record("a", 0)
    newest.add([replace(good, value=b"{"), replace(good, value=b"\xff"), replace(good, key=None, value=None), good])
    assert ids(newest) == ["a"]


def test_results_are_counted_by_minute_and_once_though_they_are_read_again() -> None:
    newest = Newest(3, NOW.timestamp)
    records = [record(str(number), number, seconds_ago=60 * (70 - number)) for number in range(1, 71)]
    for _ in range(2):
        newest.add(records)
    counts = newest.by_minute()
    assert len(counts) == MINUTES
    assert counts == [1] * MINUTES
    newest.clear()
    assert sum(newest.by_minute()) == 0
    assert ids(newest) == []


def test_a_record_from_the_future_hides_no_minute() -> None:
    newest = Newest(10, NOW.timestamp)
    ahead = [record("far", 1, seconds_ago=-7_960 * 365 * 86_400), record("hour", 2, seconds_ago=-3_600)]
    newest.add([record("a", 0), *ahead])
    newest.add([record("b", 3, seconds_ago=60)])
    assert newest.by_minute()[-2:] == [1, 1]
    assert len(newest._minutes) <= 2 * MINUTES + 1
