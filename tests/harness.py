"""Runs the service in the test's own event loop against real servers, and looks at what it left behind."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO, StringIO
from typing import Any

import redis
from aiohttp import web
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its types leave some out
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from PIL import Image

from consumer import events, telemetry
from consumer.errors import DependencyDown
from consumer.events import PhotoDeleted, PhotoUploaded
from consumer.kafka.topics import create_topics
from consumer.releases import release_of
from consumer.service import release_log
from consumer.service.construction import live_job
from consumer.service.run import Service
from consumer.settings import Settings
from consumer.topic_names import TopicNames
from consumer.triton.inference import TritonClient

DEADLINE_S = 30.0
#: Of every topic of a world, but the dead letters'.
PARTITIONS = 4


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (80, 60)) -> bytes:
    """A photo of one colour: crimson for red, azure for blue, no logo for grey (see `fake_models`)."""
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


RED = jpeg((250, 20, 20))
BLUE = jpeg((20, 20, 250))
BRIGHT = jpeg((240, 240, 240))
DARK = jpeg((10, 10, 10))


async def eventually(check: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
    """Polls until `check` is true; fails the test at the deadline.

    In a thread, since many read a topic: the service shares this event loop, and would stand still meanwhile.
    """
    end = time.monotonic() + deadline_s
    while not await asyncio.to_thread(check):
        assert time.monotonic() < end, f"did not happen within {deadline_s} s"
        await asyncio.sleep(0.02)


@dataclass
class PhotoServer:
    """A photo host whose answers a test decides while it runs: a body, a status, or an event to wait for.

    What is asked for as `name/anything` gets the answer of `name`; a body is then one of its own, by its last bytes.
    """

    url: str = ""
    delay_s: float = 0.0
    answers: dict[str, bytes | int | Callable[[], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Host and port, for `fetch.allow_addresses`."""
        return self.url.removeprefix("http://")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.lstrip("/")
        self.requests.append(name)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        kind, _, mark = name.partition("/")
        answer = self.answers.get(kind, 404)
        if isinstance(answer, bytes):
            return web.Response(body=answer + mark.encode())
        if isinstance(answer, int):
            return web.Response(status=answer)
        return await answer()


