"""The connections to Redis for threads."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from redis import Redis
from redis.exceptions import InvalidResponse, ResponseError

from consumer.redis.cluster import Cluster, Server, seed_of, settled, url_at
from consumer.redis.commands import Address, Answer, Command, Exclusive, Forget, Operation, Script, T, Wait
from consumer.redis.failures import FAILURES
from consumer.redis.replies import MISREAD, misfit, misread
from consumer.redis.urls import readable

#: Nodes that are asked concurrently.
_MAX_THREADS: Final = 16


class ThreadLink:
    """One server, or a cluster of which the URL names a node; close it. Safe to share between threads.

    Replies are decoded to text, with surrogate escapes where they are not UTF-8.
    """

    def __init__(self, url: str, timeout_s: float, *, cluster: bool) -> None:
        self._url = readable(url)
        self._timeout_s = timeout_s
        self._cluster = cluster
        self._server = Cluster(seed_of(url)) if cluster else Server()
        self._clients: dict[Address | None, Redis] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="redis")

    def run(self, commands: Sequence[Command], script: Script | None = None) -> list[Any]:
        """As `Server.run`."""
        operation = self._server.run(commands, script)
        if self._cluster:
            return self._drive(operation)
        # The hot path, where a generator costs 3 %: the first replies of one server are nearly always the result.
        answers = [self._answer(None, commands)]
        replies = settled(answers)
        if replies is not None:
            return replies
        next(operation)
        return self._drive(operation, answers)

    def scan(self, pattern: str, kind: str, count: int) -> Iterator[str]:
        """Scans every master; a key whose slot moves meanwhile may appear twice or not at all.

        Yields:
            The keys of a type that match, some of them twice.
        """
        for node in self._drive(self._server.masters()):
            yield from self._client(node).scan_iter(match=pattern, count=count, _type=kind)

    def close(self) -> None:
        """Closes the connections."""
        self._threads.shutdown()
        for client in self._clients.values():
            client.close()

    def _drive(self, operation: Operation[T], answers: list[Answer] | None = None) -> T:
        while True:
            try:
                step = operation.send(answers)
            except StopIteration as end:
                value: T = end.value
                return value
            match step:
                case [(node, commands)]:
                    answers = [self._answer(node, commands)]
                case Wait(seconds):
                    time.sleep(seconds)
                case Exclusive(alone):
                    with self._lock:
                        self._drive(alone)
                case Forget(nodes):
                    # Another thread may still use one: the garbage collector closes it afterwards.
                    for node in nodes:
                        self._clients.pop(node, None)
                case requests:
                    answers = list(self._threads.map(lambda request: self._answer(*request), requests))

    def _answer(self, node: Address | None, commands: Sequence[Command]) -> Answer:
        client: Any = self._client(node)
        replies: list[Any]
        failure: InvalidResponse | None
        try:
            if len(commands) == 1:
                replies = [client.execute_command(*commands[0])]
            else:
                pipeline = client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                replies = pipeline.execute(raise_on_error=False)
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
        self._clients.pop(node, None)
        return failure

    def _client(self, node: Address | None) -> Redis:
        client = self._clients.get(node)
        if client is None:
            # Two threads may both make one: both work, and the garbage collector closes the one that is not kept.
            client = self._clients[node] = Redis.from_url(
                url_at(self._url, node),
                decode_responses=True,
                encoding_errors="surrogateescape",
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
            )
        return client
