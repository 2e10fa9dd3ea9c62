"""Round trips to one node of Redis: what is asked at the same time shares one, which costs a third for each request."""

import asyncio
from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import InvalidResponse, ResponseError

from consumer.redis.commands import Answer, Command
from consumer.redis.failures import FAILURES
from consumer.redis.replies import MISREAD, misfit, misread

#: At the same time; each has a connection. Where one does not answer, the other goes on.
_ROUND_TRIPS: Final = 2

_Request = Sequence[Command]


class Wire:
    """The connections to one node; close it. A caller may be cancelled at any time, the round trip goes on.

    Every wait ends after two `timeout_s`: for the round trips under way, and for its own.
    """

    def __init__(self, url: str, timeout_s: float, *, text: bool = False) -> None:
        decoding = {"decode_responses": True, "encoding_errors": "surrogateescape"} if text else {}
        pool = ConnectionPool.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, **decoding)
        self._client: Any = Redis.from_pool(pool)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[_Request, asyncio.Future[Answer]]] = []
        self._round_trips: set[asyncio.Task[list[Answer]]] = set()
        self._closed = False

    async def ask(self, commands: _Request) -> Answer:
        """What the node replies to the commands.

        Raises:
            UnicodeEncodeError: an argument of these commands cannot be sent.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        if not self._waiting:
            # Later in this turn of the loop, so that what others ask in it goes along.
            self._loop.call_soon(self._begin)
        self._waiting.append((commands, answer))
        return await answer

    async def aclose(self) -> None:
        """Closes the connections; who still waits gets a failure."""
        self._closed = True
        self._begin()
        for round_trip in self._round_trips:
            round_trip.cancel()
        await asyncio.gather(*self._round_trips, return_exceptions=True)
        await self._client.aclose()

    def _begin(self) -> None:
        if self._waiting and (self._closed or len(self._round_trips) < _ROUND_TRIPS):
            asked, self._waiting = self._waiting, []
            round_trip = self._loop.create_task(self._answers([commands for commands, _ in asked]))
            self._round_trips.add(round_trip)
            round_trip.add_done_callback(partial(self._ended, [waiter for _, waiter in asked]))
            if self._closed:
                round_trip.cancel()

    def _ended(self, waiters: Sequence[asyncio.Future[Answer]], round_trip: asyncio.Task[list[Answer]]) -> None:
        self._round_trips.discard(round_trip)
        for waiter, answer in zip(waiters, _answers_of(round_trip, len(waiters)), strict=True):
            if waiter.done():
                continue
            if isinstance(answer, Exception) and not isinstance(answer, FAILURES):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)
        self._begin()

    async def _answers(self, requests: Sequence[_Request]) -> list[Answer]:
        answer = await self._answer([command for commands in requests for command in commands])
        if isinstance(answer, list):
            replies = iter(answer)
            return [[next(replies) for _ in commands] for commands in requests]
        if len(requests) > 1 and isinstance(answer, InvalidResponse | UnicodeEncodeError):
            # That of one of them, which must not be the failure of the others.
            half = len(requests) // 2
            return [*await self._answers(requests[:half]), *await self._answers(requests[half:])]
        return _each(answer, len(requests))

    async def _answer(self, commands: _Request) -> Answer:
        try:
            replies = await self._replies(commands)
        except ResponseError as error:
            return [*_each(error, len(commands))]
        except (*FAILURES, UnicodeEncodeError) as error:
            return error
        except MISREAD as error:
            failure: InvalidResponse | None = misread(error)
        else:
            failure = misfit(commands, replies)
        if failure is None:
            return replies
        await self._client.aclose()
        return failure

    async def _replies(self, commands: _Request) -> list[Any]:
        if len(commands) == 1:
            return [await self._client.execute_command(*commands[0])]
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def _answers_of(round_trip: asyncio.Task[list[Answer]], count: int) -> list[Answer]:
    if round_trip.cancelled():
        return _each(NoConnection("closed meanwhile"), count)
    bug = round_trip.exception()
    return _each(bug, count) if isinstance(bug, Exception) else round_trip.result()


def _each(failure: Exception, count: int) -> list[Answer]:
    """One for each: a failure that is raised keeps the frames that it passed, and with them a photo."""
    return [copy(failure) for _ in range(count)]
