"""The whole path on real Kafka, Redis and Triton, with models whose answers are known."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import redis
from aiohttp import web

from consumer import events
from consumer.contract import Geometry
from consumer.operations.check import check
from consumer.reader import TagReader
from consumer.redis.schema import fields_of
from consumer.settings import Settings
from tests.harness import BLUE, BRIGHT, DARK, RED, World, by_key, eventually, headers_of


def outcomes(*counts: tuple[str, int]) -> dict[str, int]:
    return dict(counts)


def with_settings(settings: Settings, section: str, **values: object) -> Settings:
    """The same settings with some values of one section changed."""
    changed = getattr(settings, section).model_copy(update=values)
    return settings.model_copy(update={section: changed})


async def test_what_redis_says_the_result_topic_and_the_reader_say_too(world: World) -> None:
    world.photos.answers.update({"red": RED, "blue": BLUE, "bright": BRIGHT, "dark": DARK})
    for photo_id in ("red", "blue", "bright", "dark"):
        world.upload(photo_id)
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 4)))
    with TagReader(world.settings.redis.url) as reader:
        found = reader.get_many(["red", "blue", "bright", "dark", "never-sent"])
    assert {photo_id: [brand.brand for brand in tags.brands] for photo_id, tags in found.items()} == {
        "red": ["crimson"],
        "blue": ["azure"],
        "bright": [],
        "dark": [],
    }
    assert (found["bright"].quality.level, found["bright"].quality.good) == (5, True)
    assert (found["dark"].quality.level, found["dark"].quality.good) == (1, False)
    published = {key: events.decode_tags(message.value()) for key, message in by_key(world.tags()).items()}
    assert published.keys() == found.keys()
    for photo_id, tags in found.items():
        assert fields_of(published[photo_id]) == fields_of(tags)
        assert sum(published[photo_id].probabilities.values()) > 0.99
    assert world.dead() == []


async def test_a_rejected_photo_keeps_its_bytes_key_and_headers_and_says_why(world: World) -> None:
    world.photos.answers.update({"page": b"<!doctype html><p>not a photo", "broken": RED[: len(RED) // 2]})
    world.upload("missing")
    world.upload("page")
    world.upload("broken")
    world.send("no-json", b"{", events.UPLOADED, headers={"traceparent": b"00-1-2-01"})
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("deferred", 1), ("dead_lettered", 4)))
    letters = by_key(world.dead())
    assert {key: headers_of(letter)["reason"] for key, letter in letters.items()} == {
        "missing": "http_4xx",
        "page": "unsupported_format",
        "broken": "corrupt_image",
        "no-json": "invalid_event",
    }
    headers = headers_of(letters["no-json"])
    assert letters["no-json"].value() == b"{"
    assert headers["traceparent"] == "00-1-2-01"
    assert headers["original_topic"] == world.settings.kafka.uploads_topic
    assert headers["original_offset"].isdecimal()
    assert headers["original_partition"].isdecimal()
    assert "404" in headers_of(letters["missing"])["detail"]
    assert world.tags() == []


async def test_a_stuck_photo_holds_the_commit_back_but_not_its_neighbours(world: World) -> None:
    released = asyncio.Event()

    async def hang() -> web.Response:
        await released.wait()
        return web.Response(body=RED)

    world.photos.answers.update({"stuck": hang, "fine": BLUE})
    one_partition = {"partition": 0}
    stuck = events.PhotoUploaded("stuck", f"{world.photos.url}/stuck", datetime.now(UTC))
    world.send("stuck", events.encode(stuck), events.UPLOADED, **one_partition)
    for number in range(20):
        fine = events.PhotoUploaded(f"fine-{number}", f"{world.photos.url}/fine", datetime.now(UTC))
        world.send(fine.photo_id, events.encode(fine), events.UPLOADED, **one_partition)
    patient = with_settings(world.settings, "fetch", read_timeout_s=60.0, total_timeout_s=60.0)
    async with world.service(patient) as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 20)))
        assert world.committed()[0] <= 0
        released.set()
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 21)))
    assert world.committed()[0] == 21


async def test_in_flight_work_never_exceeds_its_bound(world: World) -> None:
    running, most = 0, 0

    async def count() -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return web.Response(body=BRIGHT)

    world.photos.answers["photo"] = count
    for number in range(200):
        world.upload(f"p{number}", "photo")
    bounded = with_settings(world.settings, "service", max_in_flight=4)
    async with world.service(bounded) as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 200)))
        assert service.idle or service.outcomes()
    assert most <= 4
    assert sum(world.committed().values()) == 200


async def test_a_duplicate_changes_nothing_and_says_the_same_again(world: World) -> None:
    world.photos.answers["red"] = RED
    event = world.upload("red")
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1)))
        world.send("red", events.encode(event), events.UPLOADED)
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1), ("unchanged", 1)))
    first, second = world.tags()
    assert first.value() == second.value()


async def test_an_older_upload_that_arrives_late_is_refused(world: World) -> None:
    world.photos.answers.update({"new": BLUE, "old": RED})
    world.upload("photo", "new", revision=2)
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1)))
        world.upload("photo", "old", revision=1)
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1), ("superseded", 1)))
    with TagReader(world.settings.redis.url) as reader:
        tags = reader.get("photo")
    assert tags is not None
    assert [brand.brand for brand in tags.brands] == ["azure"]
    assert len(world.tags()) == 1


async def test_the_events_of_one_photo_take_effect_in_order(world: World) -> None:
    released = asyncio.Event()

    async def slowly() -> web.Response:
        await released.wait()
        return web.Response(body=RED)

    world.photos.answers.update({"slow": slowly, "quick": BLUE})
    world.upload("photo", "slow", revision=1)
    world.upload("photo", "quick", revision=2)
    world.upload("other", "quick")
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1)))
        released.set()
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 3)))
    versions = [json.loads(message.value())["version"] for message in world.tags() if message.key() == b"photo"]
    assert len(versions) == 2
    assert versions == sorted(versions)


async def test_a_newer_upload_moves_the_photo_between_brand_indexes(world: World) -> None:
    world.photos.answers.update({"new": BLUE, "old": RED})
    with TagReader(world.settings.redis.url) as reader:
        world.upload("photo", "old", revision=1)
        async with world.service() as service:
            await eventually(lambda: service.outcomes() == outcomes(("tagged", 1)))
            assert [found.photo_id for found in reader.find("crimson")] == ["photo"]
            world.upload("photo", "new", revision=2)
            await eventually(lambda: service.outcomes() == outcomes(("tagged", 2)))
        assert reader.find("crimson") == []
        assert [found.photo_id for found in reader.find("azure")] == ["photo"]


async def test_a_deleted_photo_stays_deleted_until_it_is_uploaded_anew(world: World) -> None:
    world.photos.answers["red"] = RED
    event = world.upload("red")
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1)))
        world.delete("red")
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1), ("deleted", 1)))
        world.send("red", events.encode(event), events.UPLOADED)
        await eventually(lambda: service.outcomes().get("superseded") == 1)
        with TagReader(world.settings.redis.url) as reader:
            assert reader.get("red") is None
            assert reader.find("crimson") == []
            assert by_key(world.tags())["red"].value() is None
            world.upload("red")
            await eventually(lambda: service.outcomes().get("tagged") == 2)
            assert reader.get("red") is not None


async def test_a_body_that_is_not_the_announced_content_is_refused(world: World) -> None:
    world.photos.answers["red"] = RED
    world.upload("right", "red", content_sha256=hashlib.sha256(RED).hexdigest())
    world.upload("wrong", "red", content_sha256=hashlib.sha256(BLUE).hexdigest())
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1), ("dead_lettered", 1)))
    assert {headers_of(letter)["reason"] for letter in world.dead()} == {"content_mismatch"}


async def test_a_transient_failure_is_tried_again_and_a_lasting_one_counts_its_attempts(world: World) -> None:
    world.photos.answers.update({"flaky": 503, "down": 503})

    async def second_try() -> web.Response:
        world.photos.answers["flaky"] = RED
        return web.Response(status=503)

    world.photos.answers["flaky"] = second_try
    world.upload("flaky")
    world.upload("down")
    async with world.service() as service:
        ended = outcomes(("tagged", 1), ("deferred", 1), ("dead_lettered", 1))
        await eventually(lambda: service.outcomes() == ended)
    (letter,) = world.dead()
    assert headers_of(letter)["reason"] == "http_5xx"
    assert headers_of(letter)["attempt"] == "4"
    assert world.photos.requests.count("down") == 4


async def test_traces_go_on_with_the_result(world: World) -> None:
    world.photos.answers["red"] = RED
    event = events.PhotoUploaded("red", f"{world.photos.url}/red", datetime.now(UTC))
    world.send("red", events.encode(event), events.UPLOADED, headers={"traceparent": b"00-aa-bb-01"})
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1)))
    headers = headers_of(world.tags()[0])
    assert headers["traceparent"] == "00-aa-bb-01"
    assert (headers["ce_type"], headers["ce_subject"]) == ("photo.tagged", "red")


async def test_the_keys_in_redis_are_the_documented_ones(world: World) -> None:
    world.photos.answers["red"] = RED
    world.upload("red")
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == outcomes(("tagged", 1)))
    with redis.Redis.from_url(world.settings.redis.url, decode_responses=True) as client:
        known, *rest = sorted(client.keys("*"), key=lambda key: not key.startswith("c:"))
        assert int(known.removeprefix("c:")) < world.settings.dedupe.max_entries
        assert sorted(rest) == ["b:{15}:crimson", "n:{15}", "p:{15}:red"], "and q:{15}, where the photo is good"
        assert client.smembers("n:{15}") == {"crimson"}
        fields = client.hgetall("p:{15}:red")
        assert client.zscore("b:{15}:crimson", "red") == float(fields["q"])
    assert fields.keys() == {"ver", "q", "qc", "qg", "brands", "bs", "m", "t", "src"}
    assert fields["brands"] == '["crimson"]'


async def test_check_takes_the_sizes_of_the_served_models(world: World, tmp_path: Path) -> None:
    (tmp_path / "red.jpg").write_bytes(RED)
    report = await check(world.settings, str(tmp_path / "red.jpg"))
    assert (report.outcome, set(report.sizes.models.values())) == ("accepted", {Geometry(32, 32)})
    assert report.sizes.said_by == f"Triton at {world.settings.triton.url}"


async def test_the_bytes_in_flight_stay_within_their_bound(world: World) -> None:
    large, bound = RED + bytes(1_000_000), 2_500_000
    world.photos.answers.update({f"large-{number}": large + bytes([number]) for number in range(30)})
    most = 0.0
    bounded = with_settings(world.settings, "service", max_in_flight_bytes=bound)
    async with world.service(bounded) as service:
        for number in range(30):
            world.upload(f"large-{number}")

        def all_tagged() -> bool:
            nonlocal most
            most = max(most, service.metrics.registry.get_sample_value("tagger_inflight_bytes") or 0.0)
            return service.outcomes() == outcomes(("tagged", 30))

        await eventually(all_tagged)
        assert service.metrics.registry.get_sample_value("tagger_inflight_bytes") == 0
    assert most <= bound
    assert world.dead() == []
