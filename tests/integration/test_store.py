"""Version-ordered writes on Redis 6.2 to 8, Valkey and a cluster: whatever the order, the newest version stands."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from consumer.events import Brand, Deletion, Quality, Source, Tags
from consumer.redis.schema import fields_of
from tests.harness_redis import RedisPlace

BRANDS = ("adidas", "puma", "shell")
NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


def make_tags(photo_id: str, number: int, brands: tuple[str, ...] = (), score: float = 0.5) -> Tags:
    return Tags(
        photo_id=photo_id,
        quality=Quality(score, 3, good=False),
        brands=tuple(Brand(brand, 0.9) for brand in brands),
        probabilities={"no_logo": 0.1},
        models={"photo_quality": "1"},
        version=f"{number:013d}.001001.0000000000000",
        source=Source("uploads", 0, number),
        tagged_at=NOW,
    )


def make_deletion(photo_id: str, number: int) -> Deletion:
    return Deletion(photo_id, f"{number:013d}.999999.9999999999999", Source("uploads", 0, number), NOW)


async def test_racing_writers_leave_the_newest_version_and_an_index_in_step(place: RedisPlace) -> None:
    chance = random.Random(20261121)
    writes = [
        make_deletion(photo_id, number)
        if chance.random() < 0.15
        else make_tags(
            photo_id, number, tuple(sorted(chance.sample(BRANDS, chance.randrange(4)))), round(chance.random(), 6)
        )
        for photo_id in ("a", "b", "c {x} ü")
        for number in range(60)
    ]
    newest = {write.photo_id: write for write in sorted(writes, key=lambda write: write.version)}
    racing = writes * 2
    chance.shuffle(racing)
    async with place.store() as first, place.store() as second:
        stores = (first, second)
        await asyncio.gather(*(stores[place % 2].write(write) for place, write in enumerate(racing)))
    expected = set()
    with place.reader() as reader:
        for photo_id, write in newest.items():
            found = reader.get(photo_id)
            if isinstance(write, Tags):
                assert found is not None
                assert fields_of(found) == fields_of(write)
                expected |= {(brand.brand, photo_id, write.quality.score) for brand in write.brands}
            else:
                assert found is None
    assert place.index() == expected


async def test_a_write_says_what_it_did_and_what_is_in_force(place: RedisPlace) -> None:
    async with place.store() as store:
        old, new = make_tags("p", 1, ("puma",)), make_tags("p", 2, ("shell",))
        assert (await store.write(new)).outcome == "written"
        repeated = await store.write(new)
        assert (repeated.outcome, repeated.in_force) == ("unchanged", new)
        late = await store.write(old)
        assert late.outcome == "superseded"
        assert late.in_force is not None
        assert late.in_force.version == new.version
        assert (await store.write(make_deletion("p", 2))).outcome == "written"
        assert (await store.write(new)).in_force == make_deletion("p", 2)


async def test_writes_survive_a_script_cache_that_was_flushed(place: RedisPlace) -> None:
    async with place.store() as store:
        await store.write(make_tags("p", 1))
        with place.masters() as masters:
            for master in masters:
                master.script_flush()
        assert (await store.write(make_tags("p", 2))).outcome == "written"


async def test_the_reader_finds_the_best_photos_over_all_buckets(place: RedisPlace) -> None:
    chance = random.Random(7)
    scores = {f"photo-{number}": round(chance.random(), 6) for number in range(300)}
    async with place.store() as store:
        for photo_id, score in scores.items():
            await store.write(make_tags(photo_id, 1, ("puma",), score))
    ranked = sorted(scores.items(), key=lambda entry: -entry[1])
    with place.reader() as reader:
        best = reader.find("puma", limit=25)
        assert [(found.photo_id, found.quality) for found in best] == ranked[:25]
        good = reader.find("puma", min_quality=0.5, limit=1000)
        assert [found.photo_id for found in good] == [photo_id for photo_id, score in ranked if score >= 0.5]
        assert reader.find("unknown") == []
        assert len(reader.get_many([*scores, "nobody"])) == 300
        with pytest.raises(ValueError, match="limit"):
            reader.find("puma", limit=0)


async def test_the_older_protocol_gives_the_same_answers(place: RedisPlace) -> None:
    older = RedisPlace(place.url + "?protocol=2", place.cluster)
    tags = [make_tags(f"photo-{number}", 1, ("puma",), number / 10) for number in range(9)]
    async with older.store() as store:
        assert await store.write_all(tags) == ["written"] * 9
        assert await store.differences(tags) == [None] * 9
        assert await store.in_force("photo-3") == replace(tags[3], probabilities={"puma": 0.9})
        await store.write(make_deletion("photo-8", 1))
        assert await store.in_force("photo-8") == make_deletion("photo-8", 1)
        assert await store.in_force("nobody") is None
        assert await store.newer(tags[3]) is None
        assert await store.newer(make_tags("photo-3", 0)) == await store.in_force("photo-3")
        assert await store.newer(make_tags("nobody", 1)) is None
    with older.reader() as reader:
        assert [found.photo_id for found in reader.find("puma", 0.5)] == ["photo-7", "photo-6", "photo-5"]
        assert len(reader.get_many(tag.photo_id for tag in tags)) == 8


async def test_a_photo_that_loses_all_it_had_leaves_the_indexes_and_has_the_bytes_of_a_new_one(
    place: RedisPlace,
) -> None:
    async with place.store() as store:
        await store.write(make_tags("p", 1, ("puma", "shell"), 0.5))
        await store.write(make_deletion("p", 2))
        assert place.index() == set()
        await store.write(make_tags("p", 3, ("shell", "adidas"), 0.25))
        assert place.index() == {("shell", "p", 0.25), ("adidas", "p", 0.25)}
        rewritten = place.dump()
        place.flush()
        await store.write(make_tags("p", 3, ("shell", "adidas"), 0.25))
    assert place.dump() == rewritten
