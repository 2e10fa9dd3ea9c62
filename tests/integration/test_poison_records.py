"""Records that no honest sender writes: each ends in an outcome, and nobody else waits for it, on a real Kafka."""

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import pytest

from consumer import events, telemetry
from consumer.events import PhotoUploaded
from consumer.kafka.headers import RETRY_HEADERS
from consumer.operations import rebuild, replay
from consumer.operations.dead_letters import Listed, Query, list_letters
from consumer.service.construction import live_job
from consumer.service.run import Service
from tests.harness import RED, World, eventually
from tests.raw_records import send_raw

GOOD = 12
#: Not UTF-8: Latin-1, a surrogate, a lonely continuation byte; beside names that can be read.
NAMES = [b"caf\xe9", b"\xed\xa0\x80", b"\x80"]


def upload_of(world: World, photo_id: str, name: str) -> bytes:
    return events.encode(PhotoUploaded(photo_id, f"{world.photos.url}/{name}", datetime.now(UTC)))


def send_good(world: World, *, partition: int = 0) -> None:
    world.photos.answers["red"] = RED
    for number in range(GOOD):
        world.upload(f"good{number}", f"red/{number}", partition=partition)


async def settled(service: Service, **outcomes: int) -> None:
    """Waits until the records have these outcomes, and until every position is behind them."""
    await eventually(lambda: service.outcomes() == outcomes)
    await eventually(lambda: all(stream.source.in_flight == 0 for stream in service._parts.streams))  # type: ignore[union-attr]
    assert service.failure is None
    assert service.live()


async def letters_of(world: World) -> list[Listed]:
    """The dead letters, as the command lists them."""
    return (await asyncio.to_thread(list_letters, world.settings, Query())).letters


async def test_a_header_name_that_is_not_utf8_costs_that_record_alone(world: World) -> None:
    uploads, retries = world.settings.kafka.uploads_topic, world.settings.kafka.retry_topic
    values = [upload_of(world, "bad", "red/bad"), b'{"photo_id": "bad", "deleted_at": "2026-11-21T10:15:00Z"}', None]
    for topic in (uploads, retries):
        for name in NAMES:
            for value in values:
                send_raw(world.kafka, topic, b"bad", value, [(b"fine", b"1"), (name, b"1")])
    send_good(world)
    bad = 2 * len(NAMES) * len(values)
    async with world.service() as service:
        await settled(service, tagged=GOOD, dead_lettered=bad)
    assert world.committed()[0] == bad // 2 + GOOD
    letters = await letters_of(world)
    assert {(each.letter.failure.reason, each.letter.photo_id) for each in letters} == {("invalid_event", "bad")}
    assert {letter.value() for letter in world.dead()} == set(values)

    log = telemetry.configure_logging("debug", "json", world.log)
    beginning = datetime(1970, 1, 1, tzinfo=UTC)
    later = datetime.now(UTC) + timedelta(seconds=1)  # the last record may be of this very millisecond
    again = await replay.replay(world.settings, log, since=beginning, until=later, progress=lambda *_: None)
    assert (again.complete, again.outcomes) == (True, {"unchanged": GOOD, "dead_lettered": bad // 2})


async def test_unreadable_headers_in_the_other_topics_stop_no_command(world: World) -> None:
    send_good(world)
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"tagged": GOOD})
    names = world.settings.kafka
    tags_without_headers = world.tags()[0]
    for topic, key, value in [
        (names.tags_topic, tags_without_headers.key(), tags_without_headers.value()),
        (names.tags_topic, b"good0", None),
        (names.dead_topic, b"bad", b"{}"),
        (names.dead_topic, b"bad", None),
    ]:
        send_raw(world.kafka, topic, key, value, [(name, b"1") for name in NAMES])
    log = telemetry.configure_logging("debug", "json", world.log)
    rebuilt = await rebuild.rebuild(world.settings, log, lambda *_: None)
    # A deletion counts, though its headers cannot be read.
    assert (rebuilt.records, rebuilt.malformed, rebuilt.outcomes["written"]) == (GOOD + 2, 0, 1)
    assert await letters_of(world) == []


async def half_is_tagged_and_half_busy(world: World, each: int) -> None:
    """Of the records with odd headers as many are tagged as become dead letters, after a round, for a busy host."""
    async with world.service() as service:
        await settled(service, tagged=GOOD + each, deferred=each, dead_lettered=each)
    letters = await letters_of(world)
    assert [one.letter.failure.reason for one in letters] == ["http_5xx"] * each


#: Odd, and allowed: the photo is tagged.
ODD: dict[str, list[tuple[str, bytes | None]]] = {
    "no value": [("a", None), ("ce_id", None), ("traceparent", None)],
    "no name": [("", b"1"), ("", None), ("", b"")],
    "ten thousand": [(f"h{number}", b"1") for number in range(10_000)],
    "one name ten thousand times": [("traceparent", b"1")] * 10_000,
    "a type twice": [("ce_type", b"photo.deleted"), ("ce_type", b"photo.uploaded"), ("ce_type", None)],
    "a large trace": [("traceparent", b"1" * 900_000)],
    "a name of 60,000 characters": [("\U0001f4a9" * 15_000, b"1")],
}


