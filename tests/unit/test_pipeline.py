import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import stamina

from consumer.budget import Budget
from consumer.contract import Views
from consumer.errors import DependencyDown, PhotoRejected, Reason, Retryable
from consumer.events import Record, Scores, source_of
from consumer.fetch.hosts import Hosts
from consumer.kafka.headers import retry_headers
from consumer.order_watch import OrderWatch
from consumer.pipeline import Pipeline
from consumer.resilience import Deferral, Dependencies, RetrySchedule, StuckRecords, retry_within_budget
from consumer.telemetry import Metrics
from tests.fakes import MOMENT, RecordingLog, World, deleted_json, no_fault, record, uploaded_json

ATTEMPTS = 3
NO_ROUNDS = RetrySchedule(0, (1.0,))
TAGGED = ["fetch", "prepare", "infer", "tag", "write", "publish", "done"]


@pytest.fixture(autouse=True)
def no_waiting_between_attempts() -> Iterator[None]:
    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        yield


class Bench:
    """A pipeline over a world in memory."""

    def __init__(self, world: World | None = None, schedule: RetrySchedule = NO_ROUNDS) -> None:
        self.world = world or World()
        self.log = RecordingLog()
        self.metrics = Metrics()
        self.stuck = StuckRecords(self.metrics)
        steps = self.world.steps()
        self.pipeline = Pipeline(
            steps,
            hosts=Hosts(steps.fetch, self.log, self.metrics),
            dependencies=Dependencies(self.log, self.metrics),
            retry=retry_within_budget(ATTEMPTS, self.log, self.metrics),
            schedule=schedule,
            log=self.log,
            metrics=self.metrics,
            stuck=self.stuck,
            order=OrderWatch(self.log, self.metrics),
            stuck_retry_s=0.01,
        )

    async def handle(self, *records: Record) -> None:
        for one in records:
            await self.pipeline.handle(self.world.delivery(one))

    def outcomes(self) -> dict[str, int]:
        samples = next(iter(self.metrics.records.collect())).samples
        return {entry.labels["outcome"]: int(entry.value) for entry in samples if entry.value}


def failing(at: str, *failures: Exception) -> Callable[[str], Awaitable[None]]:
    """The fault that lets each failure out once at one step, and then none."""
    left = list(failures)

    async def fault(verb: str) -> None:
        if verb == at and left:
            raise left.pop(0)

    return fault


async def test_an_upload_is_written_to_redis_first_then_published_then_done() -> None:
    bench, one = Bench(), record(offset=5)
    await bench.handle(one)
    world = bench.world
    assert world.effects == TAGGED
    assert [tags for _, tags in world.published] == [world.stored["photo-1"]]
    assert world.published[0][1].source.offset == 5
    assert world.done == [one]
    assert bench.outcomes() == {"tagged": 1}


@pytest.mark.parametrize(
    ("at", "value", "kind"),
    [("publish", None, None), ("tombstone", deleted_json(), "photo.deleted"), ("dead_letter", b"no event", None)],
)
async def test_a_record_is_done_only_after_the_brokers_have_acknowledged(
    at: str, value: bytes | None, kind: str | None
) -> None:
    asked, acknowledged = asyncio.Event(), asyncio.Event()

    async def fault(verb: str) -> None:
        if verb == at:
            asked.set()
            await acknowledged.wait()

    bench, one = Bench(World(fault)), record(value, kind=kind)
    task = asyncio.create_task(bench.handle(one))
    await asked.wait()
    assert bench.world.done == []
    acknowledged.set()
    await task
    assert bench.world.done == [one]
    assert bench.world.effects[-2:] == [at, "done"]


async def test_a_repeated_record_publishes_again_the_tags_that_redis_holds() -> None:
    bench, first, again = Bench(), record(offset=1), record(offset=9)
    await bench.handle(first, again)
    (_, before), (source, after) = bench.world.published
    assert source is again
    assert after == before
    assert after.source.offset == 1
    assert bench.world.done == [first, again]
    assert bench.outcomes() == {"tagged": 1, "unchanged": 1}


