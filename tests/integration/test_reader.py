"""Both readers on Redis 6.2 to 8, Valkey and a cluster: the best photos by any wish, brands, and an index in step."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import RedisError

from consumer.events import Quality, Tags
from consumer.operations.sweep import Entry, sweep
from consumer.reader import AsyncTagReader, TagReader
from consumer.redis.schema import bucket, index_prefix, names_key, photo_key, quality_key
from consumer.redis.store import Store
from consumer.tags import level_of
from tests.harness_redis import RedisPlace
from tests.integration.test_store import NOW, make_deletion, make_tags

#: Asks a reader: the name of a method and its arguments.
Ask = Callable[..., Awaitable[Any]]


async def with_threads(place: RedisPlace, said: list[str], method: str, *arguments: Any, **options: Any) -> Any:
    def call() -> Any:
        with TagReader(place.url, timeout_s=5, cluster=place.cluster is not None, unreadable=said.append) as reader:
            return getattr(reader, method)(*arguments, **options)

    return await asyncio.to_thread(call)


async def with_asyncio(place: RedisPlace, said: list[str], method: str, *arguments: Any, **options: Any) -> Any:
    async with AsyncTagReader(
        place.url, timeout_s=5, cluster=place.cluster is not None, unreadable=said.append
    ) as reader:
        return await getattr(reader, method)(*arguments, **options)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(params=[with_threads, with_asyncio])
def ask(request: pytest.FixtureRequest, place: RedisPlace, said: list[str]) -> Ask:
    def asked(method: str, *arguments: Any, **options: Any) -> Awaitable[Any]:
        answer: Awaitable[Any] = request.param(place, said, method, *arguments, **options)
        return answer

    return asked


def rated(photo_id: str, number: int, score: float, brands: tuple[str, ...] = (), *, hours: int = 0) -> Tags:
    quality = Quality(score, level_of(score), good=score >= 0.5)
    tagged_at = NOW + timedelta(hours=hours)
    return replace(make_tags(photo_id, number, brands), quality=quality, tagged_at=tagged_at)


async def test_the_best_photos_are_found_by_brands_level_time_and_without_any(place: RedisPlace, ask: Ask) -> None:
    photos = [
        rated("best", 1, 0.95, ("puma",)),
        rated("good-1", 1, 0.7),
        rated("good-2 ü", 1, 0.7, ("puma", "shell"), hours=2),
        rated("fair", 1, 0.5, hours=3),
        rated("poor", 1, 0.2, ("shell",)),
        rated("bad", 1, 0.05),
    ]
    async with place.store() as store:
        await store.write_all(photos)

    async def names(*arguments: Any, **options: Any) -> list[str]:
        return [each.photo_id for each in await ask("find", *arguments, **options)]

    assert await names() == ["best", "good-2 ü", "good-1", "fair"]
    assert await names("puma") == ["best", "good-2 ü"]
    assert await names(["shell", "puma", "nothing"]) == ["best", "good-2 ü", "poor"]
    assert await names(level=4) == ["good-2 ü", "good-1"]
    assert await names(["shell"], level=2) == ["poor"]
    assert await names(since=NOW + timedelta(hours=2)) == ["good-2 ü", "fair"]
    assert await names(None, 0.6, limit=2) == ["best", "good-2 ü"]
    assert await ask("brands") == {"puma": 2, "shell": 2}
    (found,) = await ask("find", "puma", 0.9)
    assert (found.level, found.brands, found.tagged_at) == (5, ("puma",), NOW)


async def test_pages_are_stable_while_tags_are_written(place: RedisPlace, ask: Ask) -> None:
    chance = random.Random(11)
    kept = {f"kept-{number}": round(0.5 + chance.random() / 2, 6) for number in range(200)}
    async with place.store() as store:
        await store.write_all([rated(name, 1, score) for name, score in kept.items()])
        seen, cursor, number = list[str](), None, 0
        while number == 0 or cursor is not None:
            page = await ask("find", limit=30, cursor=cursor)
            seen += [each.photo_id for each in page]
            cursor = page.cursor
            await store.write_all([rated(f"new-{number}-{each}", 1, 0.5 + chance.random() / 2) for each in range(20)])
            number += 1
    held = [name for name in seen if name in kept]
    assert held == sorted(kept, key=lambda name: (-kept[name], name))
    assert len(seen) == len(set(seen))


async def test_five_hundred_photos_take_one_round_trip_and_more_come_in_chunks(place: RedisPlace, ask: Ask) -> None:
    names = [f"photo-{number}" for number in range(1_203)]
    async with place.store() as store:
        await store.write_all([make_tags(name, 1) for name in names])
        await store.write(make_deletion("photo-7", 1))
    found = await ask("get_many", [*names, "nobody", "\udcff", *names])
    assert list(found) == [name for name in names if name != "photo-7"]
    assert await ask("get", "photo-7") is None
    assert await ask("get", "photo-8") == replace(make_tags("photo-8", 1), probabilities={})


async def test_keys_of_another_program_cost_their_own_photos_alone_and_are_named(
    place: RedisPlace, ask: Ask, said: list[str]
) -> None:
    async with place.store() as store:
        await store.write_all([rated(f"photo-{number}", 1, 0.9, ("puma",)) for number in range(70)])
    taken = (quality_key(bucket("photo-1")), names_key("03"), index_prefix("05") + "puma")
    with place.client() as client:
        for key in taken:
            client.delete(key)
            client.set(key, "x")
    lost = {f"photo-{number}" for number in range(70) if bucket(f"photo-{number}") == bucket("photo-1")}
    everyone = {f"photo-{number}" for number in range(70)}
    assert {each.photo_id for each in await ask("find")} == everyone - lost
    unlisted = sum(bucket(name) == "05" for name in everyone)
    assert await ask("brands") == {"puma": 70 - unlisted}
    assert [any(key in line for line in said) for key in taken] == [True] * 3


async def test_a_redis_that_is_away_is_an_error_of_redis() -> None:
    away = RedisPlace("redis://127.0.0.1:1/0")
    for call in (with_threads, with_asyncio):
        for method in ("get_many", "find", "brands"):
            arguments = (["a"],) if method == "get_many" else ()
            with pytest.raises(RedisError):
                await call(away, [], method, *arguments)


async def test_the_index_of_good_photos_follows_every_write(place: RedisPlace) -> None:
    async with place.store() as store:
        await store.write_all([rated("p", 1, 0.9), rated("q", 1, 0.8), rated("r", 1, 0.7), rated("s", 1, 0.2)])
        assert place.good() == {("p", 0.9), ("q", 0.8), ("r", 0.7)}
        await store.write_all([rated("p", 2, 0.6), rated("q", 2, 0.3), make_deletion("r", 2), rated("s", 2, 0.55)])
        assert place.good() == {("p", 0.6), ("s", 0.55)}
        assert await store.write_all([rated("p", 1, 0.99)]) == ["superseded"]
    assert place.good() == {("p", 0.6), ("s", 0.55)}


async def test_racing_writers_leave_an_index_of_good_photos_in_step(place: RedisPlace) -> None:
    chance = random.Random(20261129)
    writes = [
        make_deletion(name, number) if chance.random() < 0.15 else rated(name, number, round(chance.random(), 6))
        for name in ("a", "b", "c {x} ü")
        for number in range(40)
    ]
    newest = {write.photo_id: write for write in sorted(writes, key=lambda write: write.version)}
    chance.shuffle(writes)
    async with place.store() as store:
        await asyncio.gather(*map(store.write, writes))
    right = {
        (each.photo_id, each.quality.score) for each in newest.values() if isinstance(each, Tags) and each.quality.good
    }
    assert place.good() == right


async def written_by_an_older_version(place: RedisPlace, store: Store) -> list[Tags]:
    """Photos as a version without the index of good photos and the names of brands left them."""
    photos = [rated(f"photo-{number}", 1, round(number / 100, 6), ("puma",)) for number in range(100)]
    await store.write_all(photos)
    with place.masters() as masters:
        for master in masters:
            for key in [*master.keys("q:*"), *master.keys("n:*")]:
                master.delete(key)
    return photos


async def test_photos_of_an_older_version_keep_all_they_had_and_a_rebuild_adds_the_index(
    place: RedisPlace, ask: Ask
) -> None:
    async with place.store() as store:
        photos = await written_by_an_older_version(place, store)
        assert len(await ask("find", "puma")) == 100
        assert await ask("get", "photo-99") is not None
        assert await ask("find") == []
        differences = await store.differences(photos)
        assert [each == "not indexed" for each in differences] == [each.quality.good for each in photos]
        outcomes = await store.write_all(photos)
        assert set(outcomes) == {"mended", "unchanged"}
        assert await store.differences(photos) == [None] * 100
        assert await store.write_all(photos) == ["unchanged"] * 100
    assert len(await ask("find")) == 50
    assert await ask("brands") == {"puma": 100}


async def test_an_older_photo_that_is_written_again_is_in_the_index(place: RedisPlace) -> None:
    async with place.store() as store:
        photos = await written_by_an_older_version(place, store)
        assert (await store.write(photos[90])).outcome == "mended"
        assert (await store.write(photos[10])).outcome == "unchanged"
        assert (await store.write(rated("photo-91", 2, 0.75, ("shell",)))).outcome == "written"
    assert place.good() == {("photo-90", 0.9), ("photo-91", 0.75)}
    assert place.names() == {"shell"}


async def test_a_sweep_finds_what_the_index_of_good_photos_has_too_much(place: RedisPlace) -> None:
    async with place.store() as store:
        await store.write_all([rated(name, 1, 0.9) for name in ("stays", "expired", "rescored", "worse")])
        await store.write(rated("poor", 1, 0.3))
    with place.client() as client:
        client.delete(photo_key("expired"))
        client.zadd(quality_key(bucket("rescored")), {"rescored": 0.95})
        client.hset(photo_key("worse"), "qg", "0")
        client.zadd(quality_key(bucket("poor")), {"poor": 0.3})
    found: list[Entry] = []
    cluster = place.cluster is not None
    result = sweep(place.url, timeout_s=5, execute=True, found=found.append, cluster=cluster)
    assert {(each.brand, each.photo_id) for each in found} == {
        (None, name) for name in ("expired", "rescored", "worse", "poor")
    }
    assert result.outcomes == {"removed": 3, "repaired": 1}
    assert place.good() == {("stays", 0.9), ("rescored", 0.9)}
    again = sweep(place.url, timeout_s=5, execute=True, found=found.append, cluster=cluster)
    assert (again.entries, again.orphans) == (2, 0)
