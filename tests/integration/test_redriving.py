"""Dead letters that were cut down to what their topic takes are sent again as the events were, once."""

import asyncio
import hashlib
import json
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Message

from consumer.events import Source
from consumer.kafka.headers import Failure, dead_headers
from consumer.operations.dead_letters import Listed, Query, list_letters
from tests.harness import World, eventually, headers_of
from tests.harness_process import environment, photo_tagger
from tests.integration.test_refused_records import set_topic

noise = random.Random(1).randbytes
UPLOADED = ("ce_type", b"photo.uploaded")
#: Key, value and headers of events that are no events.
RECORDS: list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]] = [
    (None, b"{", [UPLOADED]),
    (None, noise(50_000), [UPLOADED]),
    (None, b"", [("ce_type", noise(50_000).hex().encode())]),
    (b"k" * 128, noise(50_000), [UPLOADED]),
    (b"k" * 129, noise(50_000), [UPLOADED]),
    (noise(50_000), b"{}", [UPLOADED, ("mine", b"1")]),
    (noise(50_000), b"", [UPLOADED]),
    (b"large", noise(50_000), [UPLOADED]),
    (b"small", b"{", [UPLOADED]),
]


COMMAND = [sys.executable, "-m", "consumer.cli", "dlq", "retry", "--execute"]