NEWER = {
    "tags": record(uploaded_json(revision=2), offset=1),
    "tombstone": record(deleted_json(revision=2), kind="photo.deleted", offset=1),
}
OLDER = {
    "publish": record(uploaded_json(revision=1)),
    "tombstone": record(deleted_json(revision=1), kind="photo.deleted"),
}


@pytest.mark.parametrize("older", OLDER)
@pytest.mark.parametrize("newer", NEWER)
async def test_what_was_overtaken_on_its_way_to_the_topic_does_not_have_the_last_word(older: str, newer: str) -> None:
    held, go_on = asyncio.Event(), asyncio.Event()

    async def fault(verb: str) -> None:
        if verb == older and not held.is_set():
            held.set()
            await go_on.wait()

    bench = Bench(World(fault))
    slow = asyncio.create_task(bench.handle(OLDER[older]))
    await held.wait()
    await bench.handle(NEWER[newer])
    go_on.set()
    await slow
    versions = [version for _, version in bench.world.topic]
    assert versions == [max(versions), min(versions), max(versions)]
    assert len(set(versions)) == 2
    (line,) = bench.log.named("result.overtaken")
    assert line["version"] == max(versions)
    assert [one.offset for one in bench.world.done] == [1, 0]


async def test_the_last_record_of_a_photo_has_its_newest_version_however_its_writers_interleave() -> None:
    chance = random.Random(9)

    async def fault(_: str) -> None:
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)

    for _ in range(60):
        bench = Bench(World(fault))
        one_photo = [
            record(deleted_json(revision=revision), kind="photo.deleted", offset=revision)
            if chance.random() < 0.3
            else record(uploaded_json(revision=revision), offset=revision)
            for revision in range(6)
        ]
        chance.shuffle(one_photo)
        await asyncio.gather(*map(bench.handle, one_photo))
        assert bench.world.topic[-1][1] == bench.world.versions["photo-1"]
        assert len(bench.world.done) == 6


async def test_an_outage_before_the_look_at_redis_is_waited_for() -> None:
    down = DependencyDown("redis", "no answer")
    bench, one = Bench(World(failing("newer", down))), record()
    await bench.handle(one)
    assert bench.world.outcomes_of(one) == ["published"]
    assert bench.world.done == [one]
    assert len(bench.log.named("dependency.recovered")) == 1


async def test_an_older_upload_publishes_nothing_and_is_done() -> None:
    bench = Bench()
    newer, older = record(uploaded_json(revision=2)), record(uploaded_json(revision=1), offset=1)
    await bench.handle(newer, older)
    assert bench.world.outcomes_of(older) == []
    assert bench.world.done == [newer, older]
    assert bench.outcomes() == {"tagged": 1, "superseded": 1}


async def test_a_deletion_is_a_tombstone_in_redis_first_then_in_the_topic() -> None:
    bench, upload = Bench(), record()
    deletion = record(deleted_json(), kind="photo.deleted", offset=1)
    await bench.handle(upload, deletion)
    assert bench.world.effects[len(TAGGED) :] == ["decide_deletion", "delete", "tombstone", "done"]
    assert bench.world.stored == {}
    assert bench.world.tombstones == [(deletion, "photo-1")]
    assert bench.outcomes() == {"tagged": 1, "deleted": 1}


async def test_a_repeated_deletion_is_announced_again() -> None:
    bench = Bench()
    twice = [record(deleted_json(), kind="photo.deleted", offset=offset) for offset in (1, 2)]
    await bench.handle(*twice)
    assert [source for source, _ in bench.world.tombstones] == twice


async def test_a_deletion_before_a_newer_deletion_is_superseded() -> None:
    bench = Bench()
    newer, older = (record(deleted_json(revision=number), kind="photo.deleted", offset=2 - number) for number in (2, 1))
    await bench.handle(newer, older)
    assert [source for source, _ in bench.world.tombstones] == [newer]
    assert bench.outcomes() == {"deleted": 1, "superseded": 1}


