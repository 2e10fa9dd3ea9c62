"""The service over topics that refuse records, and over producers that end; and what it says of such topics."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer import events
from consumer.embedded.paths import free_port
from consumer.embedded.triton import Triton
from consumer.errors import ProducerFailed
from consumer.events import PhotoUploaded
from tests.harness import RED, PhotoServer, World, by_key, eventually, make_world, set_topic
from tests.harness_process import environment, photo_tagger, running_tagger
from tests.mock_cluster import INIT_PRODUCER_ID, PRODUCE, MockCluster, mock_cluster

LIMIT_BYTES = 1_048_588
OUT_OF_ORDER, NOT_ALLOWED = 45, 31

noise = random.Random(1).randbytes


def event_of(world: World) -> bytes:
    return events.encode(PhotoUploaded("large", f"{world.photos.url}/red/large", datetime.now(UTC)))


@pytest.mark.parametrize("topics", ["as created", "a compacted dead-letter topic of 2 kB"])
async def test_records_near_the_limit_of_the_upload_topic_all_have_an_outcome_and_hold_up_nobody(
    world: World, topics: str
) -> None:
    names, uploaded = world.settings.kafka, (("ce_type", b"photo.uploaded"),)
    if topics != "as created":
        set_topic(world, names.dead_topic, max_message_bytes="2000", cleanup_policy="compact")
    world.photos.answers["red"] = RED
    producer = Producer({"bootstrap.servers": world.kafka, "message.max.bytes": 3_000_000})
    for _ in range(3):
        for key, value, headers in (
            (b"header", b"{}", (("ce_type", noise(600_000)), ("more", noise(440_000)))),
            (noise(LIMIT_BYTES - 200), b"{}", uploaded),
            (None, noise(LIMIT_BYTES - 200), uploaded),
            (b"large", event_of(world), (*uploaded, ("tracestate", noise(LIMIT_BYTES - 500)))),
        ):
            producer.produce(names.uploads_topic, value, key, headers=list(headers), partition=0)
    producer.flush(10)
    for number in range(20):
        world.upload(f"good{number}", f"red/{number}", partition=0)
    narrow = world.settings.model_copy(
        update={"service": world.settings.service.model_copy(update={"max_in_flight": 4})}
    )
    async with world.service(narrow) as service:
        await eventually(lambda: sum(service.outcomes().values()) == 32)
        assert service.outcomes()["dead_lettered"] == 9
        assert service.not_ready() == []
    assert len(world.dead()) == 9
    assert by_key(world.tags()).keys() == {"large", *(f"good{number}" for number in range(20))}
    assert world.committed()[0] == 32


async def test_the_service_and_the_command_name_topics_that_lose_records(world: World) -> None:
    set_topic(world, world.settings.kafka.tags_topic, cleanup_policy="delete")
    set_topic(world, world.settings.kafka.dead_topic, max_message_bytes="20000")
    async with world.service():
        lines = world.events_logged("topic.misconfigured")
    assert [(line["topic"], line["setting"]) for line in lines] == [
        (world.settings.kafka.tags_topic, "cleanup.policy"),
        (world.settings.kafka.dead_topic, "max.message.bytes"),
    ]
    ended = await asyncio.to_thread(photo_tagger, "topics", env=environment(world.settings))
    assert ended.returncode == 0
    told = json.loads(ended.stdout)
    assert (told["created"], [each["mend"] for each in told["problems"]]) == ([], [line["mend"] for line in lines])
    for line in lines:
        assert line["mend"] in ended.stderr
        assert line["detail"] in ended.stderr
        _, setting, value = line["mend"].rpartition(" ")[2].partition("=")
        assert setting
        set_topic(world, line["topic"], **{line["setting"].replace(".", "_"): value})
    assert (await asyncio.to_thread(photo_tagger, "topics", env=environment(world.settings))).stderr == ""


async def create_again(world: World, topic: str) -> None:
    """Creates a topic that was deleted, once the cluster has finished that."""
    admin = AdminClient({"bootstrap.servers": world.kafka})

    def created() -> bool:
        with suppress(KafkaException):
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
            return True
        return False

    await eventually(created)


@pytest.mark.parametrize("gone", ["dead", "tags"])
async def test_a_topic_that_is_deleted_is_named_and_waited_for_and_photos_that_do_without_it_go_on(
    world: World, gone: str
) -> None:
    world.photos.answers["red"] = RED
    quick = {**world.settings.kafka.extra, "topic.metadata.refresh.interval.ms": 500}
    quick["topic.metadata.propagation.max.ms"] = 500
    kafka = world.settings.kafka.model_copy(update={"extra": quick})
    topic = kafka.dead_topic if gone == "dead" else kafka.tags_topic
    admin = AdminClient({"bootstrap.servers": world.kafka})
    async with world.service(world.settings.model_copy(update={"kafka": kafka})) as service:
        world.upload("first", "red/first", partition=0)
        world.send("bad0", b"{}", events.UPLOADED, partition=0)
        await eventually(lambda: service.outcomes() == {"tagged": 1, "dead_lettered": 1})
        admin.delete_topics([topic])[topic].result(10)
        world.send("bad1", b"{}", events.UPLOADED, partition=0)
        if gone == "tags":
            world.upload("late", "red/late", partition=0)
        await eventually(lambda: f"kafka (topic {topic})" in service.dependencies.lost)
        if gone == "dead":
            for number in range(20):
                world.upload(f"good{number}", f"red/{number}", partition=1)
                await eventually(lambda number=number: service.outcomes()["tagged"] == 2 + number)
                assert f"kafka (topic {topic})" in service.dependencies.lost, "the others do not say that it is back"
        lost = [line for line in world.events_logged("dependency.lost") if topic in line["detail"]]
        assert len([line for line in lost if line["waited_s"] == 0]) == 1
        assert service.outcomes()["dead_lettered"] == (1 if gone == "dead" else 2)
        await create_again(world, topic)
        done = {"tagged": 21, "dead_lettered": 2} if gone == "dead" else {"tagged": 2, "dead_lettered": 2}
        await eventually(lambda: service.outcomes() == done)
        await eventually(lambda: service.not_ready() == [])
        assert len(world.events_logged("dependency.recovered")) == 1
    assert world.committed()[0] == 3 + (gone == "tags")


@pytest.fixture
def brokers() -> Iterator[MockCluster]:
    with mock_cluster() as started:
        yield started


@pytest.fixture
def mocked(brokers: MockCluster, redis_db: str, predictable_triton: Triton, photos: PhotoServer) -> World:
    """A world on the mock brokers."""
    photos.answers["red"] = RED
    return make_world(brokers.bootstrap_servers, redis_db, predictable_triton.grpc_url, photos, brokers.create_topics)


async def test_a_producer_that_ends_is_replaced_and_every_photo_has_its_outcome(
    brokers: MockCluster, mocked: World
) -> None:
    released = asyncio.Event()

    def held(status: int, body: bytes) -> Callable[[], Awaitable[web.StreamResponse]]:
        async def answer() -> web.StreamResponse:
            await released.wait()
            return web.Response(status=status, body=body)

        return answer

    mocked.photos.answers.update({"red": held(200, RED), "missing": held(404, b"")})
    async with mocked.service() as service:
        for batch in range(3):
            released.clear()
            for number in range(10):
                mocked.upload(f"p{batch}-{number}", f"red/{batch}-{number}")
            mocked.upload(f"bad{batch}", f"missing/{batch}")
            await eventually(lambda asked=11 * (batch + 1): len(mocked.photos.requests) == asked)
            # Only now, so that they hit the service's producer and not the one that uploads.
            for broker in (1, 2):
                brokers.fail_next(broker, PRODUCE, [OUT_OF_ORDER])
            released.set()
            await eventually(lambda done=11 * (batch + 1): sum(service.outcomes().values()) == done)
            assert not brokers.failures_left(1, PRODUCE) + brokers.failures_left(2, PRODUCE)
        assert service.live()
        assert service.failure is None
    assert mocked.events_logged("producer.rebuilt")
    assert len(by_key(mocked.tags())) == 30
    assert by_key(mocked.dead()).keys() == {"bad0", "bad1", "bad2"}


async def test_a_thread_of_acknowledgements_that_ended_is_noticed_by_the_probes(
    brokers: MockCluster, mocked: World
) -> None:
    released = asyncio.Event()

    async def held() -> web.StreamResponse:
        await released.wait()
        return web.Response(body=RED)

    mocked.photos.answers["held"] = held
    async with mocked.service() as service:
        mocked.upload("first", "red/first")
        mocked.upload("second", "held/second")
        await eventually(lambda: service.outcomes() == {"tagged": 1} and len(mocked.photos.requests) == 2)
        await eventually(lambda: service.not_ready() == [])
        assert service.live()
        # Only now, so that they hit the service's producer and not the one that uploads; nor is any new one let in.
        for broker in (1, 2):
            brokers.fail_next(broker, INIT_PRODUCER_ID, [NOT_ALLOWED] * 500)
            brokers.fail_next(broker, PRODUCE, [OUT_OF_ORDER])
        released.set()
        await eventually(lambda: service.failure is not None)
        await eventually(lambda: not service.live())
        assert "the producer's thread" in service.not_ready()
        assert isinstance(service.failure, ProducerFailed)


async def test_a_service_that_may_not_write_ends_with_exit_code_5_and_says_why(
    brokers: MockCluster, mocked: World, tmp_path: Path
) -> None:
    for broker in (1, 2):
        brokers.fail_next(broker, INIT_PRODUCER_ID, [NOT_ALLOWED] * 500)
    with running_tagger(mocked.settings, tmp_path, port=free_port()) as tagger:
        assert await asyncio.to_thread(tagger.process.wait, 60) == 5
    assert "CLUSTER_AUTHORIZATION_FAILED" in tagger.log_path.read_text()