async def retry(world: World, *arguments: str) -> dict[str, Any]:
    env = environment(world.settings)
    ended = await asyncio.to_thread(photo_tagger, "dlq", "retry", *arguments, env=env)
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def started(world: World, *arguments: str) -> subprocess.Popen[bytes]:
    env = environment(world.settings)
    return subprocess.Popen([*COMMAND, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def letters(world: World, **query: str) -> list[Listed]:
    return list_letters(world.settings, Query(**query)).letters


async def buried(world: World) -> None:
    """Sends the records and waits until each is a dead letter."""
    for key, value, headers in RECORDS:
        world.producer.produce(world.settings.kafka.uploads_topic, value, key, partition=0, headers=headers)
    world.producer.flush(10)
    async with world.service() as service:
        await eventually(lambda: service.outcomes() == {"dead_lettered": len(RECORDS)})


@pytest.mark.parametrize("policy", ["delete", "compact"])
async def test_letters_of_every_form_are_sent_again_as_first_sent_and_only_once(world: World, policy: str) -> None:
    set_topic(world, world.settings.kafka.dead_topic, max_message_bytes="2000", cleanup_policy=policy)
    await buried(world)
    assert await retry(world) == {
        "executed": False,
        "letters": len(RECORDS),
        "reasons": {"invalid_event": len(RECORDS)},
        "lost": 0,
    }
    assert (await retry(world, "--execute", "--rate", "100"))["letters"] == len(RECORDS)
    uploads = world.read(world.settings.kafka.uploads_topic)
    again = [message for message in uploads if "redriven_from" in headers_of(message)]
    first = [message for message in uploads if message not in again]
    assert sorted(map(sent, again)) == sorted(map(sent, first))
    assert {each.state for each in letters(world)} == {"redriven"}
    assert (await retry(world, "--execute"))["letters"] == 0
    notes = [message for message in world.dead() if "redriven" in headers_of(message)]
    assert len({message.key() for message in notes}) == len(RECORDS)
    assert not {message.key() for message in world.dead() if message not in notes} & {note.key() for note in notes}


async def test_letters_of_every_form_name_their_photo_and_those_of_one_event_are_one(world: World) -> None:
    set_topic(world, world.settings.kafka.dead_topic, max_message_bytes="2000", cleanup_policy="compact")
    event = b'{"photo_id": "named", "uri": "https://x/y", "uploaded_at": "1970-01-01T00:00:00Z"}'
    world.producer.produce(world.settings.kafka.uploads_topic, event, None, headers=[UPLOADED])
    world.producer.produce(
        world.settings.kafka.uploads_topic, b"{", b"k" * 150, headers=[UPLOADED, ("h", noise(9_000).hex().encode())]
    )
    async with world.service() as service:
        for rounds in (1, 2, 3):
            world.producer.flush(10)
            await eventually(lambda letters=2 * rounds: service.outcomes() == {"dead_lettered": letters})
            assert (await retry(world))["letters"] == 2
            assert len(letters(world, photo_id="k" * 150)) == rounds
            assert (await retry(world, "--execute"))["letters"] == 2


def sent(message: Message) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """What the sender wrote of a record, to be compared."""
    headers = [pair for pair in message.headers() or () if pair[0] != "redriven_from"]
    return message.key() or b"no key", message.value(), headers


async def near_the_limit(world: World, limit_bytes: int) -> tuple[int, bytes]:
    """Sets the limit of the upload topic; the offset and the value of the largest event that partition 0 takes."""
    topic, taken = world.settings.kafka.uploads_topic, list[tuple[int, bytes]]()

    def takes(value: bytes) -> bool:
        def delivered(error: object, message: Message) -> None:
            if error is None:
                taken.append((message.offset() or 0, value))

        world.producer.produce(topic, value, b"large", partition=0, headers=[UPLOADED], on_delivery=delivered)
        world.producer.flush(10)
        return bool(taken) and taken[-1][1] is value

    set_topic(world, topic, max_message_bytes=str(limit_bytes))
    # A broker learns of it a moment after the controller has said yes.
    await eventually(lambda: not takes(noise(limit_bytes)))
    least, most = 0, limit_bytes
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if takes(noise(middle)) else (least, middle)
    return taken[-1]


def letter_of(world: World, key: bytes, value: bytes | None, offset: int, *digest: tuple[str, bytes]) -> None:
    origin = Source(world.settings.kafka.uploads_topic, 0, offset)
    headers = [*digest, *dead_headers(Failure("http_5xx", "busy", 1, origin, datetime.now(UTC)))]
    if digest:
        headers.append(("value_omitted_bytes", str(len(value or b"")).encode()))
    world.producer.produce(world.settings.kafka.dead_topic, None if digest else value, key, headers=headers)
    world.producer.flush(10)


async def test_an_event_that_hardly_fits_stops_no_other_and_goes_without_the_name_of_its_letter(world: World) -> None:
    uploads = world.settings.kafka.uploads_topic
    offset, value = await near_the_limit(world, 20_000)
    letter_of(world, b"large", value, offset, ("value_sha256", hashlib.sha256(value).hexdigest().encode()))
    letter_of(world, b"other", value, offset, ("value_sha256", b"0" * 64))
    letter_of(world, b"small", b"{}", 99)
    answer = await retry(world, "--execute", "--rate", "100")
    assert answer == {"executed": True, "letters": 2, "reasons": {"http_5xx": 2}, "lost": 1}
    large = [message.headers() for message in world.read(uploads) if message.value() == value]
    assert large == [[UPLOADED], [UPLOADED]]
    small = [message for message in world.read(uploads) if message.key() == b"small"]
    assert [headers_of(message).keys() for message in small] == [{"redriven_from"}]

    await near_the_limit(world, 10_000)
    answer = await retry(world, "--execute", "--again", "--rate", "100")
    assert answer == {"executed": True, "letters": 1, "reasons": {"http_5xx": 1}, "lost": 2}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_run_that_is_interrupted_notes_what_it_sent_and_the_next_one_goes_on(
    world: World, number: signal.Signals
) -> None:
    letters_made = 30
    for place in range(letters_made):
        letter_of(world, b"photo%d" % place, b"{}", place)
    uploads, process = world.settings.kafka.uploads_topic, started(world, "--rate", "2")
    await eventually(lambda: len(world.read(uploads)) >= 2)
    process.send_signal(number)
    answer, said = await asyncio.to_thread(process.communicate)
    sent = len(world.read(uploads))
    assert (process.returncode, json.loads(answer)["letters"]) == (1, sent)
    assert said.decode() == f"interrupted: {letters_made - sent} are left, with which the same command goes on\n"
    assert 0 < (await retry(world, "--execute", "--rate", "1000"))["letters"] == letters_made - sent
    assert len({message.key() for message in world.read(uploads)}) == len(world.read(uploads)) == letters_made
