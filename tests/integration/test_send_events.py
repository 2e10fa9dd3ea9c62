"""The page for who sends events: its programs, exactly as it has them, and a second client that reads the results."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.harness import RED, World, eventually, headers_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it reads its own version by a deprecated call
    from kafka import KafkaConsumer
    from kafka import TopicPartition as Place

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "send-events.md").read_text()
_DEADLINE_S = 60


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [block for named, block in fenced if named == language]


def program() -> str:
    return blocks("python")[0]


def command(beginning: str, world: World, uri: str) -> str:
    """The command of the page that begins so, with the servers, the topic and the photo of the test."""
    found = next(block for block in blocks("") if block.startswith(beginning))
    for old, new in (
        ("localhost:9092", world.kafka),
        ("photo-uploads", world.settings.kafka.uploads_topic),
        ("https://photos.example/beach-17.jpg", uri),
    ):
        assert old in found
        found = found.replace(old, new)
    return found


def read_plainly(world: World) -> dict[str, dict[str, object]]:
    """The result topic by a client in pure Python, without a package for any compression."""
    topic = world.settings.kafka.tags_topic
    consumer = KafkaConsumer(bootstrap_servers=world.kafka, enable_auto_commit=False, consumer_timeout_ms=500)
    try:
        places = [Place(topic, partition) for partition in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        consumer.seek_to_beginning()
        return {record.key.decode(): json.loads(record.value) for record in consumer}
    finally:
        consumer.close()


async def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", line],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )


async def test_the_program_of_the_page_sends_an_event_whose_tags_any_client_reads(world: World, tmp_path: Path) -> None:
    world.photos.answers["red"] = RED
    (tmp_path / "send.py").write_text(program())
    async with world.service() as service:
        line = command("python send.py", world, f"{world.photos.url}/red")
        sent = await run(line.replace("python", sys.executable, 1), tmp_path)
        assert (sent.returncode, sent.stderr) == (0, "")
        await eventually(lambda: service.outcomes() == {"tagged": 1})
    await eventually(lambda: read_plainly(world).keys() == {"beach-17"})
    assert read_plainly(world)["beach-17"]["brands"][0]["brand"] == "crimson"


async def test_the_program_of_the_page_says_that_nothing_was_sent(tmp_path: Path) -> None:
    (tmp_path / "send.py").write_text(program().replace("flush(30)", "flush(1)"))
    failed = await run(f"{sys.executable} send.py 127.0.0.1:9 photo-uploads beach-17 https://h/x", tmp_path)
    assert failed.returncode == 1
    assert "not sent: no answer" in failed.stderr


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
async def test_the_line_of_the_page_sends_an_event_with_kcat(world: World, tmp_path: Path) -> None:
    world.photos.answers["red"] = RED
    async with world.service() as service:
        sent = await run(command("printf", world, f"{world.photos.url}/red"), tmp_path)
        assert (sent.returncode, sent.stderr) == (0, "")
        await eventually(lambda: service.outcomes() == {"tagged": 1})


async def test_an_event_behind_the_number_of_a_registrys_schema_is_tagged_and_avro_is_named(world: World) -> None:
    world.photos.answers["red"] = RED
    event = {"photo_id": "red", "uri": f"{world.photos.url}/red", "uploaded_at": "2026-11-21T10:15:00Z"}
    number = b"\0" + (7).to_bytes(4)
    world.send("red", number + json.dumps(event).encode(), "photo.uploaded")
    world.send("avro", number + b"\x06red\x20https://h/red", "photo.uploaded")
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"tagged": 1, "dead_lettered": 1})
    (letter,) = world.dead()
    assert "Confluent's wire format with schema 7" in headers_of(letter)["detail"]
