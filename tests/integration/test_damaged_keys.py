"""Keys that another program took, removed or damaged: the fault of those photos, never an outage, and mended."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from consumer.errors import DependencyDown, PhotoRejected
from consumer.events import Brand, Deletion, Quality, Source, Tags
from consumer.operations.sweep import Entry, sweep
from consumer.reader import TagReader
from consumer.redis.schema import bucket, fields_of, index_prefix, photo_key
from consumer.redis.store import Store, Written
from tests.harness_redis import RedisPlace
from tests.integration.test_store import make_deletion, make_tags

PHOTO = photo_key("photo")
PUMA, SHELL, ADIDAS = (index_prefix(bucket("photo")) + brand for brand in ("puma", "shell", "adidas"))

Client = Any
FOREIGN: dict[str, Callable[[Client, str], object]] = {
    "string": lambda client, key: client.set(key, "x"),
    "list": lambda client, key: client.rpush(key, "x"),
    "stream": lambda client, key: client.xadd(key, {"x": "y"}),
}


def take(place: RedisPlace, key: str, kind: str = "string") -> None:
    """Puts another program's key in the place of one of ours."""
    with place.client() as client:
        client.delete(key)
        FOREIGN.get(kind, lambda client, key: client.sadd(key, "photo"))(client, key)


def found_by(place: RedisPlace, brand: str) -> list[str]:
    with place.reader() as reader:
        return [found.photo_id for found in reader.find(brand)]


@pytest.mark.parametrize("kind", [*FOREIGN, "set"])
@pytest.mark.parametrize("key", [PHOTO, PUMA])
async def test_a_key_of_another_type_is_refused_before_anything_is_written_and_named(
    place: RedisPlace, key: str, kind: str
) -> None:
    take(place, key, kind)
    before = place.dump()
    tags = make_tags("photo", 1, ("shell", "puma"), 0.5)
    async with place.store() as store:
        with pytest.raises(PhotoRejected, match=f"is a {kind}") as refused:
            await store.write(tags)
        assert (refused.value.reason, key in refused.value.detail) == ("redis_key", True)
        assert place.dump() == before
        other, taken = make_tags("other", 1, ("puma",)), "wrong type"
        assert await store.write_all([other, tags]) == ["written", taken]
        assert await store.differences([other, tags]) == [None, taken if key == PHOTO else "missing"]
        with place.client() as client:
            client.delete(key)
        assert (await store.write(tags)).outcome == "written"
    assert found_by(place, "puma").count("photo") == 1


async def test_what_is_no_index_any_more_keeps_no_photo_from_being_changed_or_deleted(place: RedisPlace) -> None:
    async with place.store() as store:
        await store.write(make_tags("photo", 1, ("shell", "puma"), 0.5))
        take(place, PUMA)
        assert await store.differences([make_tags("photo", 1, ("shell", "puma"), 0.5)]) == ["wrong type"]
        assert (await store.write(make_tags("photo", 2, ("shell",), 0.6))).outcome == "written"
        assert (await store.write(make_deletion("photo", 3))).outcome == "written"
        assert await store.in_force("photo") == make_deletion("photo", 3)


READABLE = fields_of(make_tags("photo", 1, ("shell",), 0.4))
DAMAGES: dict[str, dict[str, str | bytes | None]] = {
    "not json": {"ver": "0", "brands": "not json"},
    "another form of version": {"ver": "v1"},
    "no version": {"ver": None},
    "a version above all": {"ver": "zzz"},
    "binary": {"ver": b"\xff\x00", "brands": b"\xff[", "m": b"\x80"},
    "brands of another type": {"brands": '{"puma":1}'},
    "brands of numbers": {"brands": '[1,null,["x"],{}]'},
    "deep": {"brands": "[" * 50_000},
    "a score that is none": {"q": "nan"},
    "a score above one": {"q": "1e999"},
    "no score": {"q": None},
    "no source": {"src": None},
    "source": {"src": "uploads/0/-1"},
    "time": {"t": "10000-01-01T00:00:00Z"},
    "models": {"m": "[]"},
    "level": {"qc": "9"},
    "names that no text may have": {"brands": '["\\ud800"]'},
    "many fields": {f"field{number}": "x" for number in range(9_000)} | {"ver": "zzz"},
}


def damage(place: RedisPlace, fields: dict[str, str | bytes | None]) -> None:
    """Leaves a hash of version 1 with these fields changed or gone."""
    with place.client() as client:
        client.delete(PHOTO)
        written = {name: value for name, value in (READABLE | fields).items() if value is not None}
        client.hset(PHOTO, mapping=written)