async def test_odd_headers_cost_nothing_in_any_topic_and_are_read_again_on_every_way(world: World) -> None:
    world.photos.answers.update({"red": RED, "busy": 503})
    names = world.settings.kafka
    for topic in (names.uploads_topic, names.retry_topic):
        for number, headers in enumerate(ODD.values()):
            for answer in ("red", "busy"):
                photo_id = f"{topic}{answer}{number}"
                value = upload_of(world, photo_id, f"{answer}/{number}")
                world.producer.produce(topic, value, photo_id, partition=0, headers=headers)
    world.producer.flush(10)
    send_good(world)
    await half_is_tagged_and_half_busy(world, 2 * len(ODD))


HOSTILE: dict[str, dict[str, bytes]] = {
    "a negative round": {"round": b"-9"},
    "an attempt of 4,300 digits": {"attempt": b"9" * 4_300},
    "an attempt of 100,000 digits": {"attempt": b"9" * 100_000},
    "the year 9999": {"not_before": b"9999-12-31T23:59:59Z"},
    "beyond the calendar": {"not_before": b"9999-12-31T23:59:59-23:59"},
    "no topic": {"original_topic": b"\xff/\x1b[2J"},
    "a huge offset": {"original_offset": b"9" * 30},
}


async def test_retry_headers_that_the_service_did_not_write_hold_nothing_back(world: World) -> None:
    world.photos.answers.update({"red": RED, "busy": 503})
    honest = {
        "reason": b"http_5xx",
        "detail": b"",
        "attempt": b"1",
        "round": b"1",
        "not_before": b"2026-01-01T00:00:00Z",
        "original_topic": b"t",
        "original_partition": b"0",
        "original_offset": b"0",
    }
    kafka = world.settings.kafka
    for topic in (kafka.uploads_topic, kafka.retry_topic):
        for number, change in enumerate(HOSTILE.values()):
            headers = [(name.encode(), {**honest, **change}[name]) for name in RETRY_HEADERS]
            for answer in ("red", "busy"):
                photo_id = f"{topic}{answer}{number}"
                send_raw(
                    world.kafka, topic, photo_id.encode(), upload_of(world, photo_id, f"{answer}/{number}"), headers
                )
    send_good(world)
    await half_is_tagged_and_half_busy(world, 2 * len(HOSTILE))


async def test_null_values_are_skipped_and_hold_no_photo_back(world: World) -> None:
    world.photos.answers["red"] = RED
    uploads = world.settings.kafka.uploads_topic
    for number in range(300):
        key = None if number % 3 == 0 else f"photo{number}"
        world.producer.produce(uploads, None, key, partition=0, headers={"a": b"1"} if number % 2 else None)
    world.producer.flush(10)
    for number in range(3):
        world.upload(f"good{number}", f"red/{number}", partition=0)
    send_raw(world.kafka, uploads, b"gone", None, [(b"ce_type", b"photo.deleted")])
    send_raw(world.kafka, uploads, b"empty", b"", [])
    careful = world.settings.service.model_copy(update={"dead_letter_least": 10, "dead_letter_limit": 0.3})
    async with world.service(world.settings.model_copy(update={"service": careful})) as service:
        await settled(service, tagged=3, skipped=300, dead_lettered=2)
        assert world.events_logged("breaker.opened") == []
    assert world.committed()[0] == 305
    assert {letter.key() for letter in world.dead()} == {b"gone", b"empty"}


def full_disk() -> TextIO:
    return Path("/dev/full").open("w", encoding="utf-8")


def pipe_without_a_reader() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("output", [full_disk, pipe_without_a_reader])
async def test_a_log_that_nobody_takes_loses_lines_and_no_record(world: World, output: Any, form: Any) -> None:
    world.photos.answers["busy"] = 503
    send_good(world)
    world.send("bad", b"{}", events.UPLOADED, partition=0)
    world.send("late", upload_of(world, "late", "busy"), events.UPLOADED, partition=0)
    stream = output()
    try:
        service = Service(world.settings, telemetry.configure_logging("debug", form, stream))
        before = service.metrics.registry.get_sample_value("tagger_log_lines_lost_total") or 0.0
        async with service.working(live_job(world.settings)):
            await settled(service, tagged=GOOD, deferred=1, dead_lettered=2)
        after = service.metrics.registry.get_sample_value("tagger_log_lines_lost_total") or 0.0
        assert after - before >= GOOD + 3
    finally:
        with suppress(OSError):  # it cannot be flushed
            stream.close()
    assert world.committed()[0] == GOOD + 2
