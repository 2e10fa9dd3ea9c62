"""`photo-tagger` as an operator runs it: in a process, with an environment, stopped by signals."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web

from consumer import events
from consumer.embedded.paths import free_port
from consumer.embedded.servers import Servers
from tests.fake_models import write_repository
from tests.harness import BRIGHT, RED, World, by_key, eventually, headers_of
from tests.harness_process import environment, photo_tagger, running_tagger


async def run(*arguments: str, world: World, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs one command against the world's servers, off the event loop that serves its photos."""
    return await asyncio.to_thread(photo_tagger, *arguments, env=environment(world.settings, **more))


async def test_one_event_sent_becomes_tags_that_the_command_line_shows(world: World, tmp_path: Path) -> None:
    world.photos.answers["red.jpg"] = RED
    with running_tagger(world.settings, tmp_path, port=free_port()) as tagger:
        sent = await run("send", f"{world.photos.url}/red.jpg", "--id", "red", world=world)
        assert sent.returncode == 0, sent.stderr
        shown = await run("tags", "red", "--wait", "30", world=world)
        assert shown.returncode == 0, shown.stderr
        tags = events.decode_tags(shown.stdout.encode())
        assert [brand.brand for brand in tags.brands] == ["crimson"]
        found = await run("find", "crimson", world=world)
        assert json.loads(found.stdout)["photo_id"] == "red"
        missing = await run("tags", "never-sent", world=world)
        assert (missing.returncode, missing.stderr) == (6, "no tags: never-sent; why: photo-tagger status ID\n")
        assert tagger.get("/live")[0] == 200
        assert 'tagger_records_total{outcome="tagged"} 1.0' in tagger.get("/metrics")[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_stop_signal_finishes_what_is_in_work_and_exits_with_0(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    async def slowly() -> web.Response:
        asked.set()
        await released.wait()
        return web.Response(body=RED)

    world.photos.answers["slow"] = slowly
    with running_tagger(world.settings, tmp_path, port=free_port()) as tagger:
        world.upload("slow")
        await asyncio.wait_for(asked.wait(), 90)
        ending = asyncio.create_task(asyncio.to_thread(tagger.terminate, number))
        await eventually(lambda: tagger.log("service.stopping"))
        assert tagger.get("/ready")[0] == 503
        released.set()
        await eventually(lambda: tagger.log("service.stopped"))
        tagger.process.send_signal(number)
        code, _ = await ending
        assert code == 0
    assert by_key(world.tags()).keys() == {"slow"}
    assert sum(offset for offset in world.committed().values() if offset > 0) == 1


async def test_a_stop_does_not_wait_for_a_photo_that_hangs_and_the_next_run_takes_it(
    world: World, tmp_path: Path
) -> None:
    asked = asyncio.Event()

    async def hang() -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        return web.Response()

    world.photos.answers["photo"] = hang
    slow = {"TAGGER_FETCH__READ_TIMEOUT_S": "60", "TAGGER_FETCH__TOTAL_TIMEOUT_S": "60"}
    drain = {"TAGGER_SERVICE__DRAIN_TIMEOUT_S": "1"}
    with running_tagger(world.settings, tmp_path, port=free_port(), **slow, **drain) as tagger:
        world.upload("photo")
        await asyncio.wait_for(asked.wait(), 90)
        code, seconds = await asyncio.to_thread(tagger.terminate)
        assert code == 0
        assert seconds < 10
    assert world.tags() == world.dead() == []
    world.photos.answers["photo"] = BRIGHT
    with running_tagger(world.settings, tmp_path, port=free_port(), name="second"):
        await eventually(lambda: by_key(world.tags()).keys() == {"photo"})


async def test_a_service_without_its_servers_waits_says_so_and_can_be_stopped(world: World, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    elsewhere = {
        "TAGGER_KAFKA__BOOTSTRAP_SERVERS": nobody,
        "TAGGER_REDIS__URL": f"redis://{nobody}/0",
        "TAGGER_TRITON__URL": nobody,
    }
    with running_tagger(world.settings, tmp_path, port=free_port(), **elsewhere) as tagger:
        await eventually(
            lambda: {line["dependency"] for line in tagger.log("dependency.lost")} == {"kafka", "redis", "triton"}
        )
        assert tagger.get("/live")[0] == 200
        status, body = tagger.get("/ready")
        assert status == 503
        named = {reason.partition(": ")[0] for reason in json.loads(body)["waiting_for"]}
        assert {"kafka", "redis", "triton"} <= named
        assert (await asyncio.to_thread(tagger.terminate))[0] == 0
        assert "Traceback" not in tagger.log_path.read_text()


async def test_models_that_do_not_fit_stop_the_service_with_a_clear_message(
    world: World, servers: Servers, tmp_path: Path
) -> None:
    repository = write_repository(tmp_path / "models", brand={"label_checksum": "0" * 64})
    triton = servers.start_triton(repository, name="mismatched")
    try:
        ended = await run("run", world=world, TAGGER_TRITON__URL=triton.grpc_url, TAGGER_HEALTH__PORT=str(free_port()))
    finally:
        triton.kill()
    assert ended.returncode == 4
    assert "brand_logo: label_checksum is 000000" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_replay_prints_one_result_line_and_changes_nothing(world: World, tmp_path: Path) -> None:
    world.photos.answers["red"] = RED
    world.upload("red")
    world.upload("missing")
    with running_tagger(world.settings, tmp_path, port=free_port()):
        await eventually(lambda: by_key(world.tags()).keys() == {"red"} and len(world.dead()) == 1)
    before = world.tags()[0].value()
    ended = await run("replay", "--from", "1h", world=world)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "total": 2,
        "outcomes": {"dead_lettered": 1, "unchanged": 1},
        "complete": True,
    }
    assert {message.value() for message in world.tags()} == {before}
    assert {headers_of(letter)["original_offset"] for letter in world.dead()} == {"0"}


def policies_of(pid: int) -> list[int]:
    """The scheduling policy of each thread of a process that does not end meanwhile."""
    policies = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            policies.append(os.sched_getscheduler(int(task.name)))
    return policies


def rank_of(pid: int) -> str:
    """How the kernel ranks a process's session among the others, such as `nice 0`; empty where it does not."""
    try:
        return Path(f"/proc/{pid}/autogroup").read_text().partition(" ")[2].strip()
    except OSError:
        return ""


@pytest.mark.parametrize(("yields", "policy"), [("true", os.SCHED_IDLE), ("false", os.SCHED_OTHER)])
async def test_a_replay_yields_every_core_unless_it_is_told_not_to(world: World, yields: str, policy: int) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def hangs() -> web.Response:
        asked.set()
        await never.wait()
        return web.Response()

    world.photos.answers["photo"] = hangs
    world.upload("photo")
    replay = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumer.cli", "replay", "--from", "1h"),
        env=environment(world.settings, TAGGER_SERVICE__REPLAY_YIELDS=yields),
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await asyncio.wait_for(asked.wait(), 90)
        policies = policies_of(replay.pid)
        assert len(policies) > 3, "those of the Kafka clients as well"
        assert set(policies) == {policy}
        # Empty where the kernel does not share cores among sessions.
        assert rank_of(replay.pid) in {"", f"nice {19 if yields == 'true' else 0}"}
    finally:
        never.set()
        replay.kill()
        await replay.wait()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TAGGER_KAFKA__GROUPID": "x"}, "unknown setting TAGGER_KAFKA__GROUPID"),
        ({"TAGGER_SERVICE__MAX_IN_FLIGHT": "many"}, "service.max_in_flight (from TAGGER_SERVICE__MAX_IN_FLIGHT)"),
        ({"TAGGER_CONFIG": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_wrong_settings_are_named_and_exit_with_3(variables: dict[str, str], said: str, tmp_path: Path) -> None:
    ended = photo_tagger("run", env={"PATH": "/usr/bin:/bin", **variables}, cwd=tmp_path)
    assert ended.returncode == 3
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_config_prints_every_setting_with_its_origin_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "tagger.toml").write_text('[kafka]\ngroup_id = "from-file"\n', encoding="utf-8")
    env = {"PATH": "/usr/bin:/bin", "TAGGER_REDIS__URL": "redis://user:hunter2@redis:6379/0"}
    ended = photo_tagger("config", env=env, cwd=tmp_path)
    rows = {row["name"]: row for row in map(json.loads, ended.stdout.splitlines())}
    assert rows["kafka.group_id"]["value"] == "from-file"
    assert rows["kafka.group_id"]["origin"] == "file tagger.toml"
    assert rows["redis.url"]["origin"] == "environment TAGGER_REDIS__URL"
    assert rows["fetch.max_bytes"]["origin"] == "default"
    assert "hunter2" not in ended.stdout
