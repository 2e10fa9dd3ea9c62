"""The sweeper on a real Redis: orphans go, everything else stays, and no concurrent writer loses an entry."""

import asyncio
import random

import pytest

from consumer.events import Tags
from consumer.operations.sweep import Entry, SweepResult, sweep
from consumer.redis.schema import bucket, decision_of, index_prefix, photo_key
from tests.harness_redis import RedisPlace
from tests.integration.test_store import make_deletion, make_tags

#: Sweeping knows one server and many, not versions.
pytestmark = pytest.mark.parametrize("place", ["default", "cluster"], indirect=True)


def run(place: RedisPlace, *, execute: bool) -> tuple[SweepResult, set[tuple[str, str]]]:
    found: list[Entry] = []
    result = sweep(place.url, timeout_s=5, execute=execute, found=found.append, cluster=place.cluster is not None)
    return result, {(entry.brand, entry.photo_id) for entry in found}


def index_key(photo_id: str, brand: str) -> str:
    return index_prefix(bucket(photo_id)) + brand


async def damaged(place: RedisPlace) -> set[tuple[str, str, float]]:
    """Photos with every kind of orphan; returns the index as it should be."""
    async with place.store() as store:
        await store.write_all([make_tags(f"photo-{number}", 1, ("puma", "shell"), 0.7) for number in range(50)])
        await store.write_all([make_tags(name, 1, ("puma",), 0.9) for name in ("expired", "moved", "rescored")])
        await store.write(make_deletion("deleted", 1))
    with place.client() as client:
        client.delete(photo_key("expired"))
        client.zrem(index_key("moved", "puma"), "moved")
        client.hset(photo_key("moved"), "brands", "[]")
        right = place.index() - {("puma", "expired", 0.9)}
        client.zadd(index_key("moved", "adidas"), {"moved": 0.9})
        client.zadd(index_key("deleted", "puma"), {"deleted": 0.9})
        client.zadd(index_key("rescored", "puma"), {"rescored": 0.95})
        other = next(number for number in range(64) if f"{number:02d}" != bucket("photo-1"))
        client.zadd(index_prefix(f"{other:02d}") + "a:b} c", {"photo-1": 0.7})
    return right


WRONG = {
    ("puma", "expired"),
    ("adidas", "moved"),
    ("puma", "deleted"),
    ("puma", "rescored"),
    ("a:b} c", "photo-1"),
}


async def test_a_dry_run_lists_orphans_and_changes_nothing(place: RedisPlace) -> None:
    await damaged(place)
    before = place.index()
    result, found = run(place, execute=False)
    assert found == WRONG
    assert (result.entries, result.orphans, result.outcomes) == (105, 5, {})
    assert place.index() == before


async def test_orphans_are_removed_wrong_scores_repaired_and_the_rest_is_kept(place: RedisPlace) -> None:
    right = await damaged(place)
    result, found = run(place, execute=True)
    assert found == WRONG
    assert result.outcomes == {"removed": 4, "repaired": 1}
    assert place.index() == right
    assert run(place, execute=True)[0].orphans == 0


async def test_a_reader_is_not_shown_orphans(place: RedisPlace) -> None:
    await damaged(place)
    with place.reader() as reader:
        assert "rescored" in {found.photo_id for found in reader.find("puma")}
        assert not {"expired", "deleted"} & {found.photo_id for found in reader.find("puma")}
        assert reader.find("adidas") == []


async def test_a_hash_that_no_tagger_wrote_is_left_alone(place: RedisPlace) -> None:
    with place.client() as client:
        client.hset(photo_key("strange"), mapping={"brands": "not JSON", "q": "0.5"})
        client.zadd(index_key("strange", "puma"), {"strange": 0.5})
        client.set("b:{00}:text", "no sorted set")
        client.zadd("b:{99}:puma", {"elsewhere": 1})
    result, _ = run(place, execute=True)
    assert (result.entries, result.outcomes) == (1, {"unreadable": 1})
    assert index_of_key(place, "strange") == 0.5


def index_of_key(place: RedisPlace, photo_id: str) -> float | None:
    with place.client() as client:
        return client.zscore(index_key(photo_id, "puma"), photo_id)


async def test_no_concurrent_writer_loses_an_index_entry(place: RedisPlace) -> None:
    chance = random.Random(20261121)
    names = [f"photo-{number}" for number in range(40)]
    writes = {
        name: [
            make_deletion(name, number)
            if chance.random() < 0.2
            else make_tags(
                name, number, tuple(chance.sample(("adidas", "puma", "shell"), 2)), round(chance.random(), 6)
            )
            for number in range(30)
        ]
        for name in names
    }
    writing = True

    def sweep_all_the_time() -> int:
        rounds = 0
        while writing:
            run(place, execute=True)
            rounds += 1
        return rounds

    sweeping = asyncio.create_task(asyncio.to_thread(sweep_all_the_time))
    async with place.store() as store:
        for number in range(30):
            await asyncio.gather(*(store.write_all([writes[name][number]]) for name in names))
    writing = False
    assert await sweeping > 0
    expected = set()
    with place.client() as client:
        for name in names:
            tags = decision_of(name, client.hgetall(photo_key(name)))
            if isinstance(tags, Tags):
                expected |= {(brand.brand, name, tags.quality.score) for brand in tags.brands}
    assert place.index() == expected
