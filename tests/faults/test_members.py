"""Members that die, restart, come, go and freeze while photos flow: experiments 1 to 4."""

import asyncio
import json
import os
import re
import signal
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from aiohttp import web
from tritonclient.grpc import InferenceServerClient

from consumer.embedded.paths import free_port
from tests.faults.experiment import Experiment
from tests.harness import BLUE, BRIGHT, RED, World, by_key, eventually
from tests.harness_process import RunningTagger, running_tagger
from tests.ledger import Ledger

#: A dead member is missed after three seconds; what is done is committed every quarter of a second.
QUICK = {
    "session.timeout.ms": 3000,
    "heartbeat.interval.ms": 500,
    "max.poll.interval.ms": 3000,
    "auto.commit.interval.ms": 250,
}
EXTRA = {"TAGGER_KAFKA__EXTRA": json.dumps(QUICK)}
IN_FLIGHT = 8

pytestmark = pytest.mark.timeout(240)


@pytest.mark.experiment(1, "a worker of three is killed")
async def test_a_killed_worker_costs_no_photo_and_repeats_no_more_than_it_had_in_work(
    world: World, tmp_path: Path, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    world.photos.answers["photo"] = BRIGHT
    kills = experiment.size(1, full=2)
    bounded = {**EXTRA, "TAGGER_SERVICE__MAX_IN_FLIGHT": str(IN_FLIGHT)}
    with running_tagger(world.settings, tmp_path, "--workers", "3", port=free_port(), **bounded) as tagger:
        for number in range(kills):
            await tagger.all_at_work()
            # Longer than a commit takes: whatever a kill finds uncommitted was in work together.
            world.photos.delay_s = 1.0
            for photo in range(60):
                ledger.upload(f"photo-{number}-{photo}", f"photo/{number}-{photo}")
            await asyncio.sleep(experiment.chance.uniform(0.5, 2.5))
            os.kill(tagger.workers()[experiment.chance.randrange(3)], signal.SIGKILL)
            killed_s = time.monotonic()
            world.photos.delay_s = 0.0
            await experiment.recovery(ledger, "photo", since_s=killed_s)
            await asyncio.to_thread(ledger.check_commits)
        await ledger.settle()
        await tagger.all_at_work()
        assert [line["code"] for line in tagger.log("worker.ended")] == [-signal.SIGKILL] * kills
        assert f"tagger_worker_restarts_total {kills}.0" in tagger.get("/metrics")[1]
    books = experiment.close(ledger)
    assert books.duplicated <= kills * IN_FLIGHT


@pytest.mark.experiment(2, "members are replaced one after the other (SIGTERM)")
async def test_rolling_restarts_judge_no_photo_twice(world: World, tmp_path: Path, experiment: Experiment) -> None:
    ledger = Ledger(world)
    world.photos.answers["photo"] = BRIGHT
    judged = inferences(world)
    uploads = world.settings.kafka.uploads_topic
    with ExitStack() as stack:

        def member(number: int) -> RunningTagger:
            return stack.enter_context(
                running_tagger(world.settings, tmp_path, port=free_port(), name=f"member{number}", **EXTRA)
            )

        old = member(0)
        await at_work(old, uploads)
        for number in range(1, experiment.size(2, full=10) + 1):
            new = member(number)
            for photo in range(40):
                ledger.upload(f"photo-{number}-{photo}", f"photo/{number}-{photo}")
                await asyncio.sleep(0.01)
            await at_work(new, uploads)
            code, seconds = await asyncio.to_thread(old.terminate)
            assert code == 0
            assert seconds < 10
            experiment.figure("drained and left, s", seconds)
            old = new
        await experiment.recovery(ledger, "photo", since_s=time.monotonic())
        await ledger.settle()
    books = experiment.close(ledger)
    assert books.duplicated == 0
    assert len(world.photos.requests) == ledger.produced.total(), "a photo was fetched twice"
    assert inferences(world) - judged == ledger.produced.total(), "a photo was judged twice"


async def at_work(tagger: RunningTagger, topic: str) -> None:
    """Waits until a member has partitions."""
    await eventually(lambda: tagger.partitions(topic), deadline_s=60)


def inferences(world: World) -> int:
    """How many photos the quality model has judged since its start."""
    with InferenceServerClient(world.settings.triton.url) as client:
        answer = client.get_inference_statistics("photo_quality")
    return sum(int(model.inference_count) for model in answer.model_stats)


@pytest.mark.experiment(3, "members join and leave in a storm")
async def test_members_that_join_and_leave_lose_nothing_and_keep_each_photos_order(
    world: World, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    chance = experiment.chance
    world.photos.answers.update({"red": RED, "blue": BLUE})
    revisions = dict.fromkeys(range(12), 0)
    async with AsyncExitStack() as first:
        await first.enter_async_context(world.service())
        for _ in range(experiment.size(3, full=8)):
            async with world.service():
                for _ in range(60):
                    photo = chance.randrange(12)
                    revisions[photo] += 1
                    name = f"{chance.choice(['red', 'blue'])}/{photo}.{revisions[photo]}"
                    ledger.upload(f"photo-{photo}", name, revision=revisions[photo])
                await asyncio.sleep(chance.uniform(0.2, 1.5))  # the storm: a member leaves at a random moment
            await asyncio.to_thread(ledger.check_commits)
        await experiment.recovery(ledger, "red", since_s=time.monotonic())
        await ledger.settle()
    experiment.close(ledger)
    final = {key: message.value() for key, message in by_key(world.tags()).items()}
    for photo, revision in revisions.items():
        assert f'"version":"{revision:013d}.'.encode() in final[f"photo-{photo}"]
        assert fetched_in_order(world, photo)


def fetched_in_order(world: World, photo: int) -> bool:
    """Whether the revisions of a photo were first fetched in the order of their uploads."""
    marks = [name.partition("/")[2].partition(".") for name in world.photos.requests]
    revisions = list(dict.fromkeys(int(revision) for mark, _, revision in marks if mark == str(photo)))
    return revisions == sorted(revisions)


@pytest.mark.experiment(4, "a member freezes and wakes up")
async def test_a_frozen_member_that_wakes_up_neither_commits_nor_overwrites(
    world: World, tmp_path: Path, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    asked, released = asyncio.Event(), asyncio.Event()

    async def slowly() -> web.Response:
        asked.set()
        await released.wait()
        return web.Response(body=RED)

    world.photos.answers.update({"old": slowly, "new": BLUE})
    slow = {"TAGGER_FETCH__READ_TIMEOUT_S": "90", "TAGGER_FETCH__TOTAL_TIMEOUT_S": "90", **EXTRA}
    with running_tagger(world.settings, tmp_path, port=free_port(), name="zombie", **slow) as zombie:
        ledger.upload("photo", "old", revision=1)
        await asyncio.wait_for(asked.wait(), 60)
        zombie.process.send_signal(signal.SIGSTOP)
        frozen_s = time.monotonic()
        world.photos.answers["old"] = RED
        async with world.service():
            ledger.upload("photo", "new", revision=2)
            await experiment.recovery(ledger, "new", since_s=frozen_s)
            await ledger.settle()
            newest, committed = by_key(world.tags())["photo"].value(), world.committed()
            zombie.process.send_signal(signal.SIGCONT)
            # It finds its partitions lost, finishes its old photo, and takes part in the group again.
            await eventually(lambda: lost_uploads(zombie, world), deadline_s=60)
            released.set()
            await eventually(lambda: late_completions(zombie) >= 1, deadline_s=60)
            ledger.upload("other", "new")
            await ledger.settle()
        assert by_key(world.tags())["photo"].value() == newest
        assert all(offset >= committed[partition] for partition, offset in world.committed().items())
    experiment.close(ledger)


def late_completions(tagger: RunningTagger) -> float:
    """Records that it finished for partitions that it had lost: the frozen one, and what it may have fetched ahead."""
    (line,) = re.findall(r"^tagger_late_completions_total (\S+)$", tagger.get("/metrics")[1], re.MULTILINE)
    return float(line)


def lost_uploads(tagger: RunningTagger, world: World) -> bool:
    """Whether it has heard that its upload partitions are lost; those of the retry topic are another membership."""
    topic = world.settings.kafka.uploads_topic
    lines = [line for line in tagger.log("assignment.revoked") if line["lost"]]
    return any(name.startswith(topic) for line in lines for name in line["partitions"])
