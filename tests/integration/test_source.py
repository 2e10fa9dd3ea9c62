"""Partitions that come and go, positions that are gone, topics that are not there yet; on a real Kafka."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer import events
from consumer.embedded.paths import free_port
from consumer.kafka import offset_map
from consumer.kafka.topics import create_topics
from consumer.settings import Settings
from tests.harness import BRIGHT, World, by_key, eventually
from tests.harness_process import running_tagger


def renamed(settings: Settings, **names: str) -> Settings:
    """The same settings with other Kafka names."""
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=names)})


async def test_a_restarted_service_goes_on_where_the_last_one_stopped(world: World) -> None:
    world.photos.answers["photo"] = BRIGHT
    for number in range(10):
        world.upload(f"a{number}", "photo")
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"tagged": 10})
    for number in range(5):
        world.upload(f"b{number}", "photo")
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"tagged": 5})
    assert len(world.photos.requests) == 15


async def test_two_members_share_the_partitions_and_every_photo_is_tagged(world: World) -> None:
    world.photos.answers["photo"] = BRIGHT
    for number in range(40):
        world.upload(f"a{number}", "photo")
    async with world.service() as first:
        await eventually(lambda: sum(first.outcomes().values()) > 0)
        async with world.service() as second:
            await eventually(lambda: second.metrics.assigned._value.get() == 2)
            await eventually(lambda: first.metrics.assigned._value.get() == 2)
            for number in range(40):
                world.upload(f"b{number}", "photo")
            await eventually(lambda: len(by_key(world.tags())) == 80)
            # Reading the topic holds up this event loop, in which the second has yet to hear of its answers.
            await eventually(second.outcomes)
        await eventually(lambda: first.metrics.assigned._value.get() == 4)
        for number in range(10):
            world.upload(f"c{number}", "photo")
        await eventually(lambda: len(by_key(world.tags())) == 90)
    assert sum(world.committed().values()) == 90
    assert world.dead() == []


async def test_records_that_retention_took_are_reported_and_reading_goes_on(world: World) -> None:
    world.photos.answers["photo"] = BRIGHT
    topic = world.settings.kafka.uploads_topic
    for number in range(12):
        world.send(f"k{number}", b"{", "photo.uploaded", partition=0)
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"dead_lettered": 12})
    for number in range(8):
        world.send(f"k{number}", b"{", "photo.uploaded", partition=0)
    admin = AdminClient({"bootstrap.servers": world.kafka})
    for future in admin.delete_records([TopicPartition(topic, 0, 16)]).values():
        future.result(10)
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"dead_lettered": 4})
        (line,) = world.events_logged("offsets.reset")
    assert line["partition"] == 0
    assert world.committed()[0] == 20


async def test_a_group_can_start_at_the_end(world: World) -> None:
    world.photos.answers["photo"] = BRIGHT
    for number in range(4):
        world.send(f"old{number}", b"{", "photo.uploaded", partition=number)
    latest = renamed(world.settings, first_position="latest")
    async with world.service(latest) as service:
        await eventually(lambda: world.events_logged("assignment.received"))
        # The position is resolved in the background: events sent until it is may be before it, later ones may not.
        await eventually(lambda: world.upload("new", "photo") and service.outcomes())
        assert "dead_lettered" not in service.outcomes()


@pytest.mark.parametrize("partitions", [1, 4, 6])
async def test_a_topic_that_is_made_anew_while_nobody_reads_is_not_skipped_by_a_group_that_started_at_the_end(
    world: World, partitions: int
) -> None:
    world.photos.answers["photo"] = BRIGHT
    latest = renamed(world.settings, first_position="latest")
    topic, admin = world.settings.kafka.uploads_topic, AdminClient({"bootstrap.servers": world.kafka})
    async with world.service(latest) as service:
        await eventually(lambda: service.not_ready() == [])
    admin.delete_topics([topic])[topic].result(10)

    def created() -> bool:
        with suppress(KafkaException):
            admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(10)
            return True
        return False

    await eventually(created)
    world.producer = Producer({"bootstrap.servers": world.kafka})  # the old one knows the old topic
    for number in range(partitions):
        world.upload(f"new{number}", "photo", partition=number)
    async with world.service(latest) as service:
        await eventually(lambda: service.outcomes() == {"tagged": partitions})


async def test_a_topic_that_is_not_there_yet_is_waited_for_and_named(world: World) -> None:
    elsewhere = renamed(world.settings, uploads_topic=f"{world.settings.kafka.uploads_topic}-late")
    async with asyncio.timeout(30):
        waiting = asyncio.create_task(started(world, elsewhere))
        await eventually(lambda: world.events_logged("dependency.lost"))
        assert not waiting.done()
        (line, *_) = world.events_logged("dependency.lost")
        assert elsewhere.kafka.uploads_topic in line["detail"]
        assert "photo-tagger topics" in line["detail"]
        create_topics(world.kafka, elsewhere.kafka.topics)
        await waiting


async def started(world: World, settings: Settings) -> None:
    """Returns once the service has started, and stopped again."""
    async with world.service(settings):
        pass


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_restart_repeats_only_what_was_not_finished(world: World, tmp_path: Path, how: str) -> None:
    async def hang() -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    world.photos.answers.update({"stuck": hang, "fine": BRIGHT})
    for photo_id in ("stuck", *(f"fine-{number}" for number in range(30))):
        uri = f"{world.photos.url}/{photo_id.split('-')[0]}"
        event = events.PhotoUploaded(photo_id, uri, datetime.now(UTC))
        world.send(photo_id, events.encode(event), events.UPLOADED, partition=0)
    slow = {"TAGGER_FETCH__READ_TIMEOUT_S": "60", "TAGGER_FETCH__TOTAL_TIMEOUT_S": "60"}
    drain = {"TAGGER_SERVICE__DRAIN_TIMEOUT_S": "0.5"}
    with running_tagger(world.settings, tmp_path, port=free_port(), **slow, **drain) as tagger:
        await eventually(lambda: len(world.tags()) == 30)
        if how == "killed":
            await eventually(lambda: len(offset_map.decode(0, committed_metadata(world))) == 30)
            tagger.process.kill()
        else:
            assert (await asyncio.to_thread(tagger.terminate))[0] == 0
    assert world.committed()[0] == 0
    assert offset_map.decode(0, committed_metadata(world)) == frozenset(range(1, 31))
    world.photos.answers["stuck"] = BRIGHT
    world.photos.requests.clear()
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"tagged": 1})
        await eventually(lambda: service.metrics.restored._value.get() == 30)
    assert world.photos.requests == ["stuck"]
    assert world.committed()[0] == 31


def committed_metadata(world: World) -> str | None:
    """The metadata of the first partition's commit."""
    kafka = world.settings.kafka
    consumer = Consumer({"bootstrap.servers": world.kafka, "group.id": kafka.group_id})
    try:
        (answer,) = consumer.committed([TopicPartition(kafka.uploads_topic, 0)], timeout=10)
        return answer.metadata
    finally:
        consumer.close()