async def test_neither_an_upload_before_a_deletion_nor_a_deletion_before_an_upload_changes_the_later_one() -> None:
    bench = Bench()
    deletion = record(deleted_json(), kind="photo.deleted")
    older = record(offset=1)
    await bench.handle(deletion, older)
    assert bench.world.outcomes_of(older) == []
    newer = record(uploaded_json(uploaded_at="2026-11-21T10:20:00.001Z"), offset=2)
    late = record(deleted_json(), kind="photo.deleted", offset=3)
    await bench.handle(newer, late)
    assert bench.world.outcomes_of(late) == []
    assert "photo-1" in bench.world.stored
    assert bench.outcomes() == {"deleted": 1, "superseded": 2, "tagged": 1}


async def test_an_event_that_nothing_keeps_in_order_is_processed_and_noted_once() -> None:
    bench = Bench(World(failing("fetch", *[Retryable("http_5xx", "busy")] * ATTEMPTS)), RetrySchedule(1, (60.0,)))
    one = replace(record(uploaded_json(revision=None)), key=None)
    await bench.handle(one)
    ((_, deferral),) = bench.world.deferred
    await bench.handle(replace(one, headers=retry_headers(one.headers, deferral)))
    assert bench.outcomes() == {"deferred": 1, "tagged": 1}
    numbered = (
        record(uploaded_json(revision=4), offset=1),
        record(deleted_json(revision=4), kind="photo.deleted", offset=2),
    )
    await bench.handle(*numbered)
    assert bench.outcomes() == {"deferred": 1, "tagged": 1, "superseded": 2}
    samples = next(iter(bench.metrics.disordered.collect())).samples
    counts = {entry.labels["reason"]: entry.value for entry in samples if entry.name.endswith("_total")}
    assert counts == {"no_key": 1, "revision_and_time": 2}


@pytest.mark.parametrize("at", ["fetch", "prepare", "infer"])
async def test_a_rejected_photo_is_a_dead_letter_at_once_with_its_reason(at: str) -> None:
    bench, one = Bench(World(failing(at, PhotoRejected("corrupt_image", "cut off")))), record()
    await bench.handle(one)
    (letter,) = bench.world.dead
    assert letter.record is one
    assert (letter.reason, letter.detail, letter.attempt) == ("corrupt_image", "cut off", 1)
    assert bench.world.outcomes_of(one) == ["dead"]
    assert bench.world.done == [one]
    assert bench.outcomes() == {"dead_lettered": 1}


CUT = PhotoRejected("corrupt_image", "cut off")


async def test_a_photo_that_stops_early_is_fetched_once_more_after_a_wait_and_then_refused() -> None:
    fault = failing("prepare", CUT, CUT)
    bench, one = Bench(World(fault, body=b"\xff\xd8\xff\xe0"), RetrySchedule(3, (60.0,))), record(offset=7)
    await bench.handle(one)
    ((_, deferral),) = bench.world.deferred
    assert (deferral.reason, deferral.attempt, deferral.round) == ("corrupt_image", 1, 1)
    await bench.handle(replace(record(offset=99), headers=retry_headers(one.headers, deferral)))
    (letter,) = bench.world.dead
    assert (letter.reason, letter.attempt) == ("corrupt_image", 2)
    assert bench.world.effects.count("fetch") == 2
    assert bench.outcomes() == {"deferred": 1, "dead_lettered": 1}


async def test_a_photo_that_was_still_being_uploaded_is_tagged_when_it_is_whole() -> None:
    bench, one = Bench(World(failing("prepare", CUT), body=b"\xff\xd8\xff\xe0"), RetrySchedule(3, (60.0,))), record()
    await bench.handle(one)
    await bench.handle(replace(one, headers=retry_headers(one.headers, bench.world.deferred[0][1])))
    assert bench.outcomes() == {"deferred": 1, "tagged": 1}