@pytest.mark.parametrize("damaged", DAMAGES)
@pytest.mark.parametrize("number", [1, 2])
async def test_a_hash_that_cannot_be_read_is_replaced_by_the_same_or_a_newer_version(
    place: RedisPlace, damaged: str, number: int
) -> None:
    tags = make_tags("photo", number, ("puma",), 0.5)
    async with place.store() as store:
        damage(place, DAMAGES[damaged])
        with place.reader() as reader:
            assert reader.get_many(["photo", "other"]) == {}
        assert await store.differences([tags]) == ["unreadable"]
        assert await store.newer(tags) is None
        written = await store.write(tags)
        assert (written.outcome in {"written", "mended"}, written.in_force) == (True, tags)
        with place.client() as client:
            assert client.hgetall(PHOTO) == fields_of(tags)
        assert found_by(place, "puma") == ["photo"]
        damage(place, DAMAGES[damaged])
        assert (await store.write_all([tags]))[0] in {"written", "mended"}
        assert await store.differences([tags]) == [None]


async def test_a_damaged_hash_of_a_newer_version_keeps_older_tags_out(place: RedisPlace) -> None:
    async with place.store() as store:
        damage(place, {"brands": "not json"})
        written = await store.write(make_tags("photo", 0, ("puma",)))
        assert (written.outcome, written.in_force) == ("superseded", None)
        assert place.index() == set()


async def test_the_same_version_looks_at_its_index(place: RedisPlace) -> None:
    tags = make_tags("photo", 1, ("puma", "shell"), 0.5)
    right = {("puma", "photo", 0.5), ("shell", "photo", 0.5)}
    async with place.store() as store:
        for write in (lambda: store.write_all([tags]), lambda: store.write(tags)):
            await store.write(tags)
            with place.client() as client:
                client.delete(PUMA)
                client.zadd(SHELL, {"photo": 0.9})
            await write()
            assert place.index() == right
        assert (await store.write(tags)).outcome == "unchanged"
        with place.client() as client:
            client.delete(PUMA)
        assert (await store.write(tags)).outcome == "mended"
        assert await store.write_all([tags]) == ["unchanged"]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("key", [PHOTO, PUMA, SHELL])
async def test_a_lifetime_that_another_program_set_ends_with_the_next_write(
    place: RedisPlace, key: str, version: int
) -> None:
    tags, neighbour = make_tags("photo", 1, ("puma", "shell"), 0.5), make_tags("photo", version, ("puma", "shell"), 0.5)
    async with place.store() as store:
        for again in (lambda: store.write_all([neighbour]), lambda: store.write(neighbour)):
            await store.write(tags)
            with place.client() as client:
                assert client.expire(key, 3600)
                await again()
                assert client.ttl(key) == -1
        with place.client() as client:
            client.expire(key, 3600)
        assert await store.write_all([neighbour]) == ["mended"]
        assert await store.write_all([neighbour]) == ["unchanged"]
        deletion = make_deletion("photo", 3)
        await store.write(deletion)
        with place.client() as client:
            client.expire(PHOTO, 3600)
            assert await store.write_all([deletion, deletion]) == ["mended", "unchanged"]
            assert client.ttl(PHOTO) == -1


async def test_a_repeat_with_other_brands_mends_the_index_of_what_is_in_force(place: RedisPlace) -> None:
    first, again = make_tags("photo", 1, ("puma",), 0.5), make_tags("photo", 1, ("shell",), 0.25)
    async with place.store() as store:
        await store.write(first)
        with place.client() as client:
            client.delete(PUMA)
            client.zadd(SHELL, {"photo": 0.25})
        written = await store.write(again)
        assert (written.outcome, written.in_force) == ("mended", first)
    assert place.index() == {("puma", "photo", 0.5)}


@pytest.mark.parametrize("change", [{"q": "0.6"}, {"bs": "[0.8]"}, {"other": "x"}, {"t": "2026-01-01T00:00:00.000Z"}])
async def test_a_restore_brings_back_each_field(place: RedisPlace, change: dict[str, str]) -> None:
    tags = make_tags("photo", 1, ("puma",), 0.5)
    async with place.store() as store:
        await store.write(tags)
        before = place.dump()
        with place.client() as client:
            client.hset(PHOTO, mapping=change)
        assert await store.differences([tags]) == ["different"]
        assert (await store.write(tags)).outcome in {"unchanged", "mended"}
        assert await store.write_all([tags]) == ["mended"]
    assert place.dump() == before


def of(tags: Tags, offset: int, *, partition: int = 0, topic: str = "uploads") -> Tags:
    return replace(tags, source=Source(topic, partition, offset))


