"""Partitions that come and go, positions that are gone, topics that are not there yet; on a real Kafka."""

import asyncio

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.settings import Settings
from consumer.topics import TopicNames, create_topics
from tests.harness import BRIGHT, World, by_key, eventually


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
            assert second.outcomes()
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


async def test_a_topic_that_is_not_there_yet_is_waited_for_and_named(world: World) -> None:
    elsewhere = renamed(world.settings, uploads_topic=f"{world.settings.kafka.uploads_topic}-late")
    async with asyncio.timeout(30):
        waiting = asyncio.create_task(started(world, elsewhere))
        await eventually(lambda: world.events_logged("dependency.lost"))
        assert not waiting.done()
        (line, *_) = world.events_logged("dependency.lost")
        assert elsewhere.kafka.uploads_topic in line["detail"]
        assert "photo-tagger topics" in line["detail"]
        kafka = elsewhere.kafka
        create_topics(world.kafka, TopicNames(kafka.uploads_topic, kafka.tags_topic, kafka.dead_topic))
        await waiting


async def started(world: World, settings: Settings) -> None:
    """Returns once the service has started, and stopped again."""
    async with world.service(settings):
        pass