UNREADABLE = {
    "nulls": (bytes(4_096), PhotoRejected("unsupported_format", "not a photo")),
    "a few bytes": (b"\xff\xd8", PhotoRejected("unsupported_format", "not a photo")),
    "damaged but whole": (b"\xff\xd8\xff\xda\0\2\xff\xd9", CUT),
    "cut off": (b"\xff\xd8\xff\xe0", CUT),
}


def under_way(world: World, answers: list[bool]) -> Bench:
    """A bench whose uploads are under way for so long."""
    bench = Bench(world, RetrySchedule(5, (60.0,)))
    steps = replace(bench.pipeline.steps, is_under_way=lambda _: answers.pop(0))
    bench.pipeline = replace(bench.pipeline, steps=steps)
    return bench


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_what_cannot_be_read_while_its_upload_may_be_under_way_is_fetched_again(kind: str) -> None:
    body, rejected = UNREADABLE[kind]
    bench, one = under_way(World(failing("prepare", *[rejected] * 3), body=body), [True, True, False]), record()
    for _ in range(3):
        await bench.handle(one)
        if bench.world.deferred:
            one = replace(one, headers=retry_headers((), bench.world.deferred[-1][1]))
    assert [(each.reason, each.round) for _, each in bench.world.deferred] == [
        (rejected.reason, 1),
        (rejected.reason, 2),
    ]
    (letter,) = bench.world.dead
    assert (letter.reason, letter.detail, letter.attempt) == (rejected.reason, rejected.detail, 3)


@pytest.mark.parametrize(
    "reason", ["too_many_pixels", "too_many_scans", "image_too_small", "decode_timeout", "inference_rejected"]
)
async def test_what_no_upload_under_way_looks_like_is_refused_at_once(reason: Reason) -> None:
    bench = under_way(World(failing("prepare", PhotoRejected(reason, "no"))), [True])
    await bench.handle(record())
    assert [letter.reason for letter in bench.world.dead] == [reason]


async def test_a_photo_that_is_damaged_but_whole_is_refused_at_once() -> None:
    bench = Bench(World(failing("prepare", CUT), body=b"\xff\xd8\xff\xda\0\2\xff\xd9"), RetrySchedule(3, (60.0,)))
    await bench.handle(record())
    assert bench.outcomes() == {"dead_lettered": 1}


async def test_without_rounds_a_photo_that_stops_early_is_refused_at_once() -> None:
    bench = Bench(World(failing("prepare", CUT), body=b"\xff\xd8\xff\xe0"))
    await bench.handle(record())
    assert bench.world.dead[0].reason == "corrupt_image"


async def test_the_bytes_of_a_photo_are_dropped_before_the_models_are_asked_and_when_it_is_refused() -> None:
    held: list[bool] = []

    async def fault(verb: str) -> None:
        if verb in {"infer", "dead_letter"}:
            held.append(bool(bench.world.fetched[-1].body))
        if verb == "prepare" and len(bench.world.fetched) == 2:
            raise PhotoRejected("too_many_pixels", "huge")

    bench = Bench(World(fault))
    await bench.handle(record(), record(offset=1))
    assert held == [False, False]


async def test_a_host_that_asks_to_be_left_longer_is_left_longer() -> None:
    busy = [Retryable("http_5xx", "busy", retry_after_s=600.0)]
    bench, one = Bench(World(failing("fetch", *busy)), RetrySchedule(2, (60.0,))), record()
    before = datetime.now(UTC)
    await bench.handle(one)
    ((_, deferral),) = bench.world.deferred
    assert deferral.attempt == 1
    assert timedelta(seconds=600) <= deferral.not_before - before <= timedelta(seconds=630)


async def test_an_event_that_cannot_be_read_is_a_dead_letter_with_its_bytes() -> None:
    bench, one = Bench(), record(b'{"uri": 5}')
    await bench.handle(one)
    (letter,) = bench.world.dead
    assert letter.record is one
    assert letter.reason == "invalid_event"
    assert bench.world.effects == ["dead_letter", "done"]


