from dataclasses import replace
from datetime import timedelta

import pytest

from consumer import order_watch
from consumer.events import Deletion, Record, Source, Tags, parse
from consumer.order_watch import OrderWatch
from consumer.telemetry import Metrics
from tests.fakes import MOMENT, RecordingLog, deleted_json, record, tags, uploaded_json

NUMBERED, TIMED = "0000000000004.003007.0000000000000", "1795258842291.003007.0000000000000"


class Watched:
    """A watch, and what it noted."""

    def __init__(self) -> None:
        self.log, self.metrics = RecordingLog(), Metrics()
        self.watch = OrderWatch(self.log, self.metrics)

    def read(self, one: Record) -> None:
        self.watch.read(one, parse(one))

    def upload(self, uri: str = "https://h/a.jpg", at: float = 0.0, **more: object) -> None:
        moment = (MOMENT + timedelta(seconds=at)).isoformat()
        self.read(record(uploaded_json(uri=uri, uploaded_at=moment, **more)))

    @property
    def counts(self) -> dict[str, int]:
        samples = next(iter(self.metrics.disordered.collect())).samples
        return {one.labels["reason"]: int(one.value) for one in samples if one.name.endswith("_total")}

    @property
    def logged(self) -> list[object]:
        return [line["reason"] for line in self.log.named("event.disordered")]


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "no_key"),
        (b"", "other_key"),
        (b"user-7", "other_key"),
        (b'"photo-1"', "other_key"),
        (b"\xff", "other_key"),
    ],
)
def test_a_key_that_is_not_the_photo_id_is_counted_and_named(key: bytes | None, reason: str, watched: Watched) -> None:
    watched.read(replace(record(offset=7), key=key))
    assert watched.counts == {reason: 1}
    (line,) = watched.log.named("event.disordered")
    assert (line["photo_id"], line["topic"], line["partition"], line["offset"]) == ("photo-1", "photo-uploads", 0, 7)


def test_the_photo_id_in_utf_8_is_the_key(watched: Watched) -> None:
    watched.read(replace(record(uploaded_json(photo_id="café")), key="café".encode()))
    watched.read(record(deleted_json(), kind="photo.deleted"))
    assert watched.counts == {}


def test_a_reason_is_logged_once_a_minute_and_counted_each_time(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(order_watch, "monotonic", lambda: now_s)
    for _ in range(100):
        watched.read(replace(record(), key=None))
        watched.read(replace(record(), key=b"x"))
    assert watched.counts == {"no_key": 100, "other_key": 100}
    assert watched.logged == ["no_key", "other_key"]
    now_s += 61.0
    watched.read(replace(record(), key=None))
    assert watched.logged == ["no_key", "other_key", "no_key"]


def test_another_uri_at_the_same_time_or_revision_is_noted(watched: Watched) -> None:
    watched.upload()
    watched.upload("https://h/a.jpg?signature=2")
    watched.upload("https://h/a.jpg", at=1)
    watched.upload("https://h/b.jpg", at=2)
    assert watched.counts == {}
    watched.upload("https://h/c.jpg", at=2)
    assert watched.counts == {"same_version": 1}
    assert "uploaded_at" in str(watched.log.named("event.disordered"))
    watched.upload("https://h/d.jpg", at=3, revision=4)
    watched.upload("https://h/e.jpg", at=4, revision=4)
    assert watched.counts == {"same_version": 2}


def test_the_last_photos_are_remembered(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_watch, "_REMEMBERED", 2)
    for photo_id in ("a", "b", "a", "c"):
        one = record(uploaded_json(photo_id=photo_id))
        watched.read(replace(one, key=photo_id.encode()))
    assert list(watched.watch._uploads) == ["a", "c"]


@pytest.mark.parametrize(
    ("ours", "in_force", "noted"),
    [
        (tags(version=NUMBERED), tags(version=TIMED), True),
        (tags(version=NUMBERED), Deletion("photo-1", TIMED, Source("t", 0, 0), MOMENT), True),
        (Deletion("photo-1", NUMBERED, Source("t", 0, 0), MOMENT), tags(version=TIMED), True),
        (tags(version=NUMBERED), tags(version=NUMBERED.replace("4", "5")), False),
        (tags(version=TIMED), tags(version=TIMED.replace("1795", "1796")), False),
        (tags(version=NUMBERED), None, False),
    ],
)
def test_a_revision_below_a_time_has_no_effect_and_is_noted(
    ours: Tags | Deletion, in_force: Tags | Deletion | None, noted: bool, watched: Watched
) -> None:
    watched.watch.superseded(record(), ours, in_force)
    assert watched.counts == ({"revision_and_time": 1} if noted else {})
    if noted:
        (line,) = watched.log.named("event.disordered")
        assert "revision 4 is below 1795258842291" in str(line["detail"])
