"""A real Redis Cluster whose slots move, whose masters die and come back: nothing is lost, split or dead-lettered."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from consumer import telemetry
from consumer.embedded.servers import Servers
from consumer.errors import DependencyDown
from consumer.events import Deletion, Tags
from consumer.operations import admin, dead_letters, rebuild
from consumer.operations.sweep import sweep
from consumer.redis.schema import bucket, fields_of, photo_key
from consumer.redis.store import Store
from consumer.resilience import Dependencies
from consumer.service.run import Service
from consumer.settings import Settings
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog
from tests.harness import BLUE, RED, World, eventually
from tests.harness_process import environment, photo_tagger
from tests.harness_redis import RedisPlace, move_key, move_slots, moving, owner_of, slot_of_bucket, start_cluster
from tests.integration.test_store import make_deletion, make_tags
from tests.redis_cluster import command

T = TypeVar("T")

BRANDS = ("adidas", "puma", "shell")


def of_bucket(name: str, count: int) -> list[str]:
    """Ids of photos that share a bucket."""
    found = (f"photo-{number}" for number in range(100_000) if bucket(f"photo-{number}") == name)
    return [next(found) for _ in range(count)]


def some_write(photo_id: str, number: int) -> Tags | Deletion:
    """What a version of a photo says, always the same."""
    chance = random.Random(f"{photo_id} {number}")
    if chance.random() < 0.1:
        return make_deletion(photo_id, number)
    brands = tuple(chance.sample(BRANDS, chance.randrange(4)))
    return make_tags(photo_id, number, brands, round(chance.random(), 6))


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """As the pipeline calls the store."""
    return await Dependencies(RecordingLog(), Metrics()).retry_until_available("redis", call)


async def put(store: Store, write: Tags | Deletion) -> None:
    await patiently(lambda: store.write(write))


def assert_in_force(place: RedisPlace, newest: dict[str, Tags | Deletion]) -> None:
    """Redis holds exactly these, and its indexes name what they say."""
    expected = set()
    with place.reader() as reader:
        found = reader.get_many(newest)
    for photo_id, write in newest.items():
        if isinstance(write, Deletion):
            assert photo_id not in found
        else:
            assert fields_of(found[photo_id]) == fields_of(write)
            expected |= {(brand.brand, photo_id, write.quality.score) for brand in write.brands}
    assert place.index() == expected


@pytest.fixture
def settings_of(world: World, cluster: RedisPlace) -> Settings:
    """The world's settings, with Redis on the cluster."""
    redis = world.settings.redis.model_copy(update={"url": cluster.url, "cluster": True})
    world.settings = world.settings.model_copy(update={"redis": redis})
    return world.settings


@pytest.fixture(scope="module")
def with_replica(servers: Servers) -> Iterator[RedisPlace]:
    """A cluster of three masters, the first of which has a replica."""
    cluster = start_cluster(servers, "with-replica", replicas=1)
    yield RedisPlace(cluster.url, cluster)
    for node in cluster.nodes:
        node.kill()


async def test_racing_writers_leave_the_newest_version_and_an_index_in_step_while_slots_move(
    cluster: RedisPlace,
) -> None:
    assert cluster.cluster is not None
    buckets = ("00", "21", "42")
    photos = [photo_id for bucket in buckets for photo_id in of_bucket(bucket, 5)]
    newest: dict[str, Tags | Deletion] = {}
    slots = [slot_of_bucket(bucket) for bucket in buckets] * 3
    moves = asyncio.create_task(asyncio.to_thread(move_slots, cluster.cluster, slots, 0.02))

    async def write_until_moved(seed: int) -> int:
        chance, written = random.Random(seed), 0
        async with cluster.store() as store:
            while not moves.done():
                write = some_write(chance.choice(photos), chance.randrange(1_000_000))
                if write.photo_id not in newest or newest[write.photo_id].version < write.version:
                    newest[write.photo_id] = write
                await put(store, write)
                written += 1
        return written

    written = await asyncio.gather(*map(write_until_moved, range(5)))
    await moves
    assert min(written) > 20
    assert_in_force(cluster, newest)


