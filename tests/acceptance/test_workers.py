"""`photo-tagger run --workers N`: processes of one group that are replaced when they die or hang, and end together."""

import asyncio
import io
import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from consumer.embedded.paths import free_port
from consumer.embedded.servers import Servers
from tests.fake_models import write_repository
from tests.harness import RED, World, eventually, headers_of
from tests.harness_process import photo_tagger, running_tagger
from tests.ledger import Ledger

QUICK = {"TAGGER_KAFKA__EXTRA": json.dumps({"heartbeat.interval.ms": 500, "session.timeout.ms": 6000})}


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def bomb() -> bytes:
    """A photo of two megabytes that decodes for the better part of a minute: its last scan 4,000 times."""
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000), (250, 20, 20)).save(buffer, "JPEG", progressive=True, quality=90)
    body = buffer.getvalue()
    last = body.rindex(b"\xff\xda")
    return body[:-2] + body[last:-2] * 4000 + body[-2:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_workers_share_the_photos_and_a_stop_drains_all(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    world.photos.answers["red"] = RED
    ledger = Ledger(world)
    with running_tagger(world.settings, tmp_path, "--workers", "3", port=free_port(), **QUICK) as tagger:
        await tagger.all_at_work()
        for photo in range(60):
            ledger.upload(f"photo{photo}", "red")
        await ledger.settle()
        tagged = tagger.measured("tagger_records_total")
        assert sum(tagged.values()) == 60
        assert len(tagged) == 3, "every worker has a share of the work"
        assert tagger.get("/live")[0] == 200
        code, _ = await asyncio.to_thread(tagger.terminate, number)
        assert code == 0
        assert Counter(line["worker"] for line in tagger.log("service.stopped")) == {0: 1, 1: 1, 2: 1}
        assert not any(map(runs, tagger.workers().values()))
    ledger.close()


async def test_no_worker_outlives_a_killed_supervisor(world: World, tmp_path: Path) -> None:
    with running_tagger(
        world.settings, tmp_path, port=free_port(), TAGGER_SERVICE__WORKERS="2", TAGGER_HEALTH__ENABLED="false"
    ) as tagger:
        await eventually(lambda: {line["worker"] for line in tagger.log("assignment.received")} == {0, 1})
        assert all(map(runs, tagger.workers().values()))
        tagger.process.kill()
        await eventually(lambda: not any(map(runs, tagger.workers().values())), deadline_s=20)


async def test_a_decode_that_hangs_costs_one_photo_and_one_worker(world: World, tmp_path: Path) -> None:
    world.photos.answers.update({"red": RED, "bomb": bomb()})
    ledger = Ledger(world)
    # The guard that refuses this photo is opened, so that the next line of defence is seen at work.
    limits = {
        "TAGGER_PREPARE__MAX_SCANS": "1000000",
        "TAGGER_PREPARE__MAX_DECODE_CPU_S": "1000000",
        "TAGGER_PREPARE__TIMEOUT_S": "2",
        "TAGGER_PREPARE__OVERDUE_GRACE_S": "0.5",
    }
    with running_tagger(world.settings, tmp_path, "--workers", "2", port=free_port(), **QUICK, **limits) as tagger:
        await tagger.all_at_work()
        for number in range(20):
            ledger.upload(f"before{number}", "red")
        ledger.upload("bomb", "bomb")
        for number in range(20):
            ledger.upload(f"after{number}", "red")
        await eventually(lambda: tagger.log("worker.restarted"))
        (ended,) = tagger.log("worker.ended")
        (hung,) = tagger.log("decode.hung")
        assert (ended["code"], ended["worker"]) == (7, hung["worker"])
        await ledger.settle()
        await tagger.all_at_work()
        assert (await asyncio.to_thread(tagger.terminate))[0] == 0
    assert [headers_of(letter)["reason"] for letter in world.dead()] == ["decode_timeout"]
    ledger.close(dead=1)


async def test_a_stop_does_not_wait_for_a_decode_that_hangs(world: World, tmp_path: Path) -> None:
    world.photos.answers["bomb"] = bomb()
    limits = {
        "TAGGER_PREPARE__MAX_SCANS": "1000000",
        "TAGGER_PREPARE__MAX_DECODE_CPU_S": "1000000",
        "TAGGER_PREPARE__TIMEOUT_S": "60",
        "TAGGER_SERVICE__DRAIN_TIMEOUT_S": "0.5",
    }
    with running_tagger(world.settings, tmp_path, port=free_port(), **limits) as tagger:
        world.upload("bomb")
        await eventually(lambda: world.photos.requests == ["bomb"])
        code, seconds = await asyncio.to_thread(tagger.terminate)
        assert code == 0
        assert seconds < 10
        assert tagger.log("service.stopped")
    assert world.tags() == world.dead() == []


async def test_what_no_restart_mends_ends_the_service_with_its_code(
    world: World, servers: Servers, tmp_path: Path
) -> None:
    repository = write_repository(tmp_path / "models", brand={"label_checksum": "0" * 64})
    triton = servers.start_triton(repository, name="mismatched-for-workers")
    try:
        with running_tagger(
            world.settings, tmp_path, "--workers", "2", port=free_port(), TAGGER_TRITON__URL=triton.grpc_url
        ) as tagger:
            assert await asyncio.to_thread(tagger.process.wait, 60) == 4
    finally:
        triton.kill()
    assert "brand_logo: label_checksum is 000000" in tagger.log_path.read_text()
    assert not tagger.log("worker.restarted")


def test_wrong_settings_start_no_worker(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "TAGGER_SERVICE__MAX_IN_FLIGHT": "many"}
    ended = photo_tagger("run", "--workers", "3", env=env, cwd=tmp_path)
    assert ended.returncode == 3
    assert "service.max_in_flight" in ended.stderr
    assert "worker.started" not in ended.stdout
