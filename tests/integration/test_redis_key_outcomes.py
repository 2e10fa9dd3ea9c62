"""A damaged key in Redis through the whole service: one outcome for that photo, and no outage for the others."""

import asyncio
import json
from datetime import UTC, datetime

import redis

from consumer import events
from consumer.events import PhotoUploaded
from consumer.operations import rebuild
from consumer.reader import TagReader
from consumer.redis.schema import bucket, index_prefix, photo_key
from tests.fakes import RecordingLog
from tests.harness import BLUE, RED, World, by_key, dump, eventually, headers_of
from tests.harness_process import environment, photo_tagger


async def test_a_photo_whose_key_is_taken_is_a_dead_letter_and_no_outage(world: World) -> None:
    world.photos.answers["red"] = RED
    index = index_prefix(bucket("unlisted")) + "crimson"
    with redis.Redis.from_url(world.settings.redis.url) as client:
        client.set(photo_key("taken"), "x")
        client.rpush(photo_key("undeletable"), "x")
        client.set(index, "x")
        client.hset(photo_key("damaged"), mapping={"ver": "zzz", "brands": b"\xff", "other": "x"})
    good = [f"p{number}" for number in range(30) if bucket(f"p{number}") != bucket("unlisted")]
    for name in ("taken", "unlisted", "damaged", *good):
        world.upload(name, f"red/{name}", partition=0)
    world.delete("undeletable")
    async with world.service() as service:
        await eventually(lambda: sum(service.outcomes().values()) == len(good) + 4)
        assert service.outcomes() == {"tagged": len(good) + 1, "dead_lettered": 3}
    dead = {key: headers_of(message) for key, message in by_key(world.dead()).items()}
    assert dead.keys() == {"taken", "unlisted", "undeletable"}
    assert {letter["reason"] for letter in dead.values()} == {"redis_key"}
    for name, key in (("taken", photo_key("taken")), ("unlisted", index), ("undeletable", photo_key("undeletable"))):
        assert key in dead[name]["detail"]
    assert not world.events_logged("dependency.lost")
    assert not world.events_logged("photo.failed")
    assert world.committed()[0] == len(good) + 3
    with TagReader(world.settings.redis.url) as reader:
        assert reader.get_many(["damaged", *good]).keys() == {"damaged", *good}


async def test_of_two_contents_with_one_time_the_later_is_judged_and_kept_whatever_is_repeated(world: World) -> None:
    world.photos.answers.update({"red": RED, "blue": BLUE})
    first = PhotoUploaded("photo", f"{world.photos.url}/red", datetime(2026, 11, 21, 10, tzinfo=UTC))
    second = PhotoUploaded("photo", f"{world.photos.url}/blue", first.uploaded_at)
    for event in (first, second):
        world.send("photo", events.encode(event), events.UPLOADED, partition=0)
    async with world.service() as service:
        await eventually(lambda: sum(service.outcomes().values()) == 2)
        for event in (second, second):
            world.send("photo", events.encode(event), events.UPLOADED, partition=0)
        await eventually(lambda: sum(service.outcomes().values()) == 4)
        assert service.outcomes()["unchanged"] == 2
    url = world.settings.redis.url
    with TagReader(url) as reader:
        tags = reader.get("photo")
    assert tags is not None
    assert [brand.brand for brand in tags.brands] == ["azure"]
    last = events.decode_tags(by_key(world.tags())["photo"].value())
    assert ([brand.brand for brand in last.brands], last.source) == (["azure"], tags.source)
    before = dump(url)
    with redis.Redis.from_url(url) as client:
        client.flushall()
    await rebuild.rebuild(world.settings, RecordingLog(), lambda *_: None)
    assert dump(url) == before
    for _ in range(2):
        await rebuild.rebuild(world.settings, RecordingLog(), lambda *_: None)
        assert dump(url) == before


async def test_every_command_passes_what_it_cannot_read_and_says_so(world: World) -> None:
    world.photos.answers["red"] = RED
    names = [f"p{number}" for number in range(8)]
    for name in (*names, "taken"):
        world.upload(name, f"red/{name}")
    damages: list[tuple[str, str | bytes]] = [
        ("ver", "zzz"),
        ("q", b"\xff"),
        ("brands", "5"),
        ("m", "[]"),
        ("t", "10000-01-01"),
        ("src", ""),
        ("qc", "x"),
    ]
    with redis.Redis.from_url(world.settings.redis.url) as client:
        client.set(photo_key("taken"), "x")
        async with world.service() as service:
            await eventually(lambda: sum(service.outcomes().values()) == 9)
        for name, (field, value) in zip(names, damages, strict=False):
            client.hset(photo_key(name), field, value)
    env = environment(world.settings)

    async def run(*arguments: str) -> tuple[int, str, str]:
        ended = await asyncio.to_thread(photo_tagger, *arguments, env=env)
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.returncode, ended.stdout, ended.stderr

    code, said, errors = await run("tags", *names, "taken", "\udcff")
    assert (code, said.count("\n")) == (6, 1)
    assert all(photo_key(name) in errors for name in (*names[:7], "taken"))
    assert (await run("find", "crimson"))[0] == 0
    code, said, _ = await run("dlq", "list")
    assert (code, "redis_key" in said, photo_key("taken") in said) == (0, True, True)
    assert (await run("rebuild", "--check"))[0] == 1
    code, said, _ = await run("rebuild")
    # The one that is taken never was in the topic.
    assert (code, json.loads(said)["outcomes"].get("unchanged")) == (0, 1)
    with TagReader(world.settings.redis.url) as reader:
        assert reader.get_many(names).keys() == {*names}
    with redis.Redis.from_url(world.settings.redis.url) as client:
        client.delete(photo_key("p0"))
        client.rpush(photo_key("p0"), "x")
    code, said, errors = await run("rebuild")
    assert (code, json.loads(said)["outcomes"]["wrong type"], photo_key("p0") in errors) == (1, 1, True)
