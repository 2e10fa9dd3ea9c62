"""The links on real servers: callers that are cancelled, threads that share one, and what is in no keyspace yet."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from urllib.parse import urlsplit

import pytest

from consumer.embedded.servers import Servers
from consumer.redis.async_link import AsyncLink
from consumer.redis.commands import Command, Script
from consumer.redis.thread_link import ThreadLink
from tests.harness_redis import RedisPlace, move_slots, slot_of_bucket, start_place

COUNT = 300
KEYS = [f"k:{{{number % 64:02d}}}:{number}" for number in range(COUNT)]


@pytest.fixture(scope="module", params=["default", "cluster"])
def place(request: pytest.FixtureRequest, servers: Servers) -> RedisPlace:
    return start_place(servers, request.param)


@pytest.fixture
def filled(place: RedisPlace) -> Iterator[RedisPlace]:
    """Every key holds its own name."""
    place.flush()
    with closing(ThreadLink(place.url, 5.0, cluster=place.cluster is not None)) as link:
        assert set(link.run([("SET", key, key) for key in KEYS])) == {True}
    yield place
    place.flush()


@asynccontextmanager
async def async_link(url: str, *, cluster: bool) -> AsyncIterator[AsyncLink]:
    link = AsyncLink(url, 5.0, cluster=cluster)
    try:
        yield link
    finally:
        await link.aclose()


def calls_of(place: RedisPlace, command: str) -> int:
    """How often a command was sent to the masters since their statistics were reset; subcommands count too."""
    with place.masters() as masters:
        stats = [master.info("commandstats") for master in masters]
    names = {f"cmdstat_{command}", f"cmdstat_{command}|slots"}
    return sum(each[name]["calls"] for each in stats for name in names & each.keys())


def gets(keys: list[str]) -> list[Command]:
    return [("GET", key) for key in keys]


async def test_cancelled_callers_leave_no_reply_to_the_next(filled: RedisPlace) -> None:
    chance = random.Random(7)
    async with async_link(filled.url, cluster=filled.cluster is not None) as link:
        for _ in range(20):
            wanted = [chance.sample(KEYS, chance.choice((1, 1, 5))) for _ in range(40)]
            callers = [asyncio.create_task(link.run(gets(keys))) for keys in wanted]
            cancelled = set(chance.sample(range(len(callers)), 20))
            for number in cancelled:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                callers[number].cancel()
            answers = await asyncio.gather(*callers, return_exceptions=True)
            for number, (keys, answer) in enumerate(zip(wanted, answers, strict=True)):
                if number not in cancelled or not isinstance(answer, asyncio.CancelledError):
                    assert answer == [key.encode() for key in keys]
        assert await link.run(gets(KEYS)) == [key.encode() for key in KEYS]


@asynccontextmanager
async def silent_relay(url: str) -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Event]]:
    """A way to a server that passes nothing on until it is opened: its URL, whether somebody waits, what opens it."""
    parts, waiting, opened, relays = urlsplit(url), asyncio.Event(), asyncio.Event(), set[asyncio.Task[None]]()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                waiting.set()
                await opened.wait()
                writer.write(data)
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(parts.hostname, parts.port)
        relays.update((asyncio.create_task(copy(reader, back)), asyncio.create_task(copy(there, writer))))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield parts._replace(netloc=f"127.0.0.1:{port}").geturl(), waiting, opened
    server.close()
    for task in relays:
        task.cancel()
    await asyncio.gather(*relays, return_exceptions=True)


@pytest.mark.parametrize("place", ["cluster"], indirect=True)
async def test_a_caller_that_is_cancelled_while_it_learns_the_slots_leaves_that_to_the_next(filled: RedisPlace) -> None:
    with filled.masters() as masters:
        for master in masters:
            master.config_resetstat()
    async with (
        silent_relay(filled.url) as (url, waiting, opened),
        async_link(url, cluster=True) as link,
        asyncio.timeout(10),
    ):
        learning = asyncio.create_task(link.run(gets(KEYS[:1])))
        await waiting.wait()
        behind = [asyncio.create_task(link.run(gets([key]))) for key in KEYS]
        learning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await learning
        opened.set()
        assert await asyncio.gather(*behind) == [[key.encode()] for key in KEYS]
    # The one that was cancelled, one of those behind it for all, and this.
    assert 1 <= calls_of(filled, "cluster") <= 3


def test_threads_share_a_link_while_slots_move(filled: RedisPlace) -> None:
    script = Script("sweep.lua")
    with closing(ThreadLink(filled.url, 5.0, cluster=filled.cluster is not None)) as link:
        with ThreadPoolExecutor(9) as threads:
            slots = [slot_of_bucket(f"{number:02d}") for number in range(6)]
            moves = threads.submit(move_slots, filled.cluster, slots, 0.005) if filled.cluster is not None else None

            def read(seed: int) -> int:
                chance, rounds = random.Random(seed), 0
                while rounds < 40 or (moves is not None and not moves.done()):
                    keys = chance.sample(KEYS, chance.choice((1, 5, 100)))
                    assert link.run(gets(keys)) == keys
                    rounds += 1
                return rounds

            assert min(threads.map(read, range(8))) >= 40
            if moves is not None:
                moves.result()
        assert sorted(set(link.scan("k:*", "string", 100))) == sorted(KEYS)
        entries = [(f"p:{{{number:02d}}}:x", f"b:{{{number:02d}}}:puma") for number in range(64)]
        assert len(link.run([script.call(keys, ["x", "puma"]) for keys in entries], script)) == 64


def test_texts_that_are_no_utf_8_survive_a_round_trip_through_threads(filled: RedisPlace) -> None:
    with closing(ThreadLink(filled.url, 5.0, cluster=filled.cluster is not None)) as link:
        assert link.run([("SET", "k", b"\xff\x00"), ("GET", "k")]) == [True, "\udcff\x00"]


async def test_a_script_that_is_unknown_is_called_once_by_its_hash_and_once_by_its_text(filled: RedisPlace) -> None:
    script, cluster = Script("sweep.lua"), filled.cluster is not None
    call = script.call(("p:{07}:x", "b:{07}:puma"), ["x", "puma"])
    for kind in ("events", "threads"):
        with filled.masters() as masters:
            for master in masters:
                master.script_flush()
                master.config_resetstat()
        if kind == "events":
            async with async_link(filled.url, cluster=cluster) as link:
                await link.run([call], script)
        else:
            with closing(ThreadLink(filled.url, 5.0, cluster=cluster)) as threads:
                threads.run([call], script)
        assert (calls_of(filled, "evalsha"), calls_of(filled, "eval")) == (1, 1)
