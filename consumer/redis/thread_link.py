"""The connections to Redis for threads: what `redis_clients` is for the event loop."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any, Final

import redis
from redis.exceptions import ClusterDownError, RedisError, ResponseError

from consumer.redis.async_link import FAILURES
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

#: Nodes that are asked at the same time.
_ABREAST: Final = 16


def connect_redis(url: str, timeout_s: float, *, cluster: bool) -> "ThreadLink":
    """A link to one server or to a cluster of which the URL names a node; close it."""
    return ThreadClusterLink(url, timeout_s) if cluster else ThreadLink(url, timeout_s)


class ThreadLink:
    """One server; safe to share between threads. Texts are decoded, bytes that are no UTF-8 as surrogates."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._client = self._connect(url)

    def run(self, commands: Sequence[Command], script: Script | None = None) -> list[Any]:
        """The answers to the commands, in their order; `script` is the one that they call, if they do.

        Raises:
            RedisError: the first that a command ended with, or the connection; others may have been carried out.
        """
        if not commands:
            return []
        replies = self._send(commands)
        if script is not None:
            unknown = unknown_script(replies)
            again = self._send([script.spelled_out(commands[place]) for place in unknown]) if unknown else []
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return checked(replies)

    def scan(self, pattern: str, kind: str, count: int) -> Iterator[str]:
        """Scans the keys.

        Yields:
            Those of a type that match, some of them twice.
        """
        yield from self._client.scan_iter(match=pattern, count=count, _type=kind)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers; errors that a command ended with are values.

        Raises:
            RedisError: the connection failed.
        """
        return without_redirections(_pipe(self._client, commands))

    def _connect(self, url: str) -> redis.Redis:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="surrogateescape",
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
        )


class ThreadClusterLink(ThreadLink):
    """A cluster. The URL's node is asked for the others first, and again whenever none of those answers."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(url, timeout_s)
        self._nodes: dict[Address, redis.Redis] = {}
        self._owners = Owners()
        self._stale = True
        self._learning = threading.Lock()
        self._threads = ThreadPoolExecutor(_ABREAST, thread_name_prefix="redis")

    def scan(self, pattern: str, kind: str, count: int) -> Iterator[str]:
        """Scans every master; a key that moves meanwhile may come twice or not at all.

        Yields:
            As `ThreadLink.scan`.
        """
        self._learn()
        for address in self._owners.addresses:
            yield from self._node(address).scan_iter(match=pattern, count=count, _type=kind)

    def close(self) -> None:
        """Closes the connections."""
        self._threads.shutdown()
        super().close()
        for node in self._nodes.values():
            node.close()

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        batch, lost = Batch(commands), False
        for number in range(ROUNDS):
            if number and batch.split:
                sleep(SPLIT_WAIT_S)
            self._learn()
            routes = batch.routes(self._owners)
            packed = [(self._node(route.address), batch.packed(route, places)) for route, places in routes.items()]
            failure = batch.take(routes, self._abreast(packed), self._owners)
            self._stale = self._stale or failure is not None
            if batch.finished:
                break
            if failure is not None and lost:
                raise failure
            lost = lost or failure is not None
        self._stale = self._stale or any(isinstance(reply, ClusterDownError) for reply in batch.replies)
        return batch.replies

    def _abreast(self, packed: Sequence[tuple[redis.Redis, list[Command]]]) -> list[list[Any] | Exception]:
        if len(packed) == 1:
            return [_pipe_or_failure(packed[0])]
        return list(self._threads.map(_pipe_or_failure, packed))

    def _learn(self) -> None:
        """Asks for the layout where it is not known, once for all that wait.

        Raises:
            RedisError: no node says.
        """
        if not self._stale:
            return
        with self._learning:
            failure: RedisError | OSError = ClusterDownError("no node")
            for address in to_ask(self._owners) if self._stale else ():
                ask: Any = (self._client if address is None else self._node(address)).execute_command
                try:
                    self._owners.load(ask(*CLUSTER_SLOTS), address or seed_of(self._url))
                except FAILURES as error:
                    failure = error
                else:
                    self._stale = False
                    break
            if self._stale:
                raise failure

    def _node(self, address: Address) -> redis.Redis:
        if address not in self._nodes:
            # Two threads may make one each: both work, and the garbage collector closes the one that is not kept.
            self._nodes[address] = self._connect(url_at(self._url, address))
        return self._nodes[address]


def _pipe(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """As its namesake for the event loop.

    Raises:
        RedisError: the connection failed.
    """
    execute: Any = client.execute_command
    if len(commands) == 1:
        try:
            return [execute(*commands[0])]
        except ResponseError as error:
            return [error]
    pipeline: Any = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    return replies


def _pipe_or_failure(each: tuple[redis.Redis, Sequence[Command]]) -> list[Any] | Exception:
    try:
        return _pipe(*each)
    except FAILURES as error:
        return error