@pytest.mark.parametrize("at", ["fetch", "infer"])
async def test_a_transient_failure_is_repeated_and_forgotten(at: str) -> None:
    bench = Bench(World(failing(at, *[Retryable("http_5xx", "busy")] * (ATTEMPTS - 1))))
    await bench.handle(record())
    assert bench.world.effects == TAGGED
    assert bench.outcomes() == {"tagged": 1}


@pytest.mark.parametrize("at", ["fetch", "infer"])
async def test_a_failure_that_outlasts_the_budget_is_a_dead_letter_with_the_number_of_attempts(at: str) -> None:
    bench, one = Bench(World(failing(at, *[Retryable("http_5xx", "busy")] * ATTEMPTS))), record()
    await bench.handle(one)
    (letter,) = bench.world.dead
    assert (letter.reason, letter.detail, letter.attempt) == ("http_5xx", "busy", ATTEMPTS)
    assert bench.world.done == [one]


@pytest.mark.parametrize("at", ["fetch", "infer"])
async def test_a_failure_that_outlasts_the_budget_waits_for_a_round_and_is_done_when_that_is_acknowledged(
    at: str,
) -> None:
    busy = [Retryable("http_5xx", "busy")] * ATTEMPTS
    bench, one = Bench(World(failing(at, *busy)), RetrySchedule(2, (60.0,))), record(offset=7)
    before = datetime.now(UTC)
    await bench.handle(one)
    ((waiting, deferral),) = bench.world.deferred
    assert waiting is one
    assert (deferral.reason, deferral.detail, deferral.attempt, deferral.round) == ("http_5xx", "busy", ATTEMPTS, 1)
    assert deferral.origin == source_of(one)
    assert timedelta(seconds=60) <= deferral.not_before - before <= timedelta(seconds=90)
    assert bench.world.effects[-2:] == ["retry", "done"]
    assert bench.outcomes() == {"deferred": 1}
    assert bench.world.dead == []


async def test_rounds_add_their_attempts_up_and_the_last_one_ends_in_a_dead_letter() -> None:
    busy = [Retryable("http_5xx", "busy")] * (3 * ATTEMPTS)
    bench, one = Bench(World(failing("fetch", *busy)), RetrySchedule(2, (60.0,))), record(offset=7)
    await bench.handle(one)
    for _ in range(2):
        _, deferral = bench.world.deferred[-1]
        await bench.handle(replace(record(offset=99), headers=retry_headers(one.headers, deferral)))
    assert [(deferral.round, deferral.attempt) for _, deferral in bench.world.deferred] == [(1, 3), (2, 6)]
    assert {deferral.origin for _, deferral in bench.world.deferred} == {source_of(one)}
    (letter,) = bench.world.dead
    assert (letter.reason, letter.attempt) == ("http_5xx", 3 * ATTEMPTS)
    assert bench.outcomes() == {"deferred": 2, "dead_lettered": 1}


async def test_a_rejection_counts_the_attempts_before_it_and_tags_name_the_first_record() -> None:
    deferral = Deferral("http_5xx", "busy", 4, 1, MOMENT, source_of(record(offset=7)))
    later = replace(record(offset=99), headers=retry_headers((), deferral))
    fault = failing("fetch", Retryable("http_5xx", "busy"), PhotoRejected("http_4xx", "gone"))
    bench = Bench(World(fault), RetrySchedule(2, (60.0,)))
    await bench.handle(later, later)
    (letter,) = bench.world.dead
    assert (letter.reason, letter.attempt) == ("http_4xx", 6)
    assert bench.world.stored["photo-1"].source == source_of(record(offset=7))


async def test_a_record_that_steps_aside_waits_in_the_retry_topic_and_uses_up_no_round() -> None:
    bench, one = Bench(), record(offset=7)
    delivery = bench.world.delivery(one)
    delivery.wait.steps_aside = True
    assert await bench.pipeline.handle(delivery) == "deferred"
    ((_, deferral),) = bench.world.deferred
    assert (deferral.reason, deferral.round, deferral.attempt) == ("earlier_event", 0, 0)
    assert (bench.world.published, bench.world.done) == ([], [one])


