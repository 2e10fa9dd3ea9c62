"""Every record ends in an outcome, whatever it contains and whatever fails, or says loudly that it does not."""

import asyncio
import errno
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.errors import RecordRefused, Retryable
from consumer.events import Record
from consumer.kafka.headers import LONGEST_WAIT, retry_headers
from consumer.resilience import RetrySchedule
from consumer.shortage import is_shortage
from tests.fakes import Fault, World, deleted_json, no_fault, record, uploaded_json
from tests.harness import eventually
from tests.unit.test_pipeline import Bench, failing, no_waiting_between_attempts

pytestmark = pytest.mark.usefixtures(no_waiting_between_attempts.__name__)

UNREADABLE = replace(record(), unreadable="made up")
NO_VALUE = Record("photo-uploads", 0, 3, None, None)


@pytest.mark.parametrize(
    "one",
    [
        NO_VALUE,
        replace(NO_VALUE, key=b""),
        replace(NO_VALUE, key=b"photo-1"),
        replace(NO_VALUE, key=b"\xff", headers=(("ce_type", b"photo.uploaded"),)),
        replace(NO_VALUE, headers=(("ce_type", None), ("ce_type", b"com.other"))),
    ],
)
async def test_a_record_without_a_value_is_a_counted_skip(one: Record) -> None:
    bench = Bench()
    await bench.handle(one)
    assert bench.world.effects == ["done"]
    assert bench.outcomes() == {"skipped": 1}
    await bench.handle(record(), record(b"{}"))
    (line,) = bench.log.named("record.skipped")
    assert line["offset"] == 3


async def test_what_became_a_dead_letter_says_why_to_whoever_counts_it() -> None:
    bench = Bench()
    bad, good = bench.world.delivery(record(b"{}")), bench.world.delivery(record())
    for delivery in (bad, good):
        await bench.pipeline.handle(delivery)
    assert (bad.wait.rejected, good.wait.rejected) == ("invalid_event", None)


@pytest.mark.parametrize(
    "one",
    [
        replace(NO_VALUE, value=b""),
        replace(NO_VALUE, value=b"null"),
        replace(NO_VALUE, headers=(("ce_type", b"photo.deleted"),)),
        replace(NO_VALUE, unreadable="made up"),
        UNREADABLE,
        replace(UNREADABLE, value=deleted_json()),
        replace(record(), headers=(("ce_type", b"\xff" * 600_000),)),
    ],
)
async def test_what_may_be_an_event_is_never_skipped_and_never_guessed(one: Record) -> None:
    bench = Bench()
    await bench.handle(one)
    (letter,) = bench.world.dead
    assert letter.reason == "invalid_event"
    assert len(letter.detail) < 500
    assert bench.world.effects == ["dead_letter", "done"]


@pytest.mark.parametrize(
    ("at", "value", "kind"), [("publish", None, None), ("tombstone", deleted_json(), "photo.deleted")]
)
async def test_a_result_that_kafka_refuses_for_good_is_a_dead_letter_of_its_own_reason(
    at: str, value: bytes | None, kind: str | None
) -> None:
    bench, one = Bench(World(failing(at, RecordRefused("MSG_SIZE_TOO_LARGE: too large")))), record(value, kind=kind)
    await bench.handle(one)
    (letter,) = bench.world.dead
    assert (letter.reason, letter.detail, letter.attempt) == ("result_refused", "MSG_SIZE_TOO_LARGE: too large", 1)
    assert bench.world.done == [one]
    assert bench.log.named("photo.failed") == []


REFUSALS = [RecordRefused("POLICY_VIOLATION: no key"), ZeroDivisionError("bug"), MemoryError()]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_record_whose_dead_letter_is_refused_is_said_to_be_stuck_until_it_is_taken(refusal: Exception) -> None:
    refusing = True

    async def fault(verb: str) -> None:
        if verb == "dead_letter" and refusing:
            raise refusal

    bench = Bench(World(fault))
    delivery = bench.world.delivery(record(b"no event", offset=7, partition=2))
    task = asyncio.create_task(bench.pipeline.handle(delivery))
    await eventually(lambda: len(bench.log.named("record.stuck")) >= 2)
    bugs = {isinstance(refusal, ZeroDivisionError)} - {False}
    assert {level == "exception" for level, event, _ in bench.log.lines if event == "photo.failed"} == bugs
    line = bench.log.named("record.stuck")[0]
    assert (line["topic"], line["partition"], line["offset"]) == ("photo-uploads", 2, 7)
    assert {level for level, event, _ in bench.log.lines if event == "record.stuck"} == {"error"}
    assert "dead-letter topic" in delivery.wait.what
    assert type(refusal).__name__ in delivery.wait.what
    assert type(refusal).__name__ in str(line["detail"])
    assert bench.metrics.registry.get_sample_value("tagger_stuck_records") == 1
    assert (bench.world.done, bench.outcomes()) == ([], {})
    complaint = bench.stuck.complaint or ""
    assert "photo-uploads[2] offset 7" in complaint
    assert type(refusal).__name__ in complaint
    refusing = False
    assert await task == "dead_lettered"
    assert bench.world.dead[0].reason == "invalid_event"
    assert bench.world.done == [delivery.record]
    assert bench.stuck.complaint is None
    assert bench.metrics.registry.get_sample_value("tagger_stuck_records") == 0


