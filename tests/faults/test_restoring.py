"""Redis emptied and restored, topics read again while photos flow: experiments 9 and 11."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import pytest
import redis
from confluent_kafka import Message

from tests.faults.experiment import Experiment
from tests.harness import BLUE, BRIGHT, RED, World, by_key, dump, eventually
from tests.harness_process import environment, photo_tagger
from tests.ledger import Ledger

REPLAY = ("replay", "--from", "beginning")
LIVE_PER_S = 20

pytestmark = pytest.mark.timeout(180)


@pytest.mark.experiment(9, "Redis is emptied, and rebuilt from the result topic")
async def test_redis_rebuilt_from_the_topic_is_the_same_byte_for_byte(world: World, experiment: Experiment) -> None:
    ledger = Ledger(world)
    chance = experiment.chance
    world.photos.answers.update({"red": RED, "blue": BLUE, "bright": BRIGHT})
    revisions = dict.fromkeys((f"photo{number}" for number in range(experiment.size(20, full=60))), 0)
    async with world.service():
        for _ in range(5 * len(revisions)):
            photo = chance.choice(list(revisions))
            revisions[photo] += 1
            if chance.random() < 0.2:
                ledger.delete(photo, revision=revisions[photo])
            else:
                ledger.upload(photo, chance.choice(["red", "blue", "bright"]), revision=revisions[photo])
        await ledger.settle()
    url = world.settings.redis.url
    before = dump(url)
    with redis.Redis.from_url(url) as client:
        client.flushall()
    began_s = time.monotonic()
    env = environment(world.settings)
    rebuilt = await asyncio.to_thread(photo_tagger, "rebuild", env=env)
    experiment.recovered(time.monotonic() - began_s)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert json.loads(rebuilt.stdout)["malformed"] == 0
    assert dump(url) == before
    checked = await asyncio.to_thread(photo_tagger, "rebuild", "--check", env=env)
    assert (checked.returncode, json.loads(checked.stdout)["outcomes"].keys()) == (0, {"same"})
    experiment.close(ledger)


@pytest.mark.experiment(11, "an old topic is replayed beside the live one; the replay is killed and repeated")
async def test_a_replay_that_is_killed_changes_nothing_and_can_be_repeated(
    world: World, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    world.photos.answers["photo"] = BRIGHT
    old = experiment.size(150, full=300)
    for number in range(old):
        ledger.upload(f"old-{number}", f"photo/old-{number}")
    # Judged again and not looked up, as if by another model.
    env = environment(world.settings, TAGGER_DEDUPE__ENABLED="false")
    async with world.service():
        await ledger.settle()
        before = {key: message.value() for key, message in by_key(world.tags()).items()}
        await live(ledger, "alone", seconds=experiment.size(2, full=5))
        await ledger.settle()
        fetched = len(world.photos.requests)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "consumer.cli", *REPLAY),
            env=env,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        least = fetched + experiment.chance.randrange(1, old // 2)
        await eventually(lambda: len(world.photos.requests) > least, deadline_s=60)
        process.kill()
        await process.wait()
        again = asyncio.create_task(asyncio.to_thread(photo_tagger, *REPLAY, env=env))
        began_s, number = time.monotonic(), 0
        while not again.done():
            number += 1
            await live(ledger, f"beside-{number}", seconds=1)
        ended = await again
        experiment.recovered(time.monotonic() - began_s)  # the time that the second replay takes
        assert ended.returncode == 0, ended.stderr
        said = json.loads(ended.stdout)
        assert said["complete"]
        assert said["outcomes"].keys() == {"unchanged"}
        await ledger.settle()
    experiment.close(ledger)
    after = {key: message.value() for key, message in by_key(world.tags()).items()}
    assert {key: after[key] for key in before} == before
    uploads, tags = world.read(world.settings.kafka.uploads_topic), world.tags()
    alone, beside = (p99_ms(uploads, tags, prefix) for prefix in ("alone", "beside"))
    experiment.figure("p99 of live photos alone, ms", alone)
    experiment.figure("p99 of live photos beside a replay, ms", beside)


async def live(ledger: Ledger, prefix: str, seconds: int) -> None:
    """Uploads photos at a steady rate."""
    for number in range(seconds * LIVE_PER_S):
        ledger.upload(f"{prefix}-{number}", f"photo/{prefix}-{number}")
        await asyncio.sleep(1 / LIVE_PER_S)


def p99_ms(uploads: Sequence[Message], tags: Sequence[Message], prefix: str) -> float:
    """The time from upload to (first) result that 99 of 100 photos with a prefix keep, by the records' own times."""
    began = {message.key(): message.timestamp()[1] for message in uploads if message.key().startswith(prefix.encode())}
    ended = {message.key(): message.timestamp()[1] for message in reversed(tags)}
    taken = sorted(ended[key] - began[key] for key in began)
    return float(taken[int(len(taken) * 0.99)])
