"""A dependency's outage is not the photo's fault: experiments 5, 7 and 8 on servers of this module's own."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from consumer.embedded.paths import free_port
from tests.faults.conftest import Server
from tests.faults.experiment import Experiment
from tests.harness import World, eventually
from tests.harness_process import running_tagger
from tests.ledger import Ledger

#: A service that waits needs no more memory than one that works; the rest is the allocator's.
MOST_GROWTH_BYTES = 48 * 1024 * 1024

pytestmark = pytest.mark.timeout(180)


def send(ledger: Ledger, prefix: str, count: int) -> None:
    """Uploads photos of different bytes, so that each needs Triton."""
    for number in range(count):
        ledger.upload(f"{prefix}{number}", f"photo/{prefix}{number}")


def check_reports(lines: Sequence[dict[str, Any]], name: str, outages: int) -> None:
    """Every loss of a dependency that was logged was followed by its recovery, and there are few."""
    told = [line["event"] for line in lines if line.get("dependency") == name]
    pairs = told.count("dependency.recovered")
    assert 0 < pairs <= 3 * outages
    assert told[-1] == "dependency.recovered"
    ends = [number for number, event in enumerate(told) if event == "dependency.recovered"]
    assert all(told[end - 1] == "dependency.lost" for end in ends)


@pytest.mark.experiment(5, "the broker is killed and restarted")
async def test_photos_in_work_survive_the_brokers_restart(
    fragile: World, breakable: dict[str, Server], experiment: Experiment
) -> None:
    ledger = Ledger(fragile)
    fragile.photos.delay_s = 0.05
    async with fragile.service() as service:
        for number in range(experiment.size(1, full=3)):
            send(ledger, f"{number}-", 100)
            done = sum(service.outcomes().values())
            await eventually(lambda done=done: sum(service.outcomes().values()) > done)
            await asyncio.sleep(experiment.chance.uniform(0, 0.3))
            breakable["kafka"].kill()
            await asyncio.to_thread(breakable["kafka"].start)
            await experiment.recovery(ledger, "photo", since_s=time.monotonic())
        await ledger.settle()
        assert service.live()
    experiment.close(ledger)


@pytest.mark.experiment(7, "Triton is killed and stays away")
async def test_photos_wait_in_a_pause_while_triton_is_dead(
    fragile: World, breakable: dict[str, Server], tmp_path: Path, experiment: Experiment
) -> None:
    ledger = Ledger(fragile)
    with running_tagger(fragile.settings, tmp_path, port=free_port()) as tagger:
        send(ledger, "before", 50)
        await ledger.settle()
        before = tagger.memory()
        breakable["triton"].kill()
        send(ledger, "during", 150)  # more than the window holds
        await eventually(lambda: "tagger_paused 1.0" in tagger.get("/metrics")[1])
        await eventually(lambda: "triton" in tagger.get("/ready")[1])
        highest = await highest_memory(tagger, seconds=experiment.size(1, full=10))
        assert tagger.get("/live")[0] == 200
        assert fragile.dead() == fragile.waiting() == []
        await asyncio.to_thread(breakable["triton"].start)
        await experiment.recovery(ledger, "photo", since_s=time.monotonic())
        await ledger.settle()
        assert tagger.get("/ready")[0] == 200
        experiment.figure("memory grew, MB", (highest - before) / 1e6)
        assert highest - before < MOST_GROWTH_BYTES
        check_reports(tagger.log(), "triton", outages=1)
    experiment.close(ledger)


async def highest_memory(tagger: Any, seconds: float) -> int:
    """The most memory that a process has within a time."""
    highest, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        highest = max(highest, tagger.memory())
        await asyncio.sleep(0.1)
    return highest


@pytest.mark.experiment(8, "Redis is killed and restarted (append-only file, synced every second)")
async def test_no_tag_that_redis_acknowledged_is_lost_when_it_is_killed(
    fragile: World, breakable: dict[str, Server], experiment: Experiment
) -> None:
    ledger = Ledger(fragile)
    kills = experiment.size(2, full=6)
    async with fragile.service() as service:
        for number in range(kills):
            send(ledger, f"before{number}-", 60)
            await asyncio.sleep(experiment.chance.uniform(0, 0.2))
            breakable["redis"].kill()
            send(ledger, f"during{number}-", 100)
            await eventually(lambda: "redis" in service.dependencies.lost)
            await asyncio.to_thread(ledger.check_commits)
            await asyncio.to_thread(breakable["redis"].start)
            await experiment.recovery(ledger, "photo", since_s=time.monotonic())
        await ledger.settle()
        assert service.not_ready() == []
        assert "dead_lettered" not in service.outcomes()
    lines = [*fragile.events_logged("dependency.lost"), *fragile.events_logged("dependency.recovered")]
    check_reports(sorted(lines, key=lambda line: line["timestamp"]), "redis", outages=kills)
    experiment.close(ledger)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("triton", marks=pytest.mark.experiment(7, "Triton hangs")),
        pytest.param("redis", marks=pytest.mark.experiment(8, "Redis hangs")),
    ],
)
async def test_a_server_that_hangs_is_not_waited_for_by_the_kafka_thread(
    fragile: World, breakable: dict[str, Server], experiment: Experiment, name: str
) -> None:
    ledger = Ledger(fragile)
    async with fragile.service() as service:
        send(ledger, "before", 5)
        await eventually(lambda: service.outcomes() == {"tagged": 5})
        breakable[name].pause()
        try:
            send(ledger, "during", 100)
            await eventually(lambda: name in service.dependencies.lost)
            assert service.live()
        finally:
            breakable[name].resume()
        await experiment.recovery(ledger, "photo", since_s=time.monotonic())
        await ledger.settle()
    experiment.close(ledger)
