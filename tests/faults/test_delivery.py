"""Members that come, go, freeze and die while photos flow: the books must balance. Seeds make a run repeatable."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from consumer.embedded.paths import free_port
from tests.harness import BLUE, BRIGHT, RED, World, by_key, eventually, headers_of
from tests.harness_process import RunningTagger, environment, photo_tagger, running_tagger
from tests.ledger import Ledger

Record = Callable[[str, object], None]

SEED = int(os.environ.get("FAULT_SEED", "20261121"))
REPLAY = (sys.executable, "-m", "consumer.cli", "replay", "--from", "beginning")
SESSION = '{"session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 6000}'

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)


async def test_rolling_restarts_repeat_no_photo(world: World, tmp_path: Path, record_property: Record) -> None:
    ledger = Ledger(world)
    world.photos.answers["photo"] = BRIGHT
    for round_number in range(3):
        with running_tagger(world.settings, tmp_path, port=free_port(), name=f"run{round_number}") as tagger:
            for number in range(40):
                ledger.upload(f"r{round_number}-{number}", "photo")
            await eventually(lambda: tagger.log("assignment.received"))
            code, seconds = await asyncio.to_thread(tagger.terminate)
            assert code == 0
            assert seconds < 10
    async with world.service():
        await eventually(ledger.settled)
    repeated = ledger.close()
    record_property("repeated", repeated)
    assert repeated == 0
    assert len(world.photos.requests) == ledger.produced.total(), "a photo was fetched twice"


async def test_members_that_join_and_leave_lose_nothing_and_keep_each_photos_order(
    world: World, chance: random.Random, record_property: Record
) -> None:
    ledger = Ledger(world)
    world.photos.answers.update({"red": RED, "blue": BLUE})
    revisions = dict.fromkeys(range(12), 0)
    async with AsyncExitStack() as first:
        await first.enter_async_context(world.service())
        for _ in range(3):
            async with world.service():
                for _ in range(60):
                    photo = chance.randrange(12)
                    revisions[photo] += 1
                    ledger.upload(f"photo-{photo}", chance.choice(["red", "blue"]), revision=revisions[photo])
                await asyncio.sleep(chance.uniform(0.2, 1.5))  # the storm: a member leaves at a random moment
        await eventually(ledger.settled, deadline_s=60)
    record_property("repeated", ledger.close())
    final = {key: message.value() for key, message in by_key(world.tags()).items()}
    for photo, revision in revisions.items():
        assert f'"version":"{revision:013d}.'.encode() in final[f"photo-{photo}"]


async def test_a_frozen_member_that_wakes_up_neither_commits_nor_overwrites(
    world: World, tmp_path: Path, record_property: Record
) -> None:
    ledger = Ledger(world)
    asked, released = asyncio.Event(), asyncio.Event()

    async def slowly() -> web.Response:
        asked.set()
        await released.wait()
        return web.Response(body=RED)

    world.photos.answers.update({"old": slowly, "new": BLUE})
    slow = {"TAGGER_FETCH__READ_TIMEOUT_S": "90", "TAGGER_FETCH__TOTAL_TIMEOUT_S": "90", "TAGGER_KAFKA__EXTRA": SESSION}
    with running_tagger(world.settings, tmp_path, port=free_port(), name="zombie", **slow) as zombie:
        ledger.upload("photo", "old", revision=1)
        await asyncio.wait_for(asked.wait(), 30)
        zombie.process.send_signal(signal.SIGSTOP)
        world.photos.answers["old"] = RED
        async with world.service():
            ledger.upload("photo", "new", revision=2)
            await eventually(ledger.settled, deadline_s=60)
            newest = by_key(world.tags())["photo"].value()
            zombie.process.send_signal(signal.SIGCONT)
            # It finds its partitions lost, finishes its old photo, and takes part in the group again.
            await eventually(lambda: lost_uploads(zombie, world), deadline_s=60)
            released.set()
            await eventually(lambda: "tagger_late_completions_total 1.0" in zombie.get("/metrics")[1], deadline_s=60)
            ledger.upload("other", "new")
            await eventually(ledger.settled, deadline_s=60)
        assert by_key(world.tags())["photo"].value() == newest
    record_property("repeated", ledger.close())


def lost_uploads(tagger: RunningTagger, world: World) -> bool:
    """Whether it has heard that its upload partitions are lost; those of the retry topic are another membership."""
    topic = world.settings.kafka.uploads_topic
    lines = [line for line in tagger.log("assignment.revoked") if line["lost"]]
    return any(name.startswith(topic) for line in lines for name in line["partitions"])


async def test_poison_becomes_dead_letters_and_nobody_else_waits(
    world: World, chance: random.Random, record_property: Record
) -> None:
    async def hang() -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    poison = {"truncated": RED[:200], "page": b"<html>", "gone": 404, "empty": b"", "hanging": hang}
    reasons = {
        "truncated": "corrupt_image",
        "page": "unsupported_format",
        "gone": "http_4xx",
        "empty": "empty_body",
        "hanging": "fetch_timeout",
    }
    world.photos.answers.update({"good": BRIGHT, **poison})
    ledger = Ledger(world)
    names = ["good"] * 95 + [*poison]
    chance.shuffle(names)
    for number, name in enumerate(names):
        ledger.upload(f"{name}-{number}", name)
    impatient = world.settings.model_copy(
        update={"fetch": world.settings.fetch.model_copy(update={"read_timeout_s": 1.0, "attempts": 1})}
    )
    async with world.service(impatient):
        await eventually(ledger.settled, deadline_s=60)
    record_property("repeated", ledger.close(dead=len(poison)))
    for letter in world.dead():
        assert headers_of(letter)["reason"] == reasons[letter.key().decode().rsplit("-", 1)[0]]


async def test_a_replay_that_is_killed_changes_nothing_and_can_be_repeated(
    world: World, record_property: Record
) -> None:
    ledger = Ledger(world)
    world.photos.answers["photo"] = BRIGHT
    for number in range(150):
        ledger.upload(f"old-{number}", "photo")
    async with world.service() as service:
        await eventually(ledger.settled, deadline_s=60)
        before = {key: message.value() for key, message in by_key(world.tags()).items()}
        process = await asyncio.create_subprocess_exec(
            *REPLAY,
            env=environment(world.settings),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        fetched = len(world.photos.requests)
        await eventually(lambda: len(world.photos.requests) > fetched + 10)
        process.kill()
        await process.wait()
        for number in range(20):
            ledger.upload(f"live-{number}", "photo")
        await eventually(lambda: sum(service.outcomes().values()) == 170)
        ended = await asyncio.to_thread(photo_tagger, *REPLAY[3:], env=environment(world.settings))
        assert ended.returncode == 0, ended.stderr
    record_property("repeated", ledger.close())
    after = {key: message.value() for key, message in by_key(world.tags()).items()}
    assert {key: after[key] for key in before} == before