async def test_a_record_that_steps_aside_and_is_too_large_for_the_retry_topic_is_processed() -> None:
    bench, one = Bench(World(takes_retries=False)), record(offset=7)
    delivery = bench.world.delivery(one)
    delivery.wait.steps_aside = True
    assert await bench.pipeline.handle(delivery) == "tagged"
    assert (bench.world.deferred, bench.world.dead, bench.world.done) == ([], [], [one])


async def test_a_record_that_the_retry_topic_cannot_take_is_a_dead_letter() -> None:
    busy = [Retryable("http_5xx", "busy")] * ATTEMPTS
    bench, one = Bench(World(failing("fetch", *busy), takes_retries=False), RetrySchedule(2, (60.0,))), record()
    await bench.handle(one)
    assert bench.world.outcomes_of(one) == ["dead"]
    assert bench.world.dead[0].attempt == ATTEMPTS
    assert bench.world.done == [one]


@pytest.mark.parametrize("at", ["fetch", "prepare", "infer", "write", "publish"])
async def test_a_bug_costs_one_photo_is_logged_with_its_traceback_and_says_nothing_of_itself_outside(at: str) -> None:
    bench, one = Bench(World(failing(at, ZeroDivisionError("secret")))), record()
    await bench.handle(one, record(offset=1))
    (letter,) = bench.world.dead
    assert (letter.record, letter.reason, letter.attempt) == (one, "internal", 1)
    assert "secret" not in letter.detail
    assert [level for level, event, _ in bench.log.lines if event == "photo.failed"] == ["exception"]
    assert len(bench.world.done) == 2


DEPENDENCIES = [
    ("infer", "triton", None, None),
    ("write", "redis", None, None),
    ("publish", "kafka", None, None),
    ("delete", "redis", deleted_json(), "photo.deleted"),
    ("tombstone", "kafka", deleted_json(), "photo.deleted"),
]


@pytest.mark.parametrize(("at", "dependency", "value", "kind"), DEPENDENCIES)
async def test_an_outage_delays_a_photo_and_never_rejects_it(
    at: str, dependency: str, value: bytes | None, kind: str | None
) -> None:
    down = DependencyDown(dependency, "no answer")
    bench, one = Bench(World(failing(at, down, down))), record(value, kind=kind)
    await bench.handle(one)
    assert bench.world.dead == []
    assert bench.world.outcomes_of(one) in (["published"], ["tombstone"])
    assert bench.world.done == [one]
    assert [len(bench.log.named(name)) for name in ("dependency.lost", "dependency.recovered")] == [1, 1]


HOST = "https://photos.example:443"


def unreachable() -> Retryable:
    return Retryable("connect_failed", "refused", origin=HOST)


async def test_a_photo_whose_host_worked_and_is_gone_waits_for_it_in_its_place() -> None:
    bench, one = Bench(World(failing("fetch", *[unreachable()] * (ATTEMPTS + 2)))), record(offset=1)
    bench.world.fault, broken = no_fault, bench.world.fault
    await bench.handle(record())
    bench.world.fault = broken
    await bench.handle(one)
    assert bench.world.dead == []
    assert bench.world.deferred == []
    assert bench.world.outcomes_of(one) == ["published"]
    lost, back = bench.log.named("dependency.lost"), bench.log.named("dependency.recovered")
    assert [line["dependency"] for line in (*lost, *back)] == ["photos", "photos"]


async def test_a_photo_whose_host_is_gone_while_others_answer_steps_aside_and_uses_up_no_round() -> None:
    bench = Bench(World(), RetrySchedule(1, (60.0,)))
    elsewhere = record(uploaded_json(uri="https://elsewhere.example/1.jpg"), offset=1)
    await bench.handle(record(), elsewhere)
    bench.world.fault = failing("fetch", *[unreachable()] * 10)
    one = record(offset=2)
    await bench.handle(one)
    for _ in range(3):
        _, deferral = bench.world.deferred[-1]
        await bench.handle(replace(record(offset=99), headers=retry_headers(one.headers, deferral)))
    assert [deferral.round for _, deferral in bench.world.deferred] == [0, 0, 0, 0]
    assert {deferral.reason for _, deferral in bench.world.deferred} == {"connect_failed"}
    assert bench.world.dead == []


