"""Requests that share a round trip: none of them has another one's failure, and each has its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from redis.exceptions import ConnectionError as NoConnection

from consumer.redis import wire as module
from consumer.redis.wire import Wire
from tests.harness import eventually

NUMBER, STATUS = b":5\r\n", b"+OK\r\n"


@dataclass
class Echo:
    """Listens like a Redis, and answers each GET with its key; on the connections in `silent` and `wrong`, not."""

    silent: frozenset[int] = frozenset()
    wrong: frozenset[int] = frozenset()
    url: str = ""
    connections: int = 0
    gets: int = 0
    #: What was read at once, but for what is said when a connection is opened.
    reads: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.open.add(writer)
        with suppress(OSError):
            while data := await reader.read(2**20):
                words = data.split(b"\r\n")
                gets = [words[place + 2] for place, word in enumerate(words) if word == b"GET"]
                self.gets += len(gets)
                self.reads += bool(gets)
                writer.write(STATUS * data.count(b"*") if not gets else b"")
                if gets and number not in self.silent:
                    answers = [NUMBER if number in self.wrong else b"$%d\r\n%b\r\n" % (len(key), key) for key in gets]
                    writer.write(b"".join(answers))
        writer.close()


@asynccontextmanager
async def wire_to(server: Echo, timeout_s: float = 30.0) -> AsyncIterator[Wire]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0?protocol=2"
    wire = Wire(server.url, timeout_s)
    try:
        async with asyncio.timeout(30):
            yield wire
    finally:
        await wire.aclose()
        listening.close()
        for writer in server.open:
            writer.close()


def asked(wire: Wire, count: int, first: int = 0) -> list[asyncio.Task[object]]:
    """Callers, each of which asks for a key of its own."""
    return [asyncio.ensure_future(wire.ask([("GET", f"k{number}")])) for number in range(first, first + count)]


def told(count: int, first: int = 0) -> list[object]:
    return [[f"k{number}".encode()] for number in range(first, first + count)]


async def test_what_is_asked_at_the_same_time_shares_a_round_trip_and_each_gets_its_own_reply() -> None:
    server = Echo()
    async with wire_to(server) as wire:
        assert await asyncio.gather(*asked(wire, 50)) == told(50)
        assert (server.gets, server.reads, server.connections) == (50, 1, 1)


async def test_what_is_asked_meanwhile_goes_with_the_next_round_trips_over_two_connections_at_most() -> None:
    server = Echo()
    async with wire_to(server) as wire:
        callers = []
        for turn in range(100):
            callers += asked(wire, 1, turn)
            await asyncio.sleep(0)
        assert await asyncio.gather(*callers) == told(100)
        assert server.connections <= 2
        assert server.reads < 50


async def test_a_connection_that_does_not_answer_holds_only_what_was_sent_over_it() -> None:
    server = Echo(silent=frozenset({1}))
    async with wire_to(server, 600.0) as wire:
        lost = asked(wire, 3)
        await eventually(lambda: server.gets == 3)
        assert await asyncio.gather(*asked(wire, 20, 3)) == told(20, 3)
        assert not any(caller.done() for caller in lost)
        await wire.aclose()
        for answer in await asyncio.gather(*lost):
            assert isinstance(answer, NoConnection)


async def test_a_time_out_is_the_failure_of_each_and_an_exception_of_its_own() -> None:
    async with wire_to(Echo(silent=frozenset({1})), 0.1) as wire:
        answers = await asyncio.gather(*asked(wire, 3))
        assert all(isinstance(answer, Exception) for answer in answers)
        assert len(set(map(id, answers))) == 3
        assert await asyncio.gather(*asked(wire, 3)) == told(3)


async def test_an_argument_that_cannot_be_sent_is_the_failure_of_its_own_request() -> None:
    async with wire_to(Echo()) as wire:
        callers = [*asked(wire, 3), asyncio.ensure_future(wire.ask([("GET", "\udcff")])), *asked(wire, 3, 3)]
        (*answers,) = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(answers.pop(3), UnicodeEncodeError)
        assert answers == told(6)


async def test_replies_that_are_none_are_asked_for_again_one_by_one() -> None:
    server = Echo(wrong=frozenset({1}))
    async with wire_to(server) as wire:
        assert await asyncio.gather(*asked(wire, 3)) == told(3)
        assert server.connections == 2


async def test_a_caller_that_is_cancelled_leaves_the_others_their_replies() -> None:
    async with wire_to(Echo()) as wire:
        callers = asked(wire, 10)
        await asyncio.sleep(0)
        callers[4].cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(answers.pop(4), asyncio.CancelledError)
        assert answers == [reply for number, reply in enumerate(told(10)) if number != 4]


async def test_a_bug_is_the_failure_of_each_and_the_next_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with wire_to(Echo()) as wire:
        with monkeypatch.context() as patch:
            patch.setattr(module, "misfit", broken)
            failures = await asyncio.gather(*asked(wire, 3), return_exceptions=True)
        assert list(map(type, failures)) == [ZeroDivisionError] * 3
        assert await asyncio.gather(*asked(wire, 3)) == told(3)


async def test_who_waits_for_a_round_trip_when_the_wire_is_closed_gets_a_failure() -> None:
    server = Echo(silent=frozenset({1, 2}))
    async with wire_to(server, 600.0) as wire:
        callers = asked(wire, 1)
        await eventually(lambda: server.gets == 1)
        callers += asked(wire, 1)
        await eventually(lambda: server.gets == 2)
        callers += asked(wire, 5)
        await asyncio.sleep(0)
        await wire.aclose()
        callers += asked(wire, 2)
        for answer in await asyncio.gather(*callers):
            assert isinstance(answer, NoConnection)
