"""What an operator is told of one photo, and of how far the service is behind."""

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from consumer.embedded.paths import free_port
from tests.harness import RED, World, eventually
from tests.harness_process import environment, photo_tagger, running_tagger


async def tagger(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(photo_tagger, *arguments, env=environment(world.settings))


async def status(world: World, photo_id: str, code: int = 0) -> dict[str, Any]:
    ended = await tagger(world, "status", photo_id)
    assert ended.returncode == code, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


async def test_each_photo_says_where_it_is_and_why(world: World) -> None:
    world.photos.answers.update({"fine": RED, "again": RED, "gone": RED, "busy": 503})
    hourly = world.settings.retry.model_copy(update={"rounds": 5, "delays_s": (3600.0,)})
    async with world.service(world.settings.model_copy(update={"retry": hourly})) as service:
        for name in ("fine", "again", "gone", "busy", "missing"):
            world.upload(name)
        await eventually(lambda: service.outcomes() == {"tagged": 3, "deferred": 1, "dead_lettered": 1})
        world.delete("gone")
        await eventually(lambda: service.outcomes().get("deleted") == 1)
        # It stands behind the record that waits, so that it looks unread; its tags say that it is not.
        fine = await status(world, "fine")
        assert (fine["state"], fine["release"], fine["waiting"], fine["queued"]) == ("tagged", 1, [], [])
        assert fine["in_force"]["quality"]["score"] > 0
        busy = await status(world, "busy")
        (wait,) = busy["waiting"]
        assert (busy["state"], wait["reason"], wait["attempts"]) == ("waiting", "http_5xx", 2)
        assert wait["until"] > wait["sent_at"]
        missing = await status(world, "missing")
        (letter,) = missing["letters"]
        assert (missing["state"], letter["reason"], letter["state"]) == ("dead_letter", "http_4xx", "waiting")
        gone = await status(world, "gone")
        assert (gone["state"], gone["release"]) == ("deleted", None)
    world.upload("again")
    again = await status(world, "again")
    assert (again["state"], len(again["queued"]), again["in_force"]["photo_id"]) == ("queued", 1, "again")
    for nothing in ("never", "", "x" * 1000, "\udcff/\n\x1b[31m"):
        assert (await status(world, nothing, code=6))["state"] == "not_seen"


async def test_who_waits_for_tags_is_told_at_once_that_there_will_be_none(world: World) -> None:
    world.photos.answers["fine"] = RED
    async with world.service() as service:
        world.upload("missing")
        await eventually(lambda: service.outcomes() == {"dead_lettered": 1})
        began_s = time.monotonic()
        waiting = asyncio.create_task(tagger(world, "tags", "missing", "fine", "--wait", "60"))
        world.upload("fine")
        ended = await waiting
        assert (ended.returncode, time.monotonic() - began_s < 30) == (6, True)
        assert json.loads(ended.stdout)["photo_id"] == "fine"
        (line,) = ended.stderr.splitlines()
        assert line.startswith("no tags, but a dead letter: missing: http_4xx: ")
    ended = await tagger(world, "tags", "never")
    assert (ended.returncode, ended.stderr) == (6, "no tags: never; why: photo-tagger status ID\n")


async def test_the_lag_counts_what_has_no_outcome_and_tells_its_age(world: World) -> None:
    world.photos.answers["fine"] = RED
    async with world.service() as service:
        world.upload("fine")
        await eventually(lambda: service.outcomes() == {"tagged": 1})
    for number in range(5):
        world.upload(f"late{number}", "fine")
    ended = await tagger(world, "lag")
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    kafka = world.settings.kafka
    assert {row["topic"] for row in rows} == {kafka.uploads_topic, kafka.retry_topic}
    behind = [row for row in rows if row["lag"]]
    assert sum(row["lag"] for row in behind) == 5
    assert all(row["group"] == kafka.group_id for row in behind)
    assert all(row["end"] - row["committed"] == row["lag"] and 0 <= row["oldest_age_s"] < 60 for row in behind)
    assert all(row["oldest_at"] is None for row in rows if not row["lag"])


async def test_a_kafka_that_does_not_answer_is_one_line(world: World) -> None:
    env = environment(world.settings, TAGGER_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    for command in (("lag",), ("status", "a")):
        ended = await asyncio.to_thread(photo_tagger, *command, env=env)
        assert ended.returncode == 5
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        assert "127.0.0.1:1" in line


async def test_ready_says_what_the_service_waits_for(world: World, tmp_path: Path) -> None:
    with running_tagger(world.settings, tmp_path, port=free_port()) as service:
        await asyncio.to_thread(service.wait_ready)
        env = environment(world.settings, TAGGER_HEALTH__PORT=str(service.port))
        ended = await asyncio.to_thread(photo_tagger, "ready", "--wait", "5", env=env)
        assert (ended.returncode, json.loads(ended.stdout)) == (0, {"ready": True, "waiting_for": None})
    ended = await asyncio.to_thread(photo_tagger, "ready", env=env)
    assert (ended.returncode, json.loads(ended.stdout)["ready"]) == (5, False)
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"not ready: http://127.0.0.1:{service.port}/ready gives no answer")


def test_help_and_version_are_where_people_look() -> None:
    helped, version = photo_tagger("-h"), photo_tagger("--version")
    assert "lag " in helped.stdout
    assert version.stdout == photo_tagger("version").stdout
    assert json.loads(photo_tagger("version", "--json").stdout) == {"version": version.stdout.strip()}
    assert photo_tagger("runs", "start", "-h").returncode == helped.returncode == version.returncode == 0


async def test_a_brand_that_nobody_shows_is_told_from_one_that_is_not_known(world: World) -> None:
    async def found(brand: str, **env: str) -> tuple[int, str, str]:
        named = environment(world.settings, **env)
        ended = await asyncio.to_thread(photo_tagger, "find", brand, env=named)
        return ended.returncode, ended.stdout, ended.stderr

    assert await found("azure") == (0, "", "no photo shows azure\n")
    unknown = "no photo shows {}: the served model does not know this brand{}\n"
    assert await found("AZUR") == (0, "", unknown.format("AZUR", ", but azure"))
    assert await found("no_logo_at_all") == (0, "", unknown.format("no_logo_at_all", ""))
    assert await found("AZUR", TAGGER_TRITON__URL="127.0.0.1:1") == (0, "", "no photo shows AZUR\n")


def test_a_rate_becomes_cores_and_bytes_without_any_server() -> None:
    found = json.loads(photo_tagger("sizing", "--photos-per-s", "1000", "--triton-ms", "2").stdout)
    assert {need["what"]: need["amount"] for need in found["needs"]}["workers"] == 6
    refused = photo_tagger("sizing", "--photos-per-s", "0")
    assert refused.returncode == 3
    assert refused.stderr.startswith("photo-tagger: the rate must be above 0")