async def test_a_dead_letter_waits_for_the_brokers_too() -> None:
    bench, one = Bench(World(failing("dead_letter", DependencyDown("kafka", "no answer")))), record(b"no event")
    await bench.handle(one)
    assert bench.world.outcomes_of(one) == ["dead"]
    assert bench.world.done == [one]


async def test_an_outage_between_redis_and_the_topic_publishes_once_and_writes_once() -> None:
    bench = Bench(World(failing("publish", DependencyDown("kafka", "no answer"))))
    await bench.handle(record())
    assert bench.world.effects == TAGGED


@pytest.mark.parametrize("at", ["fetch", "prepare", "infer", "write", "publish", "dead_letter"])
async def test_a_record_that_is_cancelled_is_neither_done_nor_rejected(at: str) -> None:
    reached = asyncio.Event()

    async def fault(verb: str) -> None:
        if verb == at:
            reached.set()
            await asyncio.Event().wait()

    bench = Bench(World(fault))
    task = asyncio.create_task(bench.handle(record(b"no event" if at == "dead_letter" else None)))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.world.done == []
    assert bench.world.dead == []
    assert bench.outcomes() == {}


async def test_a_record_that_waits_for_an_outage_can_be_cancelled() -> None:
    down = asyncio.Event()

    async def fault(verb: str) -> None:
        if verb == "write":
            down.set()
            raise DependencyDown("redis", "no answer")

    bench = Bench(World(fault))
    task = asyncio.create_task(bench.handle(record()))
    await down.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.world.done == []


async def test_each_of_200_records_at_once_ends_in_exactly_one_outcome() -> None:
    chance = random.Random(20)
    failures: tuple[Callable[[str], Exception | None], ...] = (
        lambda _: None,
        lambda _: None,
        lambda _: PhotoRejected("corrupt_image", "cut off"),
        lambda _: Retryable("http_5xx", "busy"),
        lambda _: ZeroDivisionError("bug"),
    )
    struck: Counter[str] = Counter()

    async def fault(verb: str) -> None:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        dependency = {"infer": "triton", "write": "redis", "delete": "redis", "newer": "redis"}.get(verb, "kafka")
        if verb not in {"fetch", "prepare"} and chance.random() < 0.1:
            struck[dependency] += 1
            raise DependencyDown(dependency, "no answer")
        if verb in {"fetch", "prepare", "infer"} and (failure := chance.choice(failures)(verb)) is not None:
            raise failure

    records = []
    for offset in range(200):
        photo_id = f"photo-{chance.randrange(40)}"
        match chance.randrange(6):
            case 0:
                records.append(record(b"no event", offset=offset))
            case 1:
                payload = deleted_json(photo_id=photo_id, revision=chance.randrange(5))
                records.append(record(payload, kind="photo.deleted", offset=offset))
            case _:
                payload = uploaded_json(photo_id=photo_id, revision=chance.randrange(5))
                records.append(record(payload, offset=offset))
    bench = Bench(World(fault))
    await asyncio.gather(*map(bench.handle, records))

    assert set(struck) == {"triton", "redis", "kafka"}
    assert Counter(one.offset for one in bench.world.done) == Counter(range(200))
    known = Counter(outcome for one in records for outcome in bench.world.outcomes_of(one))
    again = Counter(line["offset"] for line in bench.log.named("result.overtaken"))
    assert all(len(bench.world.outcomes_of(one)) <= 1 + again[one.offset] for one in records)
    counted = bench.outcomes()
    assert sum(counted.values()) == 200
    assert known["dead"] == counted["dead_lettered"] == len(bench.world.dead)
    announced = counted["tagged"] + counted.get("unchanged", 0) + counted["deleted"]
    assert known["published"] + known["tombstone"] == announced + again.total()
    assert dict(bench.world.topic) == bench.world.versions
    silent = sum(not bench.world.outcomes_of(one) for one in records)
    assert silent == counted["superseded"]
    assert min(counted.values()) > 0


