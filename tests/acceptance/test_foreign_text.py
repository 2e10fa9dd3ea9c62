"""Names that senders chose, on the terminal of an operator; and dead letters whose event did not fit."""

import asyncio
import json
import os
import pty
import sys
from datetime import UTC, datetime

import pytest

from consumer import events
from consumer.events import PhotoUploaded, Source
from consumer.kafka.headers import VALUE_OMITTED, Failure, dead_headers
from tests.harness import RED, World, eventually
from tests.harness_process import environment, photo_tagger

EVIL = (
    b"photo\x1b]0;owned\x07\x1b[2J\x1b]52;c;cm0gLXJmIH4=\x07",
    b"photo[/b]",
    b"[red]x",
    b"\xff\xfe\x00bin",
    b"a\xc2\x9b31m",
)


def in_terminal(world: World, *arguments: str) -> tuple[int, str]:
    """Runs the command line in a terminal; its exit code and what the terminal got."""
    pid, handle = pty.fork()
    if pid == 0:
        names = {**environment(world.settings), "TERM": "xterm-256color", "COLUMNS": "240"}
        os.execve(sys.executable, [sys.executable, "-m", "consumer.cli", *arguments], names)
    said = b""
    while True:
        try:
            chunk = os.read(handle, 65_536)
        except OSError:
            break
        if not chunk:
            break
        said += chunk
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


def dead_letter(
    world: World, key: bytes | None, value: bytes | None, *more: tuple[str, bytes], origin: int = 0
) -> None:
    uploads = world.settings.kafka.uploads_topic
    failure = Failure("http_5xx", "busy", 1, Source(uploads, 0, origin), datetime.now(UTC))
    headers = [*dead_headers(failure), *more]
    world.producer.produce(world.settings.kafka.dead_topic, value, key, headers=headers)
    world.producer.flush(10)


async def test_keys_and_ids_of_senders_drive_no_terminal(world: World) -> None:
    for key in (*EVIL, None):
        dead_letter(world, key, b'{"photo_id": "\\u001b]0;x\\u0007[/b]"}')
    world.photos.answers["red"] = RED
    ids = ("a\u009b31mX", "b\u202egpj.x", "c[/b]", "[bold red]d")
    async with world.service() as service:
        for photo_id in ids:
            world.upload(photo_id, "red/1")
        await eventually(lambda: service.outcomes() == {"tagged": len(ids)})
    for arguments in (
        ("dlq", "list"),
        ("dlq", "show", "0/0"),
        ("dlq", "list", "--photo", r"\xff\xfe\x00bin"),
        ("dlq", "retry"),
        ("tags", *ids),
        ("find", "crimson"),
        ("tags", "\x1b]0;none\x07"),
    ):
        code, said = await asyncio.to_thread(in_terminal, world, *arguments)
        assert code == (6 if "\x1b]0;none\x07" in arguments else 0), said
        assert "Traceback" not in said
        assert not any(bad in said for bad in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\x07")), (arguments, said)
    _, listed = await asyncio.to_thread(in_terminal, world, "dlq", "list", "--photo", r"\xff\xfe\x00bin")
    assert r"\xff\xfe\x00bin" in listed
    assert "photo[/b]" not in listed
    _, some = await asyncio.to_thread(in_terminal, world, "dlq", "list", "--limit", "2")
    assert "The newest 2 of 6" in some


async def test_an_event_that_did_not_fit_is_sent_again_from_the_upload_topic(world: World) -> None:
    event = PhotoUploaded("large", f"{world.photos.url}/red", datetime.now(UTC))
    value, uploads = events.encode(event), world.settings.kafka.uploads_topic
    world.producer.produce(
        uploads, value, b"large", partition=0, headers={"ce_type": events.UPLOADED.encode(), "mine": b"1"}
    )
    world.producer.flush(10)
    omitted = (VALUE_OMITTED, str(len(value)).encode())
    dead_letter(world, b"large", None, omitted)
    dead_letter(world, b"gone", None, omitted, origin=5)
    dead_letter(world, b"other", None, omitted)
    env = environment(world.settings)
    ended = await asyncio.to_thread(photo_tagger, "dlq", "retry", "--execute", env=env)
    assert json.loads(ended.stdout) == {"executed": True, "letters": 1, "reasons": {"http_5xx": 1}, "lost": 2}
    (first, again) = [message for message in world.read(uploads) if message.key() == b"large"]
    assert again.value() == first.value()
    assert again.headers() == [*first.headers(), ("redriven_from", f"{world.settings.kafka.dead_topic}/0/0".encode())]


@pytest.mark.parametrize("letter_id", ["0/5", "7/0", "0/99999999999"])
async def test_show_reads_one_record(world: World, letter_id: str) -> None:
    for number in range(7):
        dead_letter(world, b"photo%d" % number, b"{}")
    env = environment(world.settings)
    ended = await asyncio.to_thread(photo_tagger, "dlq", "show", letter_id, env=env)
    if letter_id == "0/5":
        assert json.loads(ended.stdout)["photo_id"] == "photo5"
    else:
        assert (ended.returncode, ended.stderr) == (6, f"no dead letter {letter_id}\n")