A, B = make_tags("photo", 7, ("puma",), 0.5), make_tags("photo", 7, ("shell",), 0.75)
SAME_BRANDS = replace(A, quality=Quality(0.5, 4, good=True))
LIKELIER = replace(A, brands=(Brand("puma", 0.91),))


@pytest.mark.parametrize("other", [B, SAME_BRANDS, LIKELIER, replace(A, models={"photo_quality": "2"})])
async def test_of_two_contents_with_one_version_the_later_record_of_the_partition_stands_in_any_order(
    place: RedisPlace, other: Tags
) -> None:
    early, late = of(A, 9), of(other, 10)
    async with place.store() as store:
        assert (await store.write(early)).outcome == "written"
        assert (await store.write(late)).outcome == "written"
        shown = {each.brand: each.probability for each in late.brands}
        assert await store.newer(early) == replace(late, probabilities=shown)
        assert await store.newer(late) is None
        dumped = place.dump()
        for _ in range(2):
            assert (await store.write(early)).outcome == "superseded"
            assert (await store.write(late)).outcome == "unchanged"
        assert await store.differences([early, late]) == [None, None]
        place.flush()
        assert await store.write_all([late, early]) == ["written", "superseded"]
        assert place.dump() == dumped
        place.flush()
        assert await store.write_all([early]) == ["written"]
        assert await store.differences([late]) == ["older"]
        assert await store.write_all([late]) == ["written"]
        assert place.dump() == dumped


@pytest.mark.parametrize("offset", [0, 8, 10, 2**53])
async def test_a_duplicate_changes_nothing_at_whatever_offset(place: RedisPlace, offset: int) -> None:
    first = of(A, 9)
    async with place.store() as store:
        await store.write(first)
        before = place.dump()
        written = await store.write(of(replace(A, probabilities={"x": 1.0}), offset))
        assert (written.outcome, written.in_force) == ("unchanged", replace(first, probabilities={"x": 1.0}))
    assert place.dump() == before


@pytest.mark.parametrize(("partition", "topic"), [(1, "uploads"), (0, "uploads-2"), (0, "up/loads/0")])
async def test_between_partitions_the_first_of_one_version_stays(place: RedisPlace, partition: int, topic: str) -> None:
    first, other = of(A, 9), of(B, 10, partition=partition, topic=topic)
    async with place.store() as store:
        await store.write(first)
        written = await store.write(other)
        assert (written.outcome, written.in_force) == ("unchanged", replace(first, probabilities={"puma": 0.9}))
        assert await store.newer(other) is None
        assert await store.newer(replace(other, source=replace(other.source, offset=3))) is None


async def test_a_deletion_of_the_same_version_stays_as_it_is(place: RedisPlace) -> None:
    deletion = make_deletion("photo", 7)
    later = replace(deletion, source=Source("uploads", 0, 99))
    tags = replace(of(A, 100), version=deletion.version)
    async with place.store() as store:
        await store.write(deletion)
        for again in (later, tags):
            assert await store.write(again) == replace(await store.write(deletion), in_force=deletion)
    assert place.index() == set()


@asynccontextmanager
async def limited(place: RedisPlace, *refused: str) -> AsyncIterator[Store]:
    """A store whose user may not call some commands."""
    with place.client() as client:
        client.execute_command("ACL", "SETUSER", "tagger", "reset", "on", ">x", "~*", "+@all", *refused)
        try:
            async with RedisPlace(place.url.replace("//", "//tagger:x@")).store() as store:
                yield store
        finally:
            client.execute_command("ACL", "DELUSER", "tagger")


WRITES = {
    "new": (None, make_tags("photo", 2, ("puma", "shell"), 0.5)),
    "changed": (make_tags("photo", 1, ("adidas", "puma"), 0.25), make_tags("photo", 2, ("puma", "shell"), 0.5)),
    "deleted": (make_tags("photo", 1, ("adidas", "puma"), 0.25), make_deletion("photo", 2)),
    "restored": (make_deletion("photo", 1), make_tags("photo", 2, ("puma",), 0.5)),
}


@pytest.mark.parametrize("place", ["default", "6.2", "valkey"], indirect=True)
@pytest.mark.parametrize("command", ["hset", "hdel", "zadd", "zrem", "persist", "hkeys", "type", "hmget"])
@pytest.mark.parametrize("write", WRITES)
async def test_a_command_that_the_user_may_not_call_is_an_outage_after_which_the_repeat_writes_all(
    place: RedisPlace, command: str, write: str
) -> None:
    before, decision = WRITES[write]
    async with place.store() as store:
        if before is not None:
            await store.write(before)
        async with limited(place, f"-{command}") as refused:
            held = None
            try:
                await refused.write(decision)
            except DependencyDown:  # Not every write needs every command.
                held = await store.in_force("photo")
                older = make_tags("photo", 0, ("shell",), 0.1)
                assert before is None or (await store.write(older)).outcome == "superseded"
                with place.client() as client:
                    assert client.exists(PHOTO) == (before is not None)
            assert held is None or held.version < decision.version
        await store.write(decision)
        assert await store.differences([decision]) == [None]
    brands = decision.brands if isinstance(decision, Tags) else ()
    assert place.index() == {(each.brand, "photo", 0.5) for each in brands}


