"""The same bytes are judged once by the real Triton, and tagged as if they had been judged each time."""

from typing import Any

import redis
import tritonclient.grpc

from consumer import events
from consumer.events import Tags
from consumer.service.run import Service
from consumer.settings import Settings
from tests.harness import BLUE, RED, World, by_key, eventually


def inferences(world: World) -> int:
    """How many photos Triton's quality model has answered so far."""
    with tritonclient.grpc.InferenceServerClient(world.settings.triton.url) as client:
        (model,) = client.get_inference_statistics("photo_quality", as_json=False).model_stats
        return int(model.inference_count)


def cached(world: World) -> dict[bytes, bytes]:
    with redis.Redis.from_url(world.settings.redis.url) as client:
        return {key: client.get(key) for key in client.keys("c:*")}


def without_dedupe(world: World) -> Settings:
    return world.settings.model_copy(update={"dedupe": world.settings.dedupe.model_copy(update={"enabled": False})})


def counts(service: Service) -> dict[str, int]:
    samples = next(iter(service.metrics.dedupe.collect())).samples
    return {entry.labels["result"]: int(entry.value) for entry in samples if entry.name.endswith("_total")}


async def tagged(service: Service, count: int) -> None:
    await eventually(lambda: service.outcomes() == {"tagged": count})


def decided(world: World) -> dict[str, Any]:
    """What was decided about each photo, without what belongs to its event."""

    def answer(tags: Tags) -> tuple[object, ...]:
        return tags.quality, tags.brands, tags.probabilities, tags.models

    return {key: answer(events.decode_tags(message.value())) for key, message in by_key(world.tags()).items()}


async def test_twenty_uploads_of_the_same_bytes_are_inferred_once(world: World) -> None:
    world.photos.answers["red"] = RED
    before = inferences(world)
    async with world.service() as service:
        for number in range(10):
            world.upload(f"red{number}", "red")
        await tagged(service, 10)
        for number in range(10, 20):
            world.upload(f"red{number}", "red")
        await tagged(service, 20)
        assert inferences(world) - before == 1
        said = counts(service)
    assert said.pop("shared", 0) + said.pop("hit") == 19
    assert said == {"miss": 1}
    assert len(cached(world)) == 1
    assert len(set(map(str, decided(world).values()))) == 1


async def test_a_known_photo_gets_the_tags_that_it_would_have_got(world: World) -> None:
    world.photos.answers.update({"red": RED, "blue": BLUE})
    async with world.service() as service:
        world.upload("red-first", "red")
        world.upload("blue-first", "blue")
        await tagged(service, 2)
        world.upload("red-known", "red")
        world.upload("blue-known", "blue")
        await tagged(service, 4)
        assert counts(service) == {"miss": 2, "hit": 2}
    async with world.service(without_dedupe(world)) as service:
        world.upload("red-judged", "red")
        world.upload("blue-judged", "blue")
        await tagged(service, 2)
    answers = decided(world)
    for colour in ("red", "blue"):
        assert answers[f"{colour}-first"] == answers[f"{colour}-known"] == answers[f"{colour}-judged"]


async def test_each_upload_is_inferred_where_the_cache_is_off(world: World) -> None:
    world.photos.answers["red"] = RED
    before = inferences(world)
    async with world.service(without_dedupe(world)) as service:
        for number in range(5):
            world.upload(f"red{number}", "red")
        await tagged(service, 5)
        assert counts(service) == {}
    assert inferences(world) - before == 5
    assert cached(world) == {}


async def test_a_damaged_entry_is_a_miss_and_is_written_anew(world: World) -> None:
    world.photos.answers["red"] = RED
    async with world.service() as service:
        world.upload("first", "red")
        await tagged(service, 1)
        good = cached(world)
        (key,) = good
        with redis.Redis.from_url(world.settings.redis.url) as client:
            client.set(key, b"damaged")
        world.upload("second", "red")
        await tagged(service, 2)
        assert counts(service) == {"miss": 2}
        assert cached(world) == good


async def test_an_entry_that_is_no_text_costs_nothing_but_the_work(world: World) -> None:
    world.photos.answers["red"] = RED
    async with world.service() as service:
        world.upload("first", "red")
        await tagged(service, 1)
        (key,) = cached(world)
        with redis.Redis.from_url(world.settings.redis.url) as client:
            client.delete(key)
            client.rpush(key, "a list")
        world.upload("second", "red")
        await tagged(service, 2)
        assert counts(service) == {"miss": 1, "failed": 1}


async def test_entries_end_by_themselves(world: World) -> None:
    world.photos.answers["red"] = RED
    async with world.service() as service:
        world.upload("first", "red")
        await tagged(service, 1)
    (key,) = cached(world)
    with redis.Redis.from_url(world.settings.redis.url) as client:
        assert 0 < client.ttl(key) <= world.settings.dedupe.ttl_s
        assert client.strlen(key) == 44 + 4 * 3
