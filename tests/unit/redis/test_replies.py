"""Answers that no Redis gives to a command: an outage, a new connection, and never data."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.exceptions import RedisError

from consumer.errors import DependencyDown
from consumer.redis.async_link import AsyncLink
from consumer.redis.store import Store
from consumer.redis.thread_link import ThreadLink
from tests.fakes import tags

NUMBER, TEXT, NONE, STATUS = b":5\r\n", b"$3\r\nabc\r\n", b"$-1\r\n", b"+OK\r\n"
ERROR_INSIDE = b"*2\r\n$3\r\nver\r\n-ERR x\r\n"
NUMBER_INSIDE = b"*2\r\n$3\r\nver\r\n:5\r\n"
NESTED = b"*2\r\n$3\r\nver\r\n*1\r\n$1\r\na\r\n"
EMPTY = b"$0\r\n\r\n"
BROKEN = [
    b"*1\r\n" * 5_000,
    b"hello\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"$x\r\n",
    b"*x\r\n",
    b"*2\r\n$3\r\nve",
    b"$5\r\nab",
]
#: Of each command, answers that have the form of another one's.
MISFITS = {
    ("GET", "k"): [NUMBER, ERROR_INSIDE],
    ("HGET", "k", "f"): [NUMBER, NESTED],
    ("HGETALL", "k"): [NUMBER, ERROR_INSIDE, NUMBER_INSIDE, NESTED],
    ("HMGET", "k", "f", "g"): [NUMBER, TEXT, NONE, ERROR_INSIDE, NUMBER_INSIDE, NESTED],
    ("ZSCORE", "k", "m"): [TEXT, ERROR_INSIDE],
    ("ZREVRANGEBYSCORE", "k", 1, 0, "WITHSCORES"): [NUMBER, b"*1\r\n$1\r\na\r\n", ERROR_INSIDE, NESTED],
    ("ZSCAN", "k", 0): [NUMBER, TEXT, b"*0\r\n", NUMBER_INSIDE],
    ("EVALSHA", "0" * 40, 1, "k"): [NUMBER, NONE, EMPTY, b"*0\r\n", ERROR_INSIDE, NUMBER_INSIDE],
    ("CLUSTER", "SLOTS"): [NUMBER, TEXT, NESTED, b"*1\r\n*2\r\n:0\r\n:9\r\n"],
}
CASES = [(command, answer) for command, answers in MISFITS.items() for answer in (*answers, *BROKEN)]


@dataclass
class Impostor:
    """Listens like a Redis, and gives the first connection's commands the wrong answer; later ones are right."""

    wrong: bytes
    right: bytes
    url: str = ""
    connections: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        answer = self.wrong if self.connections == 1 else self.right
        try:
            while head := await reader.readline():
                parts = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    parts.append((await reader.readexactly(size + 2))[:-2])
                if parts[0] in {b"CLIENT", b"SELECT"}:
                    writer.write(STATUS)
                    continue
                writer.write(answer)
                if answer in {BROKEN[-1], BROKEN[-2]} and self.connections == 1:
                    break
        finally:
            writer.close()
            self.open.discard(writer)


@asynccontextmanager
async def impostor(wrong: bytes, right: bytes = NONE) -> AsyncIterator[Impostor]:
    server = Impostor(wrong, right)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0?protocol=2"
    try:
        yield server
    finally:
        listening.close()
        for writer in list(server.open):
            writer.close()
        await asyncio.sleep(0)


Run = Callable[..., Awaitable[list[Any]]]


@asynccontextmanager
async def link(kind: str, url: str) -> AsyncIterator[Run]:
    if kind == "events":
        events = AsyncLink(url, 1.0, cluster=False)
        yield events.run
        await events.aclose()
    else:
        threads = ThreadLink(url, 1.0, cluster=False)
        yield lambda *each: asyncio.to_thread(threads.run, *each)
        await asyncio.to_thread(threads.close)


@pytest.mark.parametrize("kind", ["events", "threads"])
@pytest.mark.parametrize(("command", "wrong"), CASES)
async def test_an_answer_that_is_none_to_the_command_is_a_failure_and_its_connection_is_closed(
    kind: str, command: tuple[Any, ...], wrong: bytes
) -> None:
    async with impostor(wrong) as server, link(kind, server.url) as run, asyncio.timeout(10):
        with pytest.raises(RedisError):
            await run([command])
        await run([("GET", "k")])
        assert server.connections == 2


async def test_one_misfit_among_many_answers_leaves_none_of_them() -> None:
    async with impostor(TEXT) as server, link("events", server.url) as run, asyncio.timeout(10):
        with pytest.raises(RedisError, match="none to HMGET"):
            await run([("GET", "k"), ("HMGET", "k", "f"), ("GET", "k")])


async def test_an_argument_that_cannot_be_sent_is_no_outage() -> None:
    async with impostor(NONE) as server, link("events", server.url) as run:
        with pytest.raises(UnicodeEncodeError):
            await run([("GET", "\udcff")])


def bulk(*texts: bytes | list[bytes]) -> bytes:
    """An array of texts and of arrays of texts."""
    parts = [bulk(*each) if isinstance(each, list) else b"$%d\r\n%b\r\n" % (len(each), each) for each in texts]
    return b"*%d\r\n" % len(texts) + b"".join(parts)


@pytest.mark.parametrize(
    "answer",
    [
        STATUS,
        TEXT,
        EMPTY,
        bulk(b"written"),
        bulk(b"unheard of", []),
        bulk(b"unchanged", [b"ver"]),
        bulk(b"unchanged", b"ver", b"1"),
        bulk(b"wrong type", b"key"),
        bulk(b"undeclared", b"b:{00}:puma"),
        b"*2\r\n$9\r\nunchanged\r\n*2\r\n$3\r\nver\r\n$-1\r\n",
    ],
)
async def test_what_the_script_cannot_have_said_is_an_outage(answer: bytes) -> None:
    async with impostor(answer, answer) as server, asyncio.timeout(10), Store(server.url, timeout_s=1.0) as store:
        for call in (store.write(tags()), store.write_all([tags()])):
            with pytest.raises(DependencyDown):
                await call