@pytest.mark.parametrize("place", ["default", "6.2", "valkey"], indirect=True)
@pytest.mark.parametrize("decision", [make_tags("photo", 1, ("puma", "shell"), 0.5), make_deletion("photo", 1)])
async def test_a_repeat_writes_nothing_and_so_needs_no_right_to_write(
    place: RedisPlace, decision: Tags | Deletion
) -> None:
    async with place.store() as store:
        await store.write(decision)
        async with limited(place, "-@write") as reading:
            assert await reading.write(decision) == Written("unchanged", decision)
            assert await reading.write_all([decision]) == ["unchanged"]


async def test_only_what_an_index_really_held_wrongly_counts_as_mended(place: RedisPlace) -> None:
    first, again = make_tags("photo", 1, ("puma",), 0.5), make_tags("photo", 1, ("shell",), 0.25)
    async with place.store() as store:
        await store.write(first)
        with place.client() as client:
            client.zadd(SHELL, {"other": 0.25})
            assert (await store.write(again)).outcome == "unchanged", "its place in that index is empty already"
            client.zadd(SHELL, {"photo": 0.25})
        assert (await store.write(again)).outcome == "mended"
    assert place.index() == {("puma", "photo", 0.5), ("shell", "other", 0.25)}


async def test_tags_stay_though_somebody_had_let_an_older_hash_expire(place: RedisPlace) -> None:
    async with place.store() as store:
        await store.write(make_tags("photo", 1, ("puma",)))
        with place.client() as client:
            client.expire(PHOTO, 1_000)
            await store.write(make_tags("photo", 2, ("puma",)))
            assert client.ttl(PHOTO) == -1


async def test_a_reader_leaves_out_what_it_cannot_read_and_says_so(place: RedisPlace) -> None:
    names = [f"photo-{number}" for number in range(70)]
    async with place.store() as store:
        await store.write_all([make_tags(name, 1, ("puma",), 0.5) for name in names])
    taken = index_prefix(bucket(names[1])) + "puma"
    with place.client() as client:
        client.hset(photo_key(names[0]), "brands", "5")
        take(place, photo_key(names[2]))
        take(place, taken)
        client.zadd(index_prefix(bucket(names[0])) + "puma", {b"\xff\xfe": 0.9})
    said: list[str] = []
    cluster = place.cluster is not None
    with TagReader(place.url, timeout_s=5.0, cluster=cluster, unreadable=said.append) as reader:
        assert reader.get_many([*names, "\udcff"]).keys() == {*names} - {names[0], names[2]}
        assert [photo_key(names[place]) in detail for place, detail in zip((0, 2), said, strict=True)] == [True, True]
        lost = {name for name in names if bucket(name) == bucket(names[1])} | {names[0], names[2]}
        assert {found.photo_id for found in reader.find("puma")} == {*names} - lost
        assert taken in said[-1]


async def test_a_sweep_passes_what_it_cannot_read_and_leaves_it_alone(place: RedisPlace) -> None:
    names = [f"photo-{number}" for number in range(12)]
    async with place.store() as store:
        await store.write_all([make_tags(name, 1, ("puma",), 0.5) for name in names])
    fields = [("brands", "5"), ("brands", '"puma"'), ("q", "nan"), ("q", "0x1"), ("q", " 1 ")]
    with place.client() as client:
        for name, (field, value) in zip(names, fields, strict=False):
            client.hset(photo_key(name), field, value)
        take(place, photo_key(names[8]))
        client.zadd("b:{٣٣}:puma", {"x": 1})
        client.zadd(b"b:{00}:\xff", {b"\xff": 1})
        client.set("b:{01}:foreign", "x")
        client.zadd("b:{}:x", {"x": 1})
    found: list[Entry] = []
    cluster = place.cluster is not None
    result = sweep(place.url, timeout_s=5, execute=True, found=found.append, cluster=cluster)
    assert (result.entries, len(found), sum(result.outcomes.values())) == (13, 7, 7)
    assert result.outcomes["unreadable"] >= 4
    with place.client() as client:
        kept = (client.zscore(index_prefix(bucket(name)) + "puma", name) for name in (names[2], *names[5:]))
        assert set(kept) == {0.5}
