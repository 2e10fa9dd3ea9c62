"""A dependency's outage is not the photo's fault: nothing is dead-lettered, nothing is lost, work resumes by itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from consumer import events, layout
from consumer.embedded.kafka import Kafka
from consumer.embedded.paths import free_port
from consumer.embedded.redis import Redis
from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton
from consumer.reader import TagReader
from tests.fake_models import write_repository
from tests.harness import RED, PhotoServer, World, by_key, eventually, make_world
from tests.harness_process import running_tagger

Server = Kafka | Redis | Triton


@pytest.fixture(scope="module")
def breakable(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Servers of this module's own, to kill."""
    started = {
        "kafka": servers.start_kafka("real", name="kafka-to-kill"),
        "redis": servers.start_redis(name="redis-to-kill"),
        "triton": servers.start_triton(write_repository(tmp_path_factory.mktemp("models")), name="triton-to-kill"),
    }
    yield started
    for server in started.values():
        server.kill()


@pytest.fixture
def fragile(breakable: dict[str, Server], photos: PhotoServer) -> World:
    """A world on the servers that may be killed."""
    kafka, store, triton = breakable["kafka"], breakable["redis"], breakable["triton"]
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
    return make_world(kafka.bootstrap_servers, store.url, triton.grpc_url, photos)


async def ledger_holds(world: World, photo_ids: set[str]) -> None:
    """Every photo is tagged in Redis and in the result topic, alike, and there is no dead letter."""
    with TagReader(world.settings.redis.url) as reader:
        await eventually(lambda: reader.get_many(photo_ids).keys() == photo_ids, deadline_s=60)
        found = reader.get_many(photo_ids)
    await eventually(lambda: by_key(world.tags()).keys() == photo_ids)
    for photo_id, message in by_key(world.tags()).items():
        published = events.decode_tags(message.value())
        assert layout.fields_of(published) == layout.fields_of(found[photo_id])
    assert world.dead() == []


def send(world: World, prefix: str, count: int) -> set[str]:
    """Uploads photos of different bytes, so that each needs Triton."""
    ids = {f"{prefix}{number}" for number in range(count)}
    for photo_id in sorted(ids):
        world.photos.answers[photo_id] = RED + photo_id.encode()
        world.upload(photo_id)
    return ids


@pytest.mark.parametrize("name", ["triton", "redis"])
async def test_photos_wait_while_a_server_is_dead_and_are_tagged_when_it_is_back(
    fragile: World, breakable: dict[str, Server], name: str
) -> None:
    async with fragile.service() as service:
        ids = send(fragile, "before", 10)
        await eventually(lambda: service.outcomes() == {"tagged": 10})
        breakable[name].kill()
        ids |= send(fragile, "during", 150)
        await eventually(lambda: name in service.not_ready())
        assert service.live()
        assert "dead_lettered" not in service.outcomes()
        await asyncio.to_thread(breakable[name].start)
        await eventually(lambda: service.outcomes().get("tagged") == 160, deadline_s=60)
        assert service.not_ready() == []
    await ledger_holds(fragile, ids)
    lines = [line for line in fragile.events_logged("dependency.recovered") if line["dependency"] == name]
    assert len(lines) == 1
    assert sum(fragile.committed().values()) == 160


async def test_photos_in_work_survive_the_brokers_restart(fragile: World, breakable: dict[str, Server]) -> None:
    async with fragile.service() as service:
        ids = send(fragile, "before", 30)
        await eventually(lambda: service.outcomes().get("tagged", 0) > 0)
        breakable["kafka"].kill()
        await asyncio.to_thread(breakable["kafka"].start)
        ids |= send(fragile, "after", 30)
        await eventually(lambda: sum(fragile.committed().values()) == 60, deadline_s=60)
    await ledger_holds(fragile, ids)


@pytest.mark.parametrize("name", ["triton", "redis"])
async def test_a_server_that_hangs_is_not_waited_for_by_the_kafka_thread(
    fragile: World, breakable: dict[str, Server], name: str
) -> None:
    async with fragile.service() as service:
        ids = send(fragile, "before", 5)
        await eventually(lambda: service.outcomes() == {"tagged": 5})
        breakable[name].pause()
        try:
            ids |= send(fragile, "during", 100)
            await eventually(lambda: name in service.not_ready())
            assert service.live()
        finally:
            breakable[name].resume()
        await eventually(lambda: service.outcomes().get("tagged", 0) + service.outcomes().get("unchanged", 0) == 105)
    await ledger_holds(fragile, ids)


async def test_a_killed_service_repeats_only_what_was_not_committed(fragile: World, tmp_path: Path) -> None:
    ids = send(fragile, "photo", 120)
    await asyncio.to_thread(run_and_kill, fragile, tmp_path)
    async with fragile.service() as service:
        await eventually(lambda: sum(fragile.committed().values()) == 120, deadline_s=60)
        assert service.outcomes().keys() <= {"tagged", "unchanged"}
    await ledger_holds(fragile, ids)


def run_and_kill(world: World, folder: Path) -> None:
    """Runs a service until it has tagged something, then kills it without a word."""
    with running_tagger(world.settings, folder, port=free_port()) as tagger:
        tagger.wait_ready()
        while len(world.tags()) < 10:
            assert tagger.process.poll() is None
        tagger.process.kill()
        tagger.process.wait()
