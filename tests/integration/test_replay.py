"""Replay of a time range on a real Kafka: exact, bounded, and without effect where nothing is newer."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis

from consumer import events, telemetry
from consumer.errors import SettingsError
from consumer.events import PhotoUploaded
from consumer.operations import replay as replaying
from consumer.operations import run_log
from consumer.operations.replay import ReplayResult
from tests.harness import BLUE, BRIGHT, RED, World, dump, eventually
from tests.harness_process import environment, photo_tagger

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


async def replay(world: World, since: datetime, until: datetime) -> tuple[ReplayResult, list[tuple[int, int]]]:
    progress: list[tuple[int, int]] = []
    log = telemetry.configure_logging("debug", "json", world.log)
    result = await replaying.replay(
        world.settings, log, since=since, until=until, progress=lambda done, total: progress.append((done, total))
    )
    return result, progress


def a_millisecond_of_its_own() -> datetime:
    """Now, alone: record times have whole milliseconds, and no record may share this one."""
    began = datetime.now(UTC)
    while datetime.now(UTC) - began < timedelta(milliseconds=2):
        pass
    mark = datetime.now(UTC)
    while datetime.now(UTC) - mark < timedelta(milliseconds=2):
        pass
    return mark


async def tag_all(world: World, count: int) -> None:
    async with world.service() as service:
        await eventually(lambda: sum(service.outcomes().values()) == count)


async def test_a_replay_with_the_same_models_changes_no_tag(world: World) -> None:
    world.photos.answers.update({"red": RED, "blue": BLUE})
    for number in range(15):
        world.upload(f"red{number}", "red")
        world.upload(f"blue{number}", "blue")
    world.upload("gone")
    await tag_all(world, 31)
    before, committed = dump(world.settings.redis.url), world.committed()
    result, progress = await replay(world, BEGINNING, datetime.now(UTC))
    assert (result.total, result.complete) == (31, True)
    assert result.outcomes == {"unchanged": 30, "dead_lettered": 1}
    assert len(world.dead()) == 1, "it has its dead letter"
    assert [len(world.events_logged(name)) for name in ("dead_letter.published", "photo.not_judged")] == [1, 1]
    assert dump(world.settings.redis.url) == before
    assert world.committed() == committed, "the live group must not move"
    assert progress[0] == (0, 31)
    assert progress[-1] == (31, 31)


async def test_a_replay_restores_what_redis_lost(world: World) -> None:
    world.photos.answers["red"] = RED
    for number in range(5):
        world.upload(f"red{number}", "red")
    await tag_all(world, 5)
    keys = dump(world.settings.redis.url).keys()
    with redis.Redis.from_url(world.settings.redis.url) as client:
        client.flushall()
    result, _ = await replay(world, BEGINNING, datetime.now(UTC))
    assert result.outcomes == {"tagged": 5}
    assert dump(world.settings.redis.url).keys() == keys


async def test_only_the_records_of_the_range_are_read(world: World) -> None:
    world.photos.answers["photo"] = BRIGHT
    marks = []
    for name in ("before", "inside", "after"):
        marks.append(a_millisecond_of_its_own())
        for number in range(4):
            world.upload(f"{name}{number}", "photo")
    result, _ = await replay(world, marks[1], marks[2])
    assert result.outcomes == {"tagged": 4}
    with redis.Redis.from_url(world.settings.redis.url) as client:
        assert {key.decode().rpartition(":")[2] for key in client.keys("p:*")} == {f"inside{n}" for n in range(4)}


@pytest.mark.parametrize("place", [0, 2, 5])
async def test_a_record_that_a_wrong_clock_stamped_cuts_nothing_off(world: World, place: int) -> None:
    world.photos.answers["photo"] = BRIGHT
    now = datetime.now(UTC)
    hours = [-1.0] * 5
    hours.insert(place, 0.9)  # the broker refuses what is dated an hour ahead
    hours += [-24.0]
    for number, hour in enumerate(hours):
        event = PhotoUploaded(f"photo{number}", f"{world.photos.url}/photo", now)
        world.producer.produce(
            world.settings.kafka.uploads_topic,
            events.encode(event),
            f"photo{number}",
            partition=0,
            headers={"ce_type": events.UPLOADED.encode()},
            timestamp=int((now + timedelta(hours=hour)).timestamp() * 1000),
        )
    world.producer.flush(10)
    result, progress = await replay(world, now - timedelta(hours=2), now)
    assert (result.outcomes, result.complete) == ({"tagged": 5}, True)
    assert progress[-1] == (result.total, result.total)


@pytest.mark.parametrize("since", [BEGINNING, datetime(2100, 1, 1, tzinfo=UTC)])
async def test_an_empty_range_ends_at_once(world: World, since: datetime) -> None:
    result, _ = await replay(world, since, since + timedelta(seconds=1))
    assert result == ReplayResult(0, {}, complete=True)


async def test_an_ended_replay_is_told_as_complete_for_a_week_and_then_gone(world: World) -> None:
    kafka, now = world.settings.kafka, datetime.now(UTC)
    run = await replaying.begin(world.settings, BEGINNING, now, "today")
    old = replace(run, at=now - timedelta(days=8))
    kept = [replace(old, run_id="open"), replace(old, run_id="candidate", kind="rescore", state="complete")]
    for each in (replace(old, run_id="ended", state="complete"), replace(old, run_id="left", state="cancelled"), *kept):
        await asyncio.to_thread(run_log.save, kafka, each)
    await replay(world, BEGINNING, now)
    left = (await asyncio.to_thread(run_log.read_all, kafka)).values()
    assert [each.run_id for each in left][:3] == ["open", "candidate", "today"]
    assert [each.state for each in left] == ["started", "complete", "started", "complete"]
    env = environment(world.settings)
    listed = await asyncio.to_thread(photo_tagger, "runs", "list", env=env)
    whole = await asyncio.to_thread(photo_tagger, "runs", "list", "--ended", env=env)
    assert [json.loads(line)["run"] for line in listed.stdout.splitlines()] == ["open", "candidate", "today"]
    assert listed.stderr == "replays that have ended: 1; with them: --ended\n"
    assert len(whole.stdout.splitlines()) == 4


async def test_a_range_that_ends_before_it_starts_is_refused(world: World) -> None:
    await asyncio.to_thread(world.send, "bad", b"{}", events.UPLOADED)
    now = datetime.now(UTC)
    with pytest.raises(SettingsError, match="before it begins"):
        await replay(world, now - timedelta(hours=1), now - timedelta(hours=2))


async def test_records_that_arrive_during_a_replay_are_left_to_the_live_service(world: World) -> None:
    world.photos.answers["photo"] = BRIGHT
    for number in range(6):
        world.upload(f"old{number}", "photo")
    log = telemetry.configure_logging("debug", "json", world.log)

    def send_more(done: int, total: int) -> None:
        if done == 0:
            for number in range(6):
                world.upload(f"new{number}", "photo")
        assert total == 6

    result = await replaying.replay(
        world.settings, log, since=BEGINNING, until=datetime(2100, 1, 1, tzinfo=UTC), progress=send_more
    )
    assert result.outcomes == {"tagged": 6}
    with redis.Redis.from_url(world.settings.redis.url) as client:
        assert {key.decode().rpartition(":")[2] for key in client.keys("p:*")} == {f"old{n}" for n in range(6)}