@asynccontextmanager
async def photo_server() -> AsyncIterator[PhotoServer]:
    """A photo host on loopback."""
    server = PhotoServer()
    app = web.Application()
    app.router.add_get("/{name:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@dataclass
class World:
    """One installation of its own on shared servers: fresh topics, a fresh group, an empty Redis."""

    settings: Settings
    log: StringIO
    producer: Producer
    photos: PhotoServer

    @property
    def kafka(self) -> str:
        return self.settings.kafka.bootstrap_servers

    def upload(
        self,
        photo_id: str,
        name: str | None = None,
        *,
        revision: int | None = None,
        partition: int = -1,
        **extra: Any,
    ) -> PhotoUploaded:
        """Publishes an upload event of a photo that the photo host serves under `name`."""
        uri = f"{self.photos.url}/{name or photo_id}"
        event = PhotoUploaded(photo_id, uri, datetime.now(UTC), revision=revision, **extra)
        self.send(photo_id, events.encode(event), events.UPLOADED, partition=partition)
        return event

    def delete(self, photo_id: str, *, revision: int | None = None) -> None:
        event = PhotoDeleted(photo_id, datetime.now(UTC), revision=revision)
        self.send(photo_id, events.encode(event), events.DELETED)

    def send(
        self,
        key: str,
        value: bytes,
        kind: str,
        *,
        partition: int = -1,
        headers: dict[str, bytes] | None = None,
        at_ms: int = 0,
    ) -> None:
        self.producer.produce(
            self.settings.kafka.uploads_topic,
            value,
            key,
            partition=partition,
            headers={"ce_type": kind.encode(), **(headers or {})},
            timestamp=at_ms,
        )
        self.producer.flush(10)

    def events_logged(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    def read(self, topic: str) -> list[Message]:
        """Every record of a topic, in order of partition and offset."""
        return read_topic(self.kafka, topic)

    async def promote(self, settings: Settings | None = None, **changes: Any) -> int:
        """Puts into force what Triton serves now, with changes; returns the number of the release."""
        triton = (settings or self.settings).triton
        end = time.monotonic() + DEADLINE_S
        async with TritonClient(triton.url, deadline_s=triton.deadline_s) as client:
            while True:
                try:
                    contract = await client.read_contract(triton.quality_model, triton.brand_model)
                    break
                except DependencyDown:  # it was started a moment ago
                    assert time.monotonic() < end
                    await asyncio.sleep(0.05)
        release = replace(release_of(contract, reason="a test", by="tests", at=datetime.now(UTC)), **changes)
        return (await asyncio.to_thread(release_log.append, self.settings.kafka, release)).number

    def tags(self) -> list[Message]:
        return self.read(self.settings.kafka.tags_topic)

    def dead(self) -> list[Message]:
        return self.read(self.settings.kafka.dead_topic)

    def waiting(self) -> list[Message]:
        """What was sent to the retry topic."""
        return self.read(self.settings.kafka.retry_topic)

    def committed(self, group: str | None = None) -> dict[int, int]:
        """The committed offset of every partition of the uploads topic (-1001 where there is none)."""
        return self.committed_of(self.settings.kafka.uploads_topic, group or self.settings.kafka.group_id)

    def committed_of(self, topic: str, group: str) -> dict[int, int]:
        """As `committed`, of any topic."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": group})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            answers = committed_offsets(consumer, [TopicPartition(topic, partition) for partition in partitions])
            return {answer.partition: answer.offset for answer in answers}
        finally:
            consumer.close()

    @asynccontextmanager
    async def service(self, settings: Settings | None = None) -> AsyncIterator[Service]:
        """The service at work on the live topic; drained at the end of the context."""
        settings = settings or self.settings
        service = Service(settings, telemetry.configure_logging("debug", "json", self.log))
        async with service.working(live_job(settings)):
            yield service


def make_world(
    kafka: str,
    redis_url: str,
    triton: str,
    photos: PhotoServer,
    create: Callable[[str, TopicNames], object] = create_topics,
) -> World:
    """A world whose names no other test uses, its topics made by `create`; Redis is the caller's to empty."""
    mark = uuid.uuid4().hex[:12]
    names = TopicNames(
        f"uploads-{mark}", f"tags-{mark}", f"dead-{mark}", f"retry-{mark}", f"releases-{mark}", f"runs-{mark}"
    )
    try:
        create(kafka, names)
    except DependencyDown:  # the broker of many tests can stand still for longer than one request waits
        create(kafka, names)
    settings = Settings(
        kafka={
            "bootstrap_servers": kafka,
            "group_id": f"group-{mark}",
            "uploads_topic": names.uploads,
            "tags_topic": names.tags,
            "dead_topic": names.dead,
            "retry_topic": names.retry,
            "releases_topic": names.releases,
            "runs_topic": names.runs,
            "extra": {"heartbeat.interval.ms": 500},
        },
        redis={"url": redis_url},
        triton={"url": triton},
        fetch={
            "schemes": ("http",),
            "allow_addresses": (photos.address,),
            "attempts": 2,
            "not_found_grace_s": 0,
        },
        service={"drain_timeout_s": 5.0},
        retry={"rounds": 1, "delays_s": (0.2,)},
    )
    # Idempotent: what is sent while a broker dies stands in the topic once.
    return World(settings, StringIO(), Producer({"bootstrap.servers": kafka, "enable.idempotence": True}), photos)


def committed_offsets(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """What the group committed; a coordinator that is still loading or moving is asked again."""
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            return consumer.committed(partitions, timeout=10)
        except KafkaException:
            if time.monotonic() > end:
                raise


def read_topic(kafka: str, topic: str) -> list[Message]:
    """Every record of a topic, in order of partition and offset, by a plain consumer without a group."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # The broker says only after this time that a partition has no more.
            "fetch.wait.max.ms": 20,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        messages: list[Message] = []
        ended: set[int] = set()
        end = time.monotonic() + DEADLINE_S
        while len(ended) < len(partitions):
            assert time.monotonic() < end, f"{topic} could not be read"
            message = consumer.poll(0.2)
            if message is not None:
                if message.error() is None:
                    messages.append(message)
                else:
                    ended.add(message.partition())
        return sorted(messages, key=lambda message: (message.partition(), message.offset()))
    finally:
        consumer.close()


def set_topic(world: World, topic: str, **settings: str) -> None:
    """Changes settings of a topic, and waits until the broker has them; their names have `_` for `.`."""
    admin = AdminClient({"bootstrap.servers": world.kafka})
    wanted = {name.replace("_", "."): value for name, value in settings.items()}
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result(10)
    end = time.monotonic() + DEADLINE_S
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    # The controller has them, and the broker hears of them a little later.
    while True:
        found = admin.describe_configs([asked])[asked].result(10)
        if all(found[name].value == value for name, value in wanted.items()):
            return
        assert time.monotonic() < end, f"{topic} did not take {wanted}"


def dump(redis_url: str) -> dict[str, bytes]:
    """Photos and indexes with their serialised values, without TTL."""
    with redis.Redis.from_url(redis_url) as client:
        return {key.decode(): client.dump(key) for key in client.keys("[pb]:*")}


def headers_of(message: Message) -> dict[str, str]:
    """The headers as text; the last of a name wins."""
    return {name: value.decode() for name, value in message.headers() or ()}


def by_key(messages: Sequence[Message]) -> dict[str, Message]:
    """The last record of each key."""
    return {message.key().decode(): message for message in messages}
