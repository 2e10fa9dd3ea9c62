"""Whatever a Redis refuses for reasons of its own is waited for, nothing is half-written, and work goes on after it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from consumer.embedded.redis import Redis
from consumer.embedded.servers import Servers
from consumer.errors import DependencyDown
from consumer.redis.schema import bucket, index_prefix
from consumer.redis.store import Store, Written
from consumer.resilience import Dependencies
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog
from tests.harness import eventually
from tests.harness_redis import RedisPlace
from tests.integration.test_store import make_deletion, make_tags

_ROOM_BYTES = 100_000


@contextmanager
def little_memory(place: RedisPlace) -> Iterator[None]:
    """Every master may use a little more than it does now."""
    with place.masters() as masters:
        for master in masters:
            master.config_set("maxmemory", master.info("memory")["used_memory"] + _ROOM_BYTES)
        try:
            yield
        finally:
            for master in masters:
                master.config_set("maxmemory", 0)


def fill(place: RedisPlace) -> None:
    """No master may use as much as it does: what buffers give back must not make room."""
    with place.masters() as masters:
        for master in masters:
            master.config_set("maxmemory", "1mb")


def assert_in_step(place: RedisPlace, photo_ids: list[str]) -> None:
    """The indexes name exactly what the hashes say."""
    with place.reader() as reader:
        found = reader.get_many(photo_ids)
    said = {(brand.brand, key, tags.quality.score) for key, tags in found.items() for brand in tags.brands}
    assert place.index() == said


async def test_a_full_redis_takes_nothing_by_halves_and_goes_on_when_there_is_room(place: RedisPlace) -> None:
    photos = [f"photo-{number}" for number in range(1_500)]
    metrics = Metrics()
    dependencies = Dependencies(RecordingLog(), metrics)
    async with place.store() as store:
        await store.write_all([make_tags(photo_id, 1, ("puma", "shell"), 0.5) for photo_id in photos[:50]])
        with little_memory(place):
            with pytest.raises(DependencyDown, match="maxmemory"):
                await store.write_all([make_tags(photo_id, 1, ("adidas", "x" * 90), 0.7) for photo_id in photos])
            assert_in_step(place, photos)
            fill(place)
            # A photo that was there loses and gains brands, or goes: refused as a whole, too.
            before = place.dump()
            refused = 0
            for photo_id in photos[:50]:
                for write in (
                    store.write(make_tags(photo_id, 2, ("new",), 0.9)),
                    store.write(make_deletion(photo_id, 2)),
                ):
                    try:
                        await write
                    except DependencyDown:
                        refused += 1
            assert refused == 100
            assert place.dump() == before
            assert_in_step(place, photos)
            waiting = asyncio.create_task(
                dependencies.retry_until_available(
                    "redis", lambda: store.write_all([make_tags(photo_id, 3) for photo_id in photos])
                )
            )
            await eventually(lambda: dependencies.lost == ("redis",))
        # The masters of a cluster have room one after the other: what one took is there when the call is repeated.
        assert set(await waiting) <= ({"written"} if place.cluster is None else {"written", "unchanged"})
    assert dependencies.lost == ()
    assert place.index() == set()


async def test_a_redis_that_loads_its_file_is_waited_for(servers: Servers) -> None:
    # It looks at its clients once in 1,024 commands while it loads.
    server = servers.start_redis("slow-to-load", options=["--key-load-delay", "100"])
    with redis.Redis.from_url(server.url) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(16_000):
            pipeline.set(f"other:{number}", 1)
        pipeline.execute()
    dependencies = Dependencies(RecordingLog(), Metrics())
    async with Store(server.url, timeout_s=5) as store:
        await store.write(make_tags("photo-1", 1))
        server.kill()
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        told: list[str] = []

        async def write() -> Written:
            try:
                return await store.write(make_tags("photo-1", 2))
            except DependencyDown as down:
                told.append(down.detail)
                raise

        assert (await dependencies.retry_until_available("redis", write)).outcome == "written"
        assert any("BusyLoadingError" in detail for detail in told), told
        await starting
    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 16_001
    server.kill()


async def test_a_replica_refuses_until_it_is_promoted(servers: Servers, redis_server: Redis) -> None:
    replica = servers.start_redis("replica", options=["--replicaof", "127.0.0.1", str(redis_server.port)])
    async with Store(replica.url, timeout_s=5) as store:
        with pytest.raises(DependencyDown, match=r"(?i)read.?only"):
            await store.write(make_tags("promoted", 1, ("puma",)))
        with redis.Redis.from_url(replica.url) as client:
            client.replicaof("NO", "ONE")
        assert (await store.write(make_tags("promoted", 1, ("puma",)))).outcome == "written"
        with redis.Redis.from_url(replica.url, decode_responses=True) as client:
            assert client.zscore(index_prefix(bucket("promoted")) + "puma", "promoted") == 0.5
    replica.kill()


async def test_a_password_that_is_missing_or_wrong_is_an_outage_and_is_not_told(servers: Servers) -> None:
    server = servers.start_redis("locked", options=["--requirepass", "open-sesame"])
    wrong, right = (server.url.replace("//", f"//:{word}@") for word in ("guessed-word", "open-sesame"))
    for url in (server.url, wrong):
        async with Store(url, timeout_s=5) as store:
            with pytest.raises(DependencyDown, match=r"(?i)auth") as told:
                await store.write(make_tags("p", 1))
            assert "guessed-word" not in str(told.value)
    async with Store(right, timeout_s=5) as store:
        assert (await store.write(make_tags("p", 1))).outcome == "written"
    server.kill()
