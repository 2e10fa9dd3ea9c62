"""A damaged key in Redis through the whole service: one outcome for that photo, and no outage for the others."""

from datetime import UTC, datetime

import redis

from consumer import events
from consumer.events import PhotoUploaded
from consumer.operations import rebuild
from consumer.reader import TagReader
from consumer.redis.schema import bucket, index_prefix, photo_key
from tests.fakes import RecordingLog
from tests.harness import BLUE, RED, World, by_key, dump, eventually, headers_of


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
