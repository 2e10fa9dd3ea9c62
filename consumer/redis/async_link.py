"""The connections to Redis for the event loop."""

import asyncio
import itertools
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from consumer.redis.cluster import Cluster, Server, seed_of, settled, url_at
from consumer.redis.commands import Address, Answer, Command, Exclusive, Forget, Operation, Script, T, Wait
from consumer.redis.urls import readable
from consumer.redis.wire import Wire


class AsyncLink:
    """One server, or a cluster of which the URL names a node; close it. A caller may be cancelled at any time.

    Callers share the round trips to a node; every wait for one ends after two `timeout_s` at most. Replies are bytes;
    with `text`, as those of `ThreadLink`.
    """

    def __init__(self, url: str, timeout_s: float, *, cluster: bool, text: bool = False) -> None:
        self._url = readable(url)
        self._text = text
        self._timeout_s = timeout_s
        self._cluster = cluster
        self._server = Cluster(seed_of(url)) if cluster else Server()
        self._wires: dict[Address | None, Wire] = {}
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
        await self._forget(list(self._wires))

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

    def _answer(self, node: Address | None, commands: Sequence[Command]) -> Awaitable[Answer]:
        wire = self._wires.get(node)
        if wire is None:
            wire = self._wires[node] = Wire(url_at(self._url, node), self._timeout_s, text=self._text)
        return wire.ask(commands)

    async def _forget(self, nodes: Iterable[Address | None]) -> None:
        wires = [self._wires.pop(node) for node in nodes if node in self._wires]
        await asyncio.gather(*(wire.aclose() for wire in wires))