async def test_a_stuck_record_can_be_cancelled_and_is_not_done() -> None:
    async def fault(verb: str) -> None:
        if verb == "dead_letter":
            raise RecordRefused("too large")

    bench = Bench(World(fault))
    task = asyncio.create_task(bench.handle(record(b"no event")))
    await eventually(lambda: bench.log.named("record.stuck"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.world.done == []
    assert bench.stuck.complaint is None
    assert bench.metrics.registry.get_sample_value("tagger_stuck_records") == 0


async def test_a_host_that_asks_for_an_endless_wait_gets_a_bounded_one() -> None:
    bench, one = Bench(schedule=RetrySchedule(2, (60.0,))), record()
    bench.world.fault = failing_all(no_fault, "fetch", Retryable("http_5xx", "busy", retry_after_s=1e300))
    await bench.handle(one)
    ((_, deferral),) = bench.world.deferred
    assert timedelta() < deferral.not_before - datetime.now(UTC) <= LONGEST_WAIT


async def test_a_bug_in_the_deferral_costs_one_photo() -> None:
    async def fault(verb: str) -> None:
        if verb == "fetch":
            raise Retryable("http_5xx", "busy", retry_after_s=10.0)
        if verb == "retry":
            raise ZeroDivisionError

    bench, one = Bench(World(fault), RetrySchedule(2, (60.0,))), record()
    await bench.handle(one)
    assert [letter.reason for letter in bench.world.dead] == ["internal"]
    assert bench.world.done == [one]


#: The ways to each kind of outcome: at which step what fails, how often, and the value.
WAYS: dict[str, tuple[Exception, int, bytes | None]] = {
    "tagged": (ZeroDivisionError(), 0, None),
    "dead lettered": (ZeroDivisionError(), 0, b"{}"),
    "deferred": (Retryable("http_5xx", "busy"), 9, None),
    "after a shortage": (MemoryError(), 1, None),
    "after a bug": (ZeroDivisionError(), 1, None),
}


class Broken:
    """A metric that cannot be counted."""

    def __getattr__(self, _: str) -> Any:
        raise ZeroDivisionError

    def __call__(self, _: str) -> Any:
        raise ZeroDivisionError


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize(
    "count", ["records", "dead_letters", "retries", "event_age_seconds", "stage", "brand_tags", "stuck"]
)
@pytest.mark.parametrize("way", WAYS)
async def test_a_record_is_done_even_where_its_count_fails(
    monkeypatch: pytest.MonkeyPatch, way: str, count: str
) -> None:
    failure, times, value = WAYS[way]
    world = World(failing("fetch", *[failure] * times))
    bench, one = Bench(world, RetrySchedule(2, (60.0,))), replace(record(value), timestamp_ms=1)
    monkeypatch.setattr(bench.metrics, count, Broken())
    with suppress(ZeroDivisionError):
        await asyncio.wait_for(bench.handle(one), 5)
    assert bench.world.done == [one]
    assert len(bench.world.dead) <= 1


async def test_each_step_says_what_its_record_waits_for() -> None:
    waits: dict[str, str] = {}

    async def fault(verb: str) -> None:
        waits[verb] = delivery.wait.what

    bench = Bench(World(fault))
    delivery = bench.world.delivery(record(uploaded_json(uri="https://PHOTOS.example/1.jpg?secret=1")))
    await bench.pipeline.handle(delivery)
    assert waits == {
        "fetch": "fetch from https://photos.example:443",
        "prepare": "decode: its memory and a thread",
        "infer": "infer at triton",
        "write": "write to redis",
        "publish": "publish to kafka, result topic",
        "newer": "read from redis",
    }
    delivery = bench.world.delivery(record(deleted_json(), kind="photo.deleted"))
    await bench.pipeline.handle(delivery)
    assert (waits["delete"], waits["tombstone"]) == ("write to redis", "publish to kafka, result topic")
    delivery = bench.world.delivery(record(b"no event"))
    await bench.pipeline.handle(delivery)
    assert waits["dead_letter"] == "publish to kafka, dead-letter topic"


async def test_between_two_attempts_a_record_says_what_failed_and_where() -> None:
    waits: list[str] = []
    bench = Bench(World(failing("fetch", Retryable("http_5xx", "busy"))))
    delivery = bench.world.delivery(record())
    inner = bench.pipeline.retry

    async def watched(*arguments: Any) -> Any:
        first, event = arguments

        async def attempt(value: Any) -> Any:
            waits.append(delivery.wait.what)
            return await first(value)

        return await inner(attempt, event)

    await replace(bench.pipeline, retry=watched).handle(delivery)  # type: ignore[arg-type]
    assert waits[1] == "another attempt: fetch from https://photos.example:443, after http_5xx"


SHORTAGES = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.EMFILE, "Too many open files"),
    RuntimeError("can't start new thread"),
]


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.shortage._SHORTAGE_WAIT_S", 0.001)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("at", ["fetch", "prepare", "infer", "write", "publish", "retry"])
@pytest.mark.parametrize("shortage", SHORTAGES)
async def test_a_lack_of_memory_is_waited_for_and_is_not_the_photos_fault(shortage: Exception, at: str) -> None:
    fault = failing(at, shortage, shortage, shortage)
    bench, one = Bench(World(fault), RetrySchedule(2, (60.0,))), record(offset=7)
    if at == "retry":
        bench.world.fault = failing_all(fault, "fetch", Retryable("http_5xx", "busy"))
    await bench.handle(one)
    assert bench.world.dead == []
    assert bench.world.done == [one]
    # What was in Redis before its result was published is found there.
    assert bench.outcomes() == {{"retry": "deferred", "publish": "unchanged"}.get(at, "tagged"): 1}
    assert bench.log.named("photo.failed") == []
    assert [line["offset"] for line in bench.log.named("host.ran_out")] == [7, 7, 7]
    assert bench.metrics.registry.get_sample_value("tagger_retries_total", {"reason": "host_exhausted"}) == 3


