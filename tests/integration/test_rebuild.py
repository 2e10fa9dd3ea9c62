"""Redis from the result topic on real servers: the same bytes, whatever the order, and nothing taken back."""

import asyncio
import json
import random
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from confluent_kafka import Producer

from consumer import events, telemetry
from consumer.events import Brand, Deletion, Quality, Source, Tags
from consumer.operations import rebuild
from consumer.operations.rebuild import RebuildResult
from consumer.reader import TagReader
from consumer.redis.schema import bucket, index_prefix, photo_key
from consumer.redis.store import Difference, Store
from tests.harness import BLUE, RED, World, dump, eventually
from tests.harness_process import environment

NOW = datetime(2026, 11, 21, 10, 0, 0, 123_000, tzinfo=UTC)


def flush(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushall()


def make_tags(photo_id: str, number: int, *brands: str, score: float = 0.5) -> Tags:
    return Tags(
        photo_id=photo_id,
        quality=Quality(score, 3, good=False),
        brands=tuple(Brand(brand, 0.9) for brand in brands),
        probabilities=dict.fromkeys(("adidas", "puma", "shell", "no_logo"), 0.1),
        models={"photo_quality": "1", "brand_logo": "1"},
        version=f"{number:013d}.001001.0000000000000",
        source=Source("uploads", 0, number),
        tagged_at=NOW.replace(microsecond=0),
    )


def make_deletion(photo_id: str, number: int) -> Deletion:
    return Deletion(photo_id, f"{number:013d}.999999.9999999999999", Source("uploads", 0, number), NOW)


def produce(world: World, *decisions: Tags | Deletion) -> None:
    producer = Producer({"bootstrap.servers": world.kafka, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for decision in decisions:
        value, headers = None, None
        if isinstance(decision, Tags):
            value = events.encode(decision)
        else:
            headers = {
                "version": decision.version,
                "deleted_at": events.format_time(decision.deleted_at),
                "source": events.format_source(decision.source),
            }
        producer.produce(world.settings.kafka.tags_topic, value, decision.photo_id, headers=headers)
    producer.flush(30)


def ignore(passed: int, total: int) -> None:
    assert 0 <= passed <= total


async def run_rebuild(world: World) -> RebuildResult:
    log = telemetry.configure_logging("debug", "json", world.log)
    return await rebuild.rebuild(world.settings, log, ignore)


async def run_check(world: World) -> tuple[RebuildResult, dict[str, Difference]]:
    log = telemetry.configure_logging("debug", "json", world.log)
    found: dict[str, Difference] = {}
    result = await rebuild.check(world.settings, log, ignore, found.__setitem__)
    return result, found


async def settled(service: Any, **expected: int) -> None:
    await eventually(lambda: {name: service.outcomes().get(name, 0) for name in expected} == expected)


async def test_a_second_rebuild_changes_nothing(world: World) -> None:
    produce(world, make_tags("a", 1, "puma"), make_deletion("b", 1))
    assert (await run_rebuild(world)).outcomes == {"written": 2}
    before = dump(world.settings.redis.url)
    assert (await run_rebuild(world)).outcomes == {"unchanged": 2}
    assert dump(world.settings.redis.url) == before


async def test_the_order_and_the_duplicates_in_the_topic_do_not_matter(world: World) -> None:
    chance = random.Random(20261121)
    decisions: list[Tags | Deletion] = []
    for photo_id in ("a", "b", "c {x} ü"):
        for number in range(40):
            brands = sorted(chance.sample(("adidas", "puma", "shell"), chance.randrange(4)))
            tags = make_tags(photo_id, number, *brands, score=round(chance.random(), 6))
            decisions.append(make_deletion(photo_id, number) if chance.random() < 0.2 else tags)
    url = world.settings.redis.url
    async with Store(url, timeout_s=5) as store:
        await store.write_all(list({decision.photo_id: decision for decision in decisions}.values()))
    newest = dump(url)
    flush(url)
    shuffled = decisions * 2
    chance.shuffle(shuffled)
    produce(world, *shuffled)
    assert (await run_rebuild(world)).records == 240
    assert dump(url) == newest


async def test_a_live_service_may_write_during_a_rebuild(world: World) -> None:
    world.photos.answers.update({"old": RED, "new": BLUE})
    for number in range(40):
        world.upload(f"p{number}", "old", revision=1)
    async with world.service() as service:
        await settled(service, tagged=40)
        flush(world.settings.redis.url)
        for number in range(0, 40, 2):
            world.upload(f"p{number}", "new", revision=2)
            if number % 8 == 0:
                world.delete(f"p{number}", revision=3)
        await asyncio.gather(run_rebuild(world), run_rebuild(world))
        await eventually(lambda: sum(service.outcomes().values()) == 65)
    before = dump(world.settings.redis.url)
    flush(world.settings.redis.url)
    await run_rebuild(world)
    assert dump(world.settings.redis.url) == before


async def test_a_malformed_record_is_counted_logged_and_skipped(world: World) -> None:
    topic = world.settings.kafka.tags_topic
    good = events.encode(make_tags("good", 1, "puma"))
    bad: list[tuple[str | bytes, bytes | None]] = [
        ("no-json", b"{"),
        ("empty", b""),
        ("deep", b"[" * 100_000),
        ("other-id", good),
        (b"", good),
        (b"", None),
        (b"\xff", good),
        (b"\xff", None),
        ("good", good.replace(b"0000000000001.", b"v1.")),
        ("good", good.replace(b'"score":0.5', b'"score":NaN')),
        ("good", good.replace(b'"score":0.5', b'"score":7')),
        ("good", good.replace(b'"level":3', b'"level":99')),
        ("good", good.replace(b'"probability":0.9', b'"probability":NaN')),
        ("good", good.replace(b'"probability":0.9', b'"probability":-1')),
        ("good", good.replace(b'"offset":1', b'"offset":-1')),
        ("good", good.replace(b"2026-11-21T10", b"2026-11-21T99")),
        ("good", good.replace(b"2026-11-21T10:00:00Z", b"2026-11-21T10:00:00")),
        ("good", good.replace(b"2026-11-21T10:00:00Z", b"0001-01-01T00:00:00+14:00")),
        ("good", good.replace(b"2026-11-21T10:00:00Z", b"9999-12-31T23:59:59-14:00")),
    ]
    for key, value in bad:
        world.producer.produce(topic, value, key)
    world.producer.flush(10)
    produce(world, make_tags("good", 1, "puma"))
    result = await run_rebuild(world)
    assert (result.records, result.malformed, result.outcomes) == (len(bad) + 1, len(bad), {"written": 1})
    lines = world.events_logged("rebuild.record_skipped")
    assert len(lines) == len(bad)
    assert all(line["detail"] and line["topic"] == topic for line in lines)


GOOD_HEADERS = {"version": make_deletion("", 2).version, "deleted_at": "2026-11-21T10:00:00.123Z", "source": "up/0/2"}


@pytest.mark.parametrize(
    "changed",
    [
        {"deleted_at": "9999-12-31T23:59:59.999Z"},
        {"deleted_at": "0001-01-01T00:00:00.000Z"},
        {"deleted_at": "9999-12-31T23:59:59-14:00"},
        {"deleted_at": "253402300800000"},
        {"deleted_at": "-62135596800"},
        {"deleted_at": "2026-11-21T10:00:00"},
        {"deleted_at": b"\xff"},
        {"deleted_at": None},
        {"source": "x"},
        {"source": "up/0/-1"},
        {"version": None},
        {"version": "zzz"},
        {"version": b"\xff"},
        {"version": "9" * 5_000},
        dict.fromkeys(GOOD_HEADERS),
    ],
)
async def test_a_deletion_stays_one_whatever_its_headers_say(world: World, changed: dict[str, str | bytes]) -> None:
    produce(world, make_tags("p", 1, "puma"), make_tags("q", 1, "puma"))
    world.producer.produce(world.settings.kafka.tags_topic, None, "p", headers=list((GOOD_HEADERS | changed).items()))
    world.producer.flush(10)
    assert (await run_rebuild(world)).records == 3
    url = world.settings.redis.url
    with TagReader(url) as reader:
        assert reader.get_many(["p", "q"]).keys() == {"q"}
    before = dump(url)
    assert set((await run_rebuild(world)).outcomes) <= {"superseded", "unchanged"}
    assert dump(url) == before
    assert not (await run_check(world))[1]
    again = replace(make_tags("p", 3, "shell"), tagged_at=datetime.now(UTC) + timedelta(minutes=1))
    produce(world, again)
    async with Store(url, timeout_s=5) as store:
        await store.write(again)
        await run_rebuild(world)
        assert (await store.in_force("p")) is not None
        assert await store.differences([again]) == [None]


async def test_a_bare_null_deletes_nothing_that_was_tagged_after_it(world: World) -> None:
    later = replace(make_tags("p", 2, "puma"), tagged_at=datetime.now(UTC) + timedelta(minutes=1))
    world.producer.produce(world.settings.kafka.tags_topic, None, "p", headers={"version": "zzz"})
    world.producer.flush(10)
    produce(world, later)
    result = await run_rebuild(world)
    assert (result.malformed, result.outcomes) == (1, {"written": 1})
    with TagReader(world.settings.redis.url) as reader:
        assert reader.get("p") is not None


@pytest.mark.parametrize("between", [0, 1_500], ids=["one batch", "several batches"])
@pytest.mark.parametrize("again", [True, False], ids=["tagged again", "not tagged again"])
async def test_a_second_tells_not_whether_a_photo_was_tagged_before_it_was_erased(
    world: World, again: bool, between: int
) -> None:
    """Redis keeps whole seconds; whether tags came after the null, the topic tells."""
    first, later = make_tags("p", 1, "puma"), make_tags("p", 2, "shell")
    erased_ms = int(NOW.timestamp() * 1000)
    produce(world, first)
    world.producer.produce(world.settings.kafka.tags_topic, None, "p", timestamp=erased_ms)
    world.producer.flush(10)
    produce(world, *(make_tags(f"other-{number}", 1) for number in range(between)))
    if again:
        produce(world, later)
    async with Store(world.settings.redis.url, timeout_s=5) as store:
        for _ in range(2):  # into an empty Redis, then with what is there
            await run_rebuild(world)
            held = await store.in_force("p")
            assert isinstance(held, Deletion) is not again
            assert not again or await store.differences([later]) == [None]


async def test_indexes_and_hashes_that_were_damaged_are_mended_and_counted(world: World) -> None:
    decisions = [make_tags(f"p{number}", 1, "puma", "shell") for number in range(20)]
    produce(world, *decisions)
    url = world.settings.redis.url
    await run_rebuild(world)
    before = dump(url)
    with redis.Redis.from_url(url) as client:
        client.delete(*client.keys("b:*"))
    assert (await run_check(world))[0].outcomes == {"not indexed": 20}
    assert (await run_rebuild(world)).outcomes == {"mended": 20}
    assert dump(url) == before
    with redis.Redis.from_url(url) as client:
        client.hset(photo_key("p1"), mapping={"brands": b"\xff", "ver": "0"})
        client.hdel(photo_key("p2"), "m", "t")
        client.hset(photo_key("p3"), "q", "0.6")
    assert (await run_check(world))[0].outcomes == {"different": 1, "same": 17, "unreadable": 2}
    result = (await run_rebuild(world)).outcomes
    assert result["unchanged"] == 17
    assert (await run_check(world))[0].outcomes == {"same": 20}


@pytest.mark.parametrize("kind", ["set", "sadd", "rpush"])
async def test_another_programs_key_is_passed_told_and_left_alone(world: World, kind: str) -> None:
    produce(world, *(make_tags(f"p{number}", 1, "puma") for number in range(20)))
    taken, index = photo_key("p7"), index_prefix(bucket("p3")) + "puma"
    with redis.Redis.from_url(world.settings.redis.url) as client:
        for key in (taken, index):
            client.execute_command(kind, key, "x")
        client.rpush("p:other", "x")
        client.set("b:{00}", "x")
        before = client.dump(taken), client.dump(index)
        refused = {"p7", *(name for name in (f"p{number}" for number in range(20)) if bucket(name) == bucket("p3"))}
        result = await run_rebuild(world)
        assert result.outcomes == {"wrong type": len(refused), "written": 20 - len(refused)}
        assert {line["photo_id"] for line in world.events_logged("rebuild.record_skipped")} == refused
        assert (client.dump(taken), client.dump(index)) == before
    assert not world.events_logged("dependency.lost")
    assert (await run_check(world))[1].keys() == refused


async def test_a_check_writes_nothing_and_lists_what_redis_lacks(world: World) -> None:
    produce(
        world,
        *(make_tags(name, 2, "puma") for name in ("same", "missing", "older", "other", "unlisted", "newer")),
        make_deletion("undeleted", 2),
    )
    url = world.settings.redis.url
    await run_rebuild(world)
    with redis.Redis.from_url(url) as client:
        for key in client.keys("p:*:missing") + client.keys("p:*:older") + client.keys("p:*:undeleted"):
            client.delete(key)
        client.hset(client.keys("p:*:other")[0], "q", "0.6")
        for key in client.keys("b:*"):
            client.zrem(key, "unlisted")
    async with Store(url, timeout_s=5) as store:
        await store.write_all([make_tags("older", 1), make_tags("undeleted", 1), make_tags("newer", 3)])
    before = dump(url)
    result, found = await run_check(world)
    assert found == {
        "missing": "missing",
        "older": "older",
        "undeleted": "older",
        "other": "different",
        "unlisted": "not indexed",
    }
    assert result.outcomes == {"different": 1, "missing": 1, "not indexed": 1, "older": 2, "same": 2}
    assert dump(url) == before


async def test_an_empty_topic_ends_at_once(world: World) -> None:
    assert (await run_rebuild(world)).outcomes == {}


async def test_ten_thousand_photos_are_restored(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    count = 10_000
    produce(world, *(make_tags(f"photo-{number:08d}", 1, *("puma",) * (number % 2)) for number in range(count)))
    result = await run_rebuild(world)
    assert result.outcomes == {"written": count}
    with capsys.disabled():
        print(f"\nrebuild: {count / result.duration_s:.0f} photos/s ({result.duration_s:.2f} s)")  # noqa: T201 - a measurement


async def test_the_command_line_rebuilds_compares_and_sweeps(world: World) -> None:
    produce(world, make_tags("a", 1, "puma"), make_deletion("b", 1))

    async def run(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "consumer.cli", *arguments),
            env=environment(world.settings),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        printed, _ = await process.communicate()
        return process.returncode or 0, [json.loads(line) for line in printed.splitlines()]

    code, (missing_a, missing_b, result) = await run("rebuild", "--check")
    assert (code, result["outcomes"]) == (1, {"missing": 2})
    assert {line["photo_id"] for line in (missing_a, missing_b)} == {"a", "b"}
    code, (result,) = await run("rebuild")
    assert (code, result["records"], result["outcomes"]) == (0, 2, {"written": 2})
    code, (result,) = await run("rebuild", "--check")
    assert (code, result["outcomes"]) == (0, {"same": 2})
    with redis.Redis.from_url(world.settings.redis.url) as client:
        client.delete(*client.keys("p:*:a"))
    assert await run("sweep") == (0, [{"entries": 1, "orphans": 1, "outcomes": {}}])
    assert await run("sweep", "--execute") == (0, [{"entries": 1, "orphans": 1, "outcomes": {"removed": 1}}])
    assert await run("sweep") == (0, [{"entries": 0, "orphans": 0, "outcomes": {}}])
