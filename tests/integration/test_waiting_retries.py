"""What waits in the retry topic for long neither holds back what stands behind it, nor fills the memory."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from consumer import events
from consumer.embedded.paths import free_port
from consumer.events import PhotoUploaded, Source
from consumer.kafka import backpressure
from consumer.kafka.headers import retry_headers
from consumer.resilience import Deferral
from consumer.service.run import Service
from consumer.settings import Settings
from tests.harness import BLUE, World, by_key, eventually
from tests.harness_process import running_tagger

FAR_S = 3600.0
MB = 1_000_000


def put(world: World, photo_id: str, after_s: float, *, size: int = 0, keyed: bool = True) -> None:
    """Puts an upload into the retry topic, as if it had failed, until so long from now."""
    now = datetime.now(UTC)
    event = PhotoUploaded(photo_id, f"{world.photos.url}/fine/{photo_id}", now, metadata={"text": noise(size)})
    origin = Source(world.settings.kafka.uploads_topic, 0, 0)
    deferral = Deferral("http_5xx", "Retry-After 3600", 2, 1, now + timedelta(seconds=after_s), origin)
    headers = retry_headers((("ce_type", events.UPLOADED.encode()),), deferral)
    topic = world.settings.kafka.retry_topic
    key = photo_id if keyed else None
    world.producer.produce(topic, events.encode(event), key, partition=0, headers=list(headers))
    world.producer.poll(0)


@cache
def noise(size: int) -> str:
    """Text that hardly compresses."""
    return random.Random(1).randbytes(size // 2).hex()


def with_retry(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update={"retry": settings.retry.model_copy(update=values)})


def requeued(service: Service) -> float:
    return service.metrics.registry.get_sample_value("tagger_requeued_records_total") or 0.0


def waiting_bytes(service: Service) -> float:
    return service.metrics.registry.get_sample_value("tagger_retry_waiting_bytes") or 0.0


@pytest.mark.parametrize("place", ["first", "in between", "many"])
async def test_one_that_waits_an_hour_does_not_stop_its_partition(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(backpressure, "MAX_SPAN", 100)
    world.photos.answers["fine"] = BLUE
    hours = {"first": {0}, "in between": {7}, "many": set(range(0, 600, 20))}[place]
    for number in range(600):
        put(world, f"p{number}", FAR_S if number in hours else 0.2)
    world.producer.flush(10)
    async with world.service() as service:
        await eventually(lambda: service.outcomes().get("tagged") == 600 - len(hours))
        assert service.outcomes().keys() == {"tagged"}
    assert world.dead() == []


@pytest.mark.parametrize(
    "limits",
    [{"max_waiting": 20}, {"max_waiting_bytes": 2_000_000}, {"max_waiting": 1}],
    ids=["count", "bytes", "one at a time"],
)
async def test_more_of_them_than_may_wait_move_behind_the_others(world: World, limits: dict[str, int]) -> None:
    world.photos.answers["fine"] = BLUE
    for number in range(3 if limits.get("max_waiting") == 1 else 30):
        put(world, f"far{number}", FAR_S, size=100_000)
    world.producer.flush(10)
    async with world.service(with_retry(world.settings, **limits)) as service:
        await eventually(lambda: waiting_bytes(service) > 0)
        for number in range(20):
            put(world, f"near{number}", 0.1)
        world.producer.flush(10)
        await eventually(lambda: service.outcomes() == {"tagged": 20})
        assert requeued(service) > 0
        assert waiting_bytes(service) <= 3_500_000
    assert world.dead() == []


async def test_where_only_they_are_left_the_topic_grows_no_more_and_what_comes_later_is_reached(world: World) -> None:
    world.photos.answers["fine"] = BLUE
    for number in range(100):
        # One without a key would go to any partition, if it did not stay in its own.
        put(world, f"far{number}", FAR_S, keyed=number % 2 == 0)
    world.producer.flush(10)
    async with world.service(with_retry(world.settings, max_waiting=20)) as service:
        for number in range(2):
            before_s, moved = time.monotonic(), 0.0
            while moved == 0 or requeued(service) != moved:
                moved = requeued(service)
                assert time.monotonic() < before_s + 60, "it moves them again and again"
                await asyncio.sleep(3)
            assert moved <= 150 * (number + 1)
            assert len(world.waiting()) == 100 + number + moved
            put(world, f"near{number}", 0.1)
            world.producer.flush(10)
            await eventually(lambda number=number: service.outcomes() == {"tagged": number + 1})
    assert {message.partition() for message in world.waiting()} == {0}
    assert world.dead() == []


async def test_after_a_kill_between_moves_and_their_commit_each_is_tagged_all_the_same(
    world: World, tmp_path: Path
) -> None:
    world.photos.answers["fine"] = BLUE
    bounds = {"TAGGER_RETRY__MAX_WAITING": "10"}
    with running_tagger(world.settings, tmp_path, port=free_port(), **bounds) as tagger:
        await asyncio.to_thread(tagger.wait_ready)
        for number in range(60):
            put(world, f"far{number}", 15.0)
        world.producer.flush(10)
        await eventually(lambda: len(world.waiting()) > 60)
        # What was moved since the last commit has a copy, and is read again as well.
        tagger.process.kill()
    async with world.service() as service:
        await eventually(lambda: len(by_key(world.tags())) == 60, deadline_s=90)
        await eventually(lambda: sum(service.outcomes().values()) >= 60)
        assert service.outcomes().keys() <= {"tagged", "unchanged"}
    assert world.dead() == []


async def test_what_moved_says_what_it_said_and_is_tagged_at_its_time(world: World) -> None:
    world.photos.answers["fine"] = BLUE
    began, wait_s = datetime.now(UTC), 13.0
    for number in range(12):
        put(world, f"far{number}", wait_s + number / 100, size=100_000)
    world.producer.flush(10)
    before = {key: message.headers() for key, message in by_key(world.waiting()).items()}
    async with world.service(with_retry(world.settings, max_waiting=4)) as service:
        await eventually(lambda: requeued(service) > 0)
        await eventually(lambda: service.outcomes() == {"tagged": 12})
    waited = by_key(world.waiting())
    assert {key: message.headers() for key, message in waited.items()} == before
    published = by_key(world.tags())
    assert published.keys() == before.keys()
    assert min(message.timestamp()[1] for message in published.values()) >= (began.timestamp() + wait_s) * 1000
    moved_to = {message.partition() for message in waited.values()}
    ends = {number: sum(message.partition() == number for message in world.waiting()) for number in moved_to}
    committed = world.committed_of(world.settings.kafka.retry_topic, f"{world.settings.kafka.group_id}.retry")
    assert {number: committed[number] for number in moved_to} == ends


async def test_one_that_the_topic_takes_no_more_is_tried_and_has_an_outcome(world: World) -> None:
    world.photos.answers["fine"] = BLUE
    for number in range(8):
        put(world, f"far{number}", FAR_S, size=100_000)
    put(world, "near", 0.1)
    world.producer.flush(10)
    limit = ConfigEntry("max.message.bytes", "20000", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, world.settings.kafka.retry_topic, incremental_configs=[limit])
    admin = AdminClient({"bootstrap.servers": world.kafka})
    for answer in admin.incremental_alter_configs([topic]).values():
        answer.result(10)
    async with world.service(with_retry(world.settings, max_waiting=4)) as service:
        await eventually(lambda: "near" in by_key(world.tags()))
        assert service.outcomes()["tagged"] >= 5
        assert requeued(service) == 0
    assert world.dead() == []


async def test_large_events_that_wait_take_no_more_memory_than_the_settings_say(world: World, tmp_path: Path) -> None:
    world.photos.answers["fine"] = BLUE
    bounds = {"TAGGER_RETRY__MAX_WAITING_BYTES": str(32 * MB)}
    with running_tagger(world.settings, tmp_path, port=free_port(), **bounds) as tagger:
        await asyncio.to_thread(tagger.wait_ready)
        before = tagger.memory()
        for number in range(80):
            put(world, f"far{number}", FAR_S, size=900_000)
        put(world, "near", 0.1)
        world.producer.flush(30)
        await eventually(lambda: "near" in by_key(world.tags()), deadline_s=60)
        # Beside what waits there are the prefetch of the client and a batch each way; all 80 events are 72 MB.
        assert tagger.memory("VmHWM") - before < 85 * MB