async def test_many_writes_at_once_follow_a_slot_that_moves(cluster: RedisPlace) -> None:
    assert cluster.cluster is not None
    photos = [*of_bucket("07", 20), *of_bucket("33", 20)]
    async with cluster.store() as store:
        for number in range(4):
            move_slots(cluster.cluster, [slot_of_bucket("07"), slot_of_bucket("33")], 0)
            writes = [some_write(photo_id, number) for photo_id in photos]
            assert set(await store.write_all(writes)) == {"written"}
            assert await store.differences(writes) == [None] * len(writes)
    assert_in_force(cluster, {write.photo_id: write for write in writes})


async def test_readers_find_every_photo_while_its_slot_is_split(cluster: RedisPlace) -> None:
    assert cluster.cluster is not None
    photos = of_bucket("11", 12)
    async with cluster.store() as store:
        await store.write_all([make_tags(photo_id, 1, ("puma",), 0.5) for photo_id in photos])
    slot = slot_of_bucket("11")
    target = next(node for node in cluster.cluster.nodes if node is not owner_of(cluster.cluster, slot))
    with cluster.reader() as reader, moving(cluster.cluster, slot, target) as steps:
        moved = 0
        for _ in steps:
            moved += 1
            assert reader.get_many(photos).keys() == set(photos)
        # Their index, and the set of the names of brands.
        assert moved == len(photos) + 2
        assert {found.photo_id for found in reader.find("puma")} == set(photos)
    with cluster.reader() as reader:
        assert {found.photo_id for found in reader.find("puma")} == set(photos)


async def test_a_write_that_needs_both_halves_of_a_split_slot_waits_and_changes_nothing(cluster: RedisPlace) -> None:
    assert cluster.cluster is not None
    photo, other = of_bucket("11", 2)
    async with cluster.store() as store:
        await store.write(make_tags(photo, 1, ("puma",), 0.5))
        await store.write(make_tags(other, 1, ("shell",), 0.5))
        slot = slot_of_bucket("11")
        source = owner_of(cluster.cluster, slot)
        target = next(node for node in cluster.cluster.nodes if node is not source)
        with moving(cluster.cluster, slot, target):
            move_key(source, target, photo_key(photo))
            before = await store.in_force(photo)
            with pytest.raises(DependencyDown, match="TryAgain"):
                await store.write(make_tags(photo, 2, ("shell",), 0.7))
            assert await store.in_force(photo) == before
        assert (await store.write(make_tags(photo, 2, ("shell",), 0.7))).outcome == "written"
    assert cluster.index() == {("shell", photo, 0.7), ("shell", other, 0.5)}


async def test_a_node_that_joins_is_found_before_it_owns_a_slot(with_replica: RedisPlace) -> None:
    cluster = with_replica.cluster
    assert cluster is not None
    with_replica.flush()
    joining = cluster.nodes[-1]
    command(joining, "CLUSTER", "RESET", "SOFT")
    command(joining, "CLUSTER", "MEET", "127.0.0.1", cluster.nodes[0].port)
    cluster.wait_ready()
    photos = of_bucket("11", 3)
    async with with_replica.store() as store:
        await store.write_all([make_tags(photo_id, 1, (), 0.5) for photo_id in photos])
        with with_replica.reader() as reader:
            assert len(reader.get_many(photos)) == 3
            with moving(cluster, slot_of_bucket("11"), joining) as steps:
                for number, _ in enumerate(steps, 2):
                    assert reader.get_many(photos).keys() == set(photos)
                    writes = [make_tags(photo_id, number, (), 0.5) for photo_id in photos]
                    assert set(await store.write_all(writes)) == {"written"}
    with moving(cluster, slot_of_bucket("11"), cluster.nodes[0]):
        pass
    command(joining, "CLUSTER", "REPLICATE", cluster.node_id(cluster.nodes[0]))
    cluster.wait_ready()
    assert_in_force(with_replica, {write.photo_id: write for write in writes})


async def test_a_replica_takes_over_and_writes_go_on(with_replica: RedisPlace) -> None:
    cluster = with_replica.cluster
    assert cluster is not None
    with_replica.flush()
    photos = [f"photo-{number}" for number in range(60)]
    async with with_replica.store(timeout_s=1.0) as store:
        await store.write_all([some_write(photo_id, 1) for photo_id in photos])
        cluster.nodes[0].kill()
        writes = [some_write(photo_id, 2) for photo_id in photos]
        await asyncio.gather(*(put(store, write) for write in writes))
        assert_in_force(RedisPlace(cluster.nodes[1].url, cluster), {write.photo_id: write for write in writes})
    cluster.nodes[0].start()
    cluster.wait_ready()
    assert_in_force(with_replica, {write.photo_id: write for write in writes})


