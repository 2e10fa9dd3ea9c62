"""Photos that are broken, slow, huge or many hurt nobody else: experiments 10 and 12."""

import asyncio
import io
import json
import random
import struct
import time
import zlib
from pathlib import Path

import pytest
from aiohttp import web
from confluent_kafka import Producer
from PIL import Image

from consumer import events
from consumer.embedded.paths import free_port
from consumer.settings import Settings
from tests.faults.experiment import Experiment
from tests.harness import BLUE, BRIGHT, RED, World, eventually, headers_of
from tests.harness_process import RunningTagger, running_tagger
from tests.ledger import Ledger

MB = 1_000_000
#: Each thread that decodes has libjpeg's and Pillow's buffers, and the allocator keeps some of what was freed.
FIXED_GROWTH_BYTES = 100 * MB
#: Room for three of the largest photos at once, and for two of their decodes, far below the defaults.
BYTES_IN_FLIGHT = 64 * MB
DECODE_BYTES = 64 * MB

pytestmark = pytest.mark.timeout(180)


@pytest.mark.experiment(10, "poison among the photos, and one that hangs")
async def test_poison_becomes_dead_letters_and_nobody_else_waits(world: World, experiment: Experiment) -> None:
    answered: dict[str, float] = {}

    async def hang() -> web.Response:
        answered.setdefault("hanging", time.monotonic())
        await asyncio.Event().wait()
        return web.Response()

    poison = {"truncated": RED[:200], "bomb": bomb(), "page": b"<html>", "gone": 404, "empty": b"", "hanging": hang}
    reasons = {
        "truncated": "corrupt_image",
        "bomb": "too_many_pixels",
        "page": "unsupported_format",
        "gone": "http_4xx",
        "empty": "empty_body",
        "hanging": "fetch_timeout",
        "schema": "invalid_event",
    }
    world.photos.answers.update({"good": BRIGHT, **poison})
    ledger = Ledger(world)
    copies = experiment.size(1, full=4)
    names = [*reasons] * copies + ["good"] * (19 * len(reasons) * copies)  # one of twenty is poison
    experiment.chance.shuffle(names)
    for number, name in enumerate(names):
        if name == "schema":
            ledger.send(f"schema-{number}", b'{"photo_id": "x"}')
        else:
            ledger.upload(f"{name}-{number}", name)
    async with world.service(impatient(world.settings)):
        await ledger.settle()
        experiment.recovered(
            time.monotonic() - answered["hanging"]
        )  # until every position is past the photo that hangs
    experiment.close(ledger, dead=len(reasons) * copies)
    for letter in world.dead():
        assert headers_of(letter)["reason"] == reasons[letter.key().decode().rsplit("-", 1)[0]]


def impatient(settings: Settings) -> Settings:
    """The same settings, but a photo host that hangs is given up after a second."""
    fetch = settings.fetch.model_copy(update={"read_timeout_s": 1.0, "attempts": 1})
    return settings.model_copy(update={"fetch": fetch})