def failing_all(fault: Fault, at: str, failure: Exception) -> Fault:
    """The fault, and one step that always fails."""

    async def both(verb: str) -> None:
        if verb == at:
            raise failure
        await fault(verb)

    return both


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_what_came_of_a_lack_of_memory_is_one_and_other_failures_are_not(link: str) -> None:
    for cause, expected in ((MemoryError(), True), (ValueError(), False)):
        failure = KeyError("x")
        setattr(failure, link, cause)
        assert is_shortage(failure) is expected
    assert not is_shortage(RuntimeError("no running event loop"))
    assert not is_shortage(OSError(errno.EIO, "input/output error"))


@pytest.mark.usefixtures("short_waits")
async def test_while_the_host_has_memory_for_nobody_its_records_step_aside_and_use_up_no_round() -> None:
    one, out = record(offset=7), MemoryError()
    bench = Bench(World(failing_all(no_fault, "prepare", out)), RetrySchedule(1, (60.0,)))
    await bench.handle(one)
    for _ in range(3):
        _, deferral = bench.world.deferred[-1]
        await bench.handle(replace(record(offset=99), headers=retry_headers(one.headers, deferral)))
    assert [(deferral.reason, deferral.round) for _, deferral in bench.world.deferred] == [("host_exhausted", 0)] * 4
    assert bench.world.dead == []


@pytest.mark.usefixtures("short_waits")
async def test_a_photo_that_alone_needs_more_memory_than_there_is_becomes_a_dead_letter_in_the_end() -> None:
    async def fault(verb: str) -> None:
        if verb == "prepare":
            bench.pipeline.resources.served += 1  # another photo, which is smaller
            raise MemoryError

    bench, one = Bench(World(fault), RetrySchedule(1, (60.0,))), record(offset=7)
    await bench.handle(one)
    ((_, deferral),) = bench.world.deferred
    assert (deferral.reason, deferral.round) == ("host_exhausted", 1)
    await bench.handle(replace(record(offset=99), headers=retry_headers(one.headers, deferral)))
    (letter,) = bench.world.dead
    assert (letter.reason, letter.attempt) == ("host_exhausted", 2)