async def test_the_service_waits_for_a_master_that_died_and_dead_letters_nothing(
    world: World, settings_of: Settings, cluster: RedisPlace
) -> None:
    assert cluster.cluster is not None
    world.photos.answers.update({"red": RED, "blue": BLUE})
    photos = {f"photo-{number}": ("red", "blue")[number % 2] for number in range(40)}
    async with world.service(settings_of) as service:
        for photo_id, name in list(photos.items())[:20]:
            world.upload(photo_id, name)
        await eventually(lambda: service.outcomes() == {"tagged": 20})
        cluster.cluster.nodes[1].kill()
        for photo_id, name in list(photos.items())[20:]:
            world.upload(photo_id, name)
        await eventually(lambda: "redis" in service.dependencies.lost)
        cluster.cluster.nodes[1].start()
        await eventually(lambda: service.outcomes() == {"tagged": 40})
        assert service.dependencies.lost == ()
    cluster.cluster.wait_ready()
    assert world.dead() == []
    with cluster.reader() as reader:
        found = reader.get_many(photos)
        expected = {"red": ("crimson",), "blue": ("azure",)}
        assert {key: tuple(brand.brand for brand in tags.brands) for key, tags in found.items()} == {
            photo_id: expected[name] for photo_id, name in photos.items()
        }
        assert {hit.photo_id for hit in reader.find("azure")} == {key for key, name in photos.items() if name == "blue"}


async def test_a_rebuilt_cluster_is_the_same_byte_for_byte(
    world: World, settings_of: Settings, cluster: RedisPlace
) -> None:
    world.photos.answers.update({"red": RED, "blue": BLUE})

    async def settled(service: Service, count: int) -> None:
        await eventually(lambda: sum(service.outcomes().values()) == count)

    async with world.service(settings_of) as service:
        for number in range(20):
            world.upload(f"photo-{number}", ("red", "blue")[number % 2], revision=1)
        await settled(service, 20)
        for number in range(0, 20, 4):
            world.upload(f"photo-{number}", "blue", revision=2)
            world.delete(f"photo-{number + 1}", revision=1)
        await settled(service, 30)
    before = cluster.dump()
    cluster.flush()
    log = telemetry.configure_logging("debug", "json", world.log)
    result = await rebuild.rebuild(settings_of, log, lambda *_: None)
    assert result.records == 30
    assert cluster.dump() == before
    checked = await rebuild.check(settings_of, log, lambda *_: None, lambda *_: None)
    assert checked.outcomes == {"same": 30}


async def test_the_commands_work_on_a_cluster(settings_of: Settings, cluster: RedisPlace, tmp_path: Path) -> None:
    async with cluster.store() as store:
        await store.write_all([make_tags(f"photo-{number}", 1, ("puma",), number / 100) for number in range(70)])
    with cluster.client() as client:
        client.delete(photo_key("photo-5"))
    assert admin.read_tags(settings_of, ["photo-1", "photo-69", "nobody"], 0.0).keys() == {"photo-1", "photo-69"}
    assert dead_letters.list_letters(settings_of, dead_letters.Query()).letters == []
    swept = sweep(**settings_of.redis.model_dump(), execute=True, found=lambda _: None)
    assert (swept.entries, swept.outcomes) == (70, {"removed": 1})
    answer = await asyncio.to_thread(
        photo_tagger, "find", "puma", "--limit", "3", env=environment(settings_of), cwd=tmp_path
    )
    assert (answer.returncode, answer.stdout.count("photo-6")) == (0, 3), answer.stderr


async def test_a_cluster_that_was_not_announced_is_named_as_the_reason(cluster: RedisPlace) -> None:
    async with Store(cluster.url, timeout_s=5) as store:
        with pytest.raises(DependencyDown, match=r"redis\.cluster"):
            await store.write_all([make_tags(f"photo-{number}", 1) for number in range(9)])


async def test_a_server_that_is_no_cluster_is_named_as_the_reason(redis_db: str) -> None:
    async with Store(redis_db, timeout_s=5, cluster=True) as store:
        with pytest.raises(DependencyDown, match="cluster support disabled"):
            await store.ping()
