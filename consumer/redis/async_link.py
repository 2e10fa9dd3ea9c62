"""The connections to Redis for the event loop."""

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import InvalidResponse, ResponseError

from consumer.redis.cluster import Cluster, Server, seed_of, settled, url_at
from consumer.redis.commands import Address, Answer, Command, Exclusive, Forget, Operation, Script, T, Wait
from consumer.redis.failures import FAILURES
from consumer.redis.replies import MISREAD, misfit, misread

_MAX_CONNECTIONS: Final = 16


class AsyncLink:
    """One server, or a cluster of which the URL names a node; close it. A caller may be cancelled at any time.

    At most 16 connections for each node; callers wait for a free one, and every wait ends after `timeout_s`.
    """

    def __init__(self, url: str, timeout_s: float, *, cluster: bool) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._cluster = cluster
        self._server = Cluster(seed_of(url)) if cluster else Server()
        self._clients: dict[Address | None, Redis] = {}
        self._lock = asyncio.Lock()

    async def run(self, commands: Sequence[Command], script: Script | None = None) -> list[Any]:
        """As `Server.run`."""
        operation = self._server.run(commands, script)
        if self._cluster:
            return await self._drive(operation)
        # The hot path, where a generator costs 3 %: the first replies of one server are nearly always the result.
        answers = [await self._answer(None, commands)]
        replies = settled(answers)
        if replies is not None:
            return replies
        next(operation)
        return await self._drive(operation, answers)

    async def ping(self) -> None:
        """As `Server.ping`."""
        await self._drive(self._server.ping())

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._forget(list(self._clients))

    async def _drive(self, operation: Operation[T], answers: list[Answer] | None = None) -> T:
        while True:
            try:
                step = operation.send(answers)
            except StopIteration as end:
                value: T = end.value
                return value
            match step:
                case [(node, commands)]:
                    answers = [await self._answer(node, commands)]
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case Exclusive(alone):
                    async with self._lock:
                        await self._drive(alone)
                case Forget(nodes):
                    await self._forget(nodes)
                case requests:
                    answers = await asyncio.gather(*itertools.starmap(self._answer, requests))

    async def _answer(self, node: Address | None, commands: Sequence[Command]) -> Answer:
        client: Any = self._client(node)
        replies: list[Any]
        failure: InvalidResponse | None
        try:
            if len(commands) == 1:
                replies = [await client.execute_command(*commands[0])]
            else:
                pipeline = client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                replies = await pipeline.execute(raise_on_error=False)
        except ResponseError as error:
            return [error] * len(commands)
        except FAILURES as error:
            return error
        except MISREAD as error:
            failure = misread(error)
        else:
            failure = misfit(commands, replies)
        if failure is None:
            return replies
        await self._forget([node])
        return failure

    def _client(self, node: Address | None) -> Redis:
        client = self._clients.get(node)
        if client is None:
            pool = BlockingConnectionPool.from_url(
                url_at(self._url, node),
                max_connections=_MAX_CONNECTIONS,
                timeout=self._timeout_s,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
            )
            client = self._clients[node] = Redis.from_pool(pool)
        return client

    async def _forget(self, nodes: Iterable[Address | None]) -> None:
        clients = [self._clients.pop(node) for node in nodes if node in self._clients]
        await asyncio.gather(*(client.aclose() for client in clients))
