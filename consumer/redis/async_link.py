"""The connections to Redis, one server or a cluster, for the event loop and for threads.

Both take commands as tuples and send those that belong to one node in one round trip. Commands may be repeated by a
redirection or a lost connection: use what can be.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ClusterDownError, RedisError, ResponseError

from consumer.errors import DependencyDown
from consumer.redis.cluster import (
    CLUSTER_SLOTS,
    ROUNDS,
    SPLIT_WAIT_S,
    Address,
    Batch,
    Command,
    Owners,
    Script,
    checked,
    seed_of,
    to_ask,
    unknown_script,
    url_at,
    without_redirections,
)

#: Whatever Redis or the way to it does wrong.
FAILURES: Final = (RedisError, OSError, TimeoutError)

_MAX_CONNECTIONS: Final = 16


@contextmanager
def redis_failures() -> Iterator[None]:
    """Every failure of Redis is its own: our keys and arguments are always well-formed.

    `maxmemory` with noeviction, a replica, a loading server, a cluster without one of its masters and refused
    credentials all mend without the photo.

    Raises:
        DependencyDown: for each of them.
    """
    try:
        yield
    except FAILURES as error:
        raise DependencyDown("redis", f"{type(error).__name__}: {error}") from None


def open_redis(url: str, timeout_s: float, *, cluster: bool) -> "RedisLink":
    """A link for the event loop, to one server or to a cluster of which the URL names a node; close it."""
    return ClusterLink(url, timeout_s) if cluster else RedisLink(url, timeout_s)


class RedisLink:
    """One server. Callers wait for a free connection instead of opening one each; every wait ends by `timeout_s`."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._client = self._connect(url)

    async def run(self, commands: Sequence[Command], script: Script | None = None) -> list[Any]:
        """The answers to the commands, in their order; `script` is the one that they call, if they do.

        Raises:
            RedisError: the first that a command ended with, or the connection; others may have been carried out.
        """
        replies = await self._send(commands)
        if script is not None:
            unknown = unknown_script(replies)
            again = await self._send([script.spelled_out(commands[place]) for place in unknown]) if unknown else []
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return checked(replies)

    async def ping(self) -> None:
        """Checks that the server answers.

        Raises:
            RedisError: it does not.
        """
        await self._client.ping()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers; errors that a command ended with are values.

        Raises:
            RedisError: the connection failed.
        """
        return without_redirections(await _pipe(self._client, commands))

    def _connect(self, url: str) -> Redis:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=self._timeout_s,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
        )
        return Redis.from_pool(pool)


class ClusterLink(RedisLink):
    """A cluster. The URL's node is asked for the others first, and again whenever none of those answers."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(url, timeout_s)
        self._nodes: dict[Address, Redis] = {}
        self._owners = Owners()
        self._stale = True
        self._learning = asyncio.Lock()

    async def ping(self) -> None:
        """Checks that every slot has an owner and that all of them answer.

        Raises:
            RedisError: one does not.
            ClusterDownError: one has none.
        """
        self._stale = True
        await self._learn()
        if self._owners.uncovered:
            raise ClusterDownError(f"{self._owners.uncovered} slots have no owner")
        await asyncio.gather(*(self._node(address).ping() for address in self._owners.addresses))

    async def aclose(self) -> None:
        """Closes the connections."""
        nodes, self._nodes = list(self._nodes.values()), {}
        await asyncio.gather(super().aclose(), *(node.aclose() for node in nodes))

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        batch, lost = Batch(commands), False
        for number in range(ROUNDS):
            if number and batch.split:
                await asyncio.sleep(SPLIT_WAIT_S)
            await self._learn()
            routes = batch.routes(self._owners)
            packed = [(self._node(route.address), batch.packed(route, places)) for route, places in routes.items()]
            answers = await asyncio.gather(*(_pipe_or_failure(*each) for each in packed))
            failure = batch.take(routes, answers, self._owners)
            self._stale = self._stale or failure is not None
            if batch.finished:
                break
            if failure is not None and lost:
                raise failure
            lost = lost or failure is not None
        self._stale = self._stale or any(isinstance(reply, ClusterDownError) for reply in batch.replies)
        return batch.replies

    async def _learn(self) -> None:
        """Asks for the layout where it is not known, once for all that wait.

        Raises:
            RedisError: no node says.
        """
        if not self._stale:
            return
        async with self._learning:
            failure: Exception = ClusterDownError("no node")
            for address in to_ask(self._owners) if self._stale else ():
                ask: Any = (self._client if address is None else self._node(address)).execute_command
                try:
                    self._owners.load(await ask(*CLUSTER_SLOTS), address or seed_of(self._url))
                except FAILURES as error:
                    failure = error
                else:
                    self._stale = False
                    await self._forget_nodes()
                    break
            if self._stale:
                raise failure

    async def _forget_nodes(self) -> None:
        """Closes the connections to nodes that own no slot any more."""
        gone = [self._nodes.pop(address) for address in self._nodes.keys() - self._owners.addresses]
        await asyncio.gather(*(node.aclose() for node in gone))

    def _node(self, address: Address) -> Redis:
        if address not in self._nodes:
            self._nodes[address] = self._connect(url_at(self._url, address))
        return self._nodes[address]


async def _pipe(client: Redis, commands: Sequence[Command]) -> list[Any]:
    """The answers of one server in one round trip; errors that a command ended with are values.

    Raises:
        RedisError: the connection failed.
    """
    execute: Any = client.execute_command
    if len(commands) == 1:
        try:
            return [await execute(*commands[0])]
        except ResponseError as error:
            return [error]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return await pipeline.execute(raise_on_error=False)


async def _pipe_or_failure(client: Redis, commands: Sequence[Command]) -> list[Any] | Exception:
    try:
        return await _pipe(client, commands)
    except FAILURES as error:
        return error