def bomb() -> bytes:
    """A small PNG that says it is 40,000 pixels wide and high."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.experiment(10, "so much poison that the breaker opens")
async def test_a_burst_of_dead_letters_stops_the_intake_loudly_until_good_photos_come(
    world: World, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    world.photos.answers.update({"fine": BLUE, "gone": 404})
    limits = {"dead_letter_least": 50, "dead_letter_pause_s": 0.3, "max_in_flight": 4}
    service_settings = world.settings.service.model_copy(update=limits)
    poisoned = experiment.chance.randrange(55, 70)  # too few are left behind those 50 to open it a second time
    async with world.service(world.settings.model_copy(update={"service": service_settings})) as service:
        for number in range(poisoned):
            ledger.upload(f"poison{number}", f"gone/{number}")
        await eventually(lambda: world.events_logged("breaker.opened"))
        assert any(reason.startswith("breaker: ") for reason in service.not_ready())
        assert service.metrics.registry.get_sample_value("tagger_breaker_open") == 1
        assert service.live()
        await eventually(lambda: world.events_logged("breaker.probed"))
        better_s = time.monotonic()
        for number in range(30):
            ledger.upload(f"fine{number}", "fine")
        await eventually(lambda: service.outcomes() == {"dead_lettered": poisoned, "tagged": 30}, deadline_s=60)
        await eventually(lambda: service.not_ready() == [])
        experiment.recovered(time.monotonic() - better_s)
        assert service.metrics.registry.get_sample_value("tagger_breaker_open") == 0
        await ledger.settle()
    (line,) = world.events_logged("breaker.opened")
    assert (line["level"], line["dead_letters"], line["photos"]) == ("error", 50, 50)
    assert len(world.events_logged("breaker.closed")) == 1
    experiment.close(ledger, dead=poisoned)


@pytest.mark.experiment(12, "a burst of photos of 20 MB each")
async def test_memory_is_bounded_while_the_largest_photos_come_in_a_burst(
    world: World, tmp_path: Path, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    world.photos.answers.update({"small": BRIGHT, "large": await asyncio.to_thread(large_photo)})
    budgets = {
        "TAGGER_SERVICE__MAX_IN_FLIGHT_BYTES": str(BYTES_IN_FLIGHT),
        "TAGGER_PREPARE__MAX_DECODE_BYTES": str(DECODE_BYTES),
        "TAGGER_DEDUPE__ENABLED": "false",
        "TAGGER_FETCH__TOTAL_TIMEOUT_S": "60",
    }
    with running_tagger(world.settings, tmp_path, port=free_port(), **budgets) as tagger:
        for number in range(10):
            ledger.upload(f"small{number}", f"small/{number}")
        await ledger.settle()
        before, began_s = tagger.memory(), time.monotonic()
        for number in range(experiment.size(16, full=20)):
            ledger.upload(f"large{number}", f"large/{number}")
        await ledger.settle(120)
        experiment.figure("photos of 20 MB per second", experiment.size(16, full=20) / (time.monotonic() - began_s))
        grew = tagger.memory("VmHWM") - before
        experiment.figure("memory grew, MB", grew / MB)
        assert not any(line["lost"] for line in tagger.log("assignment.revoked"))
    experiment.close(ledger)
    assert grew < BYTES_IN_FLIGHT + DECODE_BYTES + FIXED_GROWTH_BYTES


LARGE_SIDE = 4_600


def large_photo() -> bytes:
    """A photo of noise, which hardly compresses: just below the limit of 20 MiB."""
    noise = random.Random(1).randbytes(LARGE_SIDE * LARGE_SIDE * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (LARGE_SIDE, LARGE_SIDE), noise).save(buffer, "JPEG", quality=92)
    body = buffer.getvalue()
    assert 19 * MB < len(body) < 20 * 1024 * 1024, len(body)
    return body


@pytest.mark.experiment(12, "a backlog of 1,000,000 events")
async def test_memory_is_flat_while_a_long_backlog_is_worked_off(
    world: World, tmp_path: Path, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    world.photos.answers["photo"] = BRIGHT
    with running_tagger(world.settings, tmp_path, port=free_port()) as tagger:
        for number in range(200):
            ledger.upload(f"photo{number}", f"photo/{number}")
        await ledger.settle()
        before = tagger.memory()
        await asyncio.to_thread(produce_backlog, world, experiment.size(50_000, full=1_000_000))
        done = finished(tagger)
        began_s = time.monotonic()
        highest = 0
        while time.monotonic() - began_s < experiment.size(3, full=10):
            highest = max(highest, tagger.memory())
            await asyncio.sleep(0.1)
        experiment.figure("events per second", (finished(tagger) - done) / (time.monotonic() - began_s))
        experiment.figure("memory grew, MB", (highest - before) / MB)
        assert finished(tagger) > done
        assert tagger.get("/live")[0] == 200
    assert highest - before < 64 * MB
    committed = sum(offset for offset in world.committed().values() if offset > 0)
    assert committed <= ledger.produced.total() + len(world.tags())


def finished(tagger: RunningTagger) -> float:
    """How many records have an outcome."""
    lines = [line for line in tagger.get("/metrics")[1].splitlines() if line.startswith("tagger_records_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def produce_backlog(world: World, count: int) -> None:
    """Deletions of photos that nobody knows: the smallest events, and each is written and published."""
    producer = Producer({"bootstrap.servers": world.kafka, "linger.ms": 20, "queue.buffering.max.messages": 2_000_000})
    value = json.dumps({"photo_id": "PHOTO", "deleted_at": "2026-11-21T10:00:00Z"}).encode()
    for number in range(count):
        photo_id = f"unknown{number % 1000}".encode()
        headers = {"ce_type": events.DELETED.encode()}
        producer.produce(
            world.settings.kafka.uploads_topic, value.replace(b"PHOTO", photo_id), photo_id, headers=headers
        )
        if number % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0