async def test_a_dead_letter_is_counted_by_reason_and_logged_with_its_place() -> None:
    bench = Bench()
    await bench.handle(record(b"no event", offset=7, partition=2))
    assert bench.metrics.registry.get_sample_value("tagger_dead_letters_total", {"reason": "invalid_event"}) == 1
    (line,) = bench.log.named("dead_letter.published")
    assert (line["topic"], line["partition"], line["offset"]) == ("photo-uploads", 2, 7)
    assert (line["photo_id"], line["reason"]) == ("photo-1", "invalid_event")


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe"])
async def test_a_dead_letter_needs_no_readable_key(key: bytes | None) -> None:
    bench, one = Bench(), Record("t", 0, 0, key, None)
    await bench.handle(one)
    assert bench.world.done == [one]


async def test_brands_are_counted_once_by_the_release_that_they_were_seen_under() -> None:
    bench = Bench()
    await bench.handle(record(), record(offset=1))
    labels = {"label": "crimson", "release": "003007"}
    assert bench.metrics.registry.get_sample_value("tagger_tags_total", labels) == 1


@pytest.mark.parametrize("steps_first", ["score", "infer"])
async def test_a_photo_whose_release_is_no_longer_served_begins_again_under_the_one_in_force(steps_first: str) -> None:
    bench = Bench()
    newer = bench.world.steps().judgement()
    retired = replace(newer, tag=lambda *_: pytest.fail("tagged under a release that is not served"))

    async def gone(*_: object) -> Any:
        bench.world.judges = newer
        raise DependencyDown("triton", "version 1 is not loaded, but 2")

    bench.world.judges = replace(retired, **{steps_first: gone})
    await bench.handle(record())
    assert bench.outcomes() == {"tagged": 1}
    assert bench.world.effects.count("fetch") == 2


async def test_a_photo_ends_under_the_release_that_it_began_with() -> None:
    bench = Bench()
    older = bench.world.steps().judgement()

    async def promoted(views: Views) -> Scores:
        bench.world.judges = replace(older, tag=lambda *_: pytest.fail("tagged under another release"))
        return await older.infer(views)

    bench.world.judges = replace(older, infer=promoted)
    await bench.handle(record())
    assert bench.outcomes() == {"tagged": 1}
    assert bench.world.effects.count("fetch") == 1


async def test_the_memory_of_pixels_is_held_until_there_are_scores_and_given_back_whatever_becomes_of_them() -> None:
    bench, room = Bench(), Budget(10)
    held = list[int]()

    async def infer(_: Views) -> Scores:
        held.append(room.used)
        raise PhotoRejected("inference_rejected", "as told")

    bench.world.judges = replace(bench.world.steps().judgement(), infer=infer, room=partial(room.acquire, 7))
    await bench.handle(record())
    assert (held, room.used) == ([7], 0)


#: A producer whose clock is ahead.
IN_2100_MS = 4_102_444_800_000


@pytest.mark.parametrize(("timestamp_ms", "count"), [(0, 0), (-1, 0), (IN_2100_MS, 1), (1, 1)])
async def test_the_age_of_a_record_is_measured_where_it_has_one_and_never_negative(
    timestamp_ms: int, count: int
) -> None:
    bench = Bench()
    await bench.handle(Record("t", 0, 0, b"k", uploaded_json(), timestamp_ms=timestamp_ms))
    assert bench.metrics.registry.get_sample_value("tagger_event_age_seconds_count") == count
    since_1970_s = bench.metrics.registry.get_sample_value("tagger_event_age_seconds_sum")
    assert bool(since_1970_s) == (timestamp_ms == 1)


async def test_every_stage_is_timed() -> None:
    bench = Bench()
    await bench.handle(record())
    for stage in ("fetch", "prepare", "infer", "write", "publish"):
        assert bench.metrics.registry.get_sample_value("tagger_stage_duration_seconds_count", {"stage": stage}) == 1
