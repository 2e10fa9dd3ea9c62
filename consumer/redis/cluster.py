"""Operations on one Redis server or a cluster: which commands go to which node, and what the replies mean. No I/O.

Every operation is a generator of steps, which a link carries out: `async_link` in the event loop, `thread_link` in
threads. So the rules are written once.

redis-py's own cluster clients fail while slots move: both on an ASK to a node that owns no slot yet (redis-py#4015),
and the asynchronous one because it sends ASKING and the command over two connections.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, Final
from urllib.parse import urlsplit

from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    NoScriptError,
    ResponseError,
    TryAgainError,
)

from consumer.redis.commands import (
    Address,
    Answer,
    Command,
    Exclusive,
    Forget,
    Operation,
    Request,
    Script,
    Wait,
    slot_of,
)
from consumer.redis.failures import FAILURES, is_wrong_type
from consumer.redis.urls import DEFAULT_PORT

#: How often commands follow redirections, and how long they wait in between where a slot is split between two nodes.
ROUNDS: Final = 6
SPLIT_WAIT_S: Final = 0.05

#: How many known nodes are asked for the cluster's slots, before the one in the URL.
_ASKED_NODES: Final = 3
_ASKING: Final[Command] = ("ASKING",)
_CLUSTER_SLOTS: Final[Command] = ("CLUSTER", "SLOTS")
_PING: Final[Command] = ("PING",)
#: What a node reports as a host that it does not know, its own included: use the host that it was reached at.
_SAME_HOST: Final = frozenset({"", "?"})


class Server:
    """The operations on one server. Commands may be sent twice, so they must be idempotent."""

    def run(self, commands: Sequence[Command], script: Script | None = None) -> Operation[list[Any]]:
        """The replies to the commands, in their order; `script` is the one that they call, if any.

        That a key holds another type is a reply, too: an error as `is_wrong_type` knows it, in its place.

        Raises:
            RedisError: the first failure of a command or of the connection; other commands may have been executed.
            OSError: the connection failed.
        """
        if not commands:
            return []
        replies = yield from self._send(commands)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if script is not None and unknown:
            again = yield from self._send([script.spelled_out(commands[place]) for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return _checked(replies)

    def ping(self) -> Operation[None]:
        """Checks that every slot has a master, and that all masters answer.

        Raises:
            RedisError: one is missing or does not answer.
            OSError: the connection failed.
        """
        masters = yield from self.masters()
        answers = yield [(node, [_PING]) for node in masters]
        while answers:
            _checked(_replies_of(answers))

    def masters(self) -> Operation[list[Address | None]]:
        """The nodes that together hold all keys."""
        yield from ()
        return [None]

    def _send(self, commands: Sequence[Command]) -> Operation[list[Any]]:
        """The replies, errors as values.

        Raises:
            ClusterError: the server belongs to a cluster.
        """
        replies = _replies_of((yield [(None, commands)]))
        for reply in replies:
            if isinstance(reply, AskError):
                raise ClusterError("this server belongs to a cluster: set redis.cluster, or TagReader(cluster=True)")
        return replies


class Cluster(Server):
    """The operations on a cluster, with the known owners of its slots; all callers share one.

    `seed` is the node in the URL: it is asked for the slots first, and again whenever no known master answers.
    """

    def __init__(self, seed: Address) -> None:
        self._seed = seed
        self._owners: dict[int, Address] = {}
        self._stale = True

    def ping(self) -> Operation[None]:
        """As of one server.

        Raises:
            ClusterDownError: a slot has no master.
        """
        self._stale = True
        yield Exclusive(self._learn())
        if uncovered := REDIS_CLUSTER_HASH_SLOTS - len(self._owners):
            raise ClusterDownError(f"{uncovered} slots have no owner")
        yield from super().ping()

    def masters(self) -> Operation[list[Address | None]]:
        """The owners of slots."""
        if self._stale:
            yield Exclusive(self._learn())
        return list(set(self._owners.values()))

    def _send(self, commands: Sequence[Command]) -> Operation[list[Any]]:
        """The replies, errors as values, among them redirections that were not resolved.

        Raises:
            RedisError: connections failed twice, or no node reports the owners of the slots.
            OSError: as RedisError.
        """
        replies: list[Any] = [None] * len(commands)
        # The places of the unanswered commands, and the node that ASK redirects each of them to.
        pending: dict[int, Address | None] = dict.fromkeys(range(len(commands)))
        lost = False
        for _ in range(ROUNDS):
            if any(isinstance(replies[place], TryAgainError) for place in pending):
                yield Wait(SPLIT_WAIT_S)
            if self._stale:
                yield Exclusive(self._learn())
            pending = yield from self._exchange(commands, pending, replies)
            failures = [replies[place] for place in pending if not isinstance(replies[place], ResponseError)]
            self._stale = self._stale or bool(failures)
            if failures and lost:
                raise failures[0]
            lost = lost or bool(failures)
            if not pending:
                break
        self._stale = self._stale or any(isinstance(reply, ClusterDownError) for reply in replies)
        return replies

    def _exchange(
        self, commands: Sequence[Command], pending: Mapping[int, Address | None], replies: list[Any]
    ) -> Operation[dict[int, Address | None]]:
        """Sends the pending commands once and stores the replies; returns those that are still pending."""
        sent: dict[Address, list[int | None]] = {}
        for place, asked in pending.items():
            # None stands for ASKING, which holds for the next command of the connection alone.
            sent.setdefault(asked or self._owner(commands[place]), []).extend([None, place] if asked else [place])
        requests: list[Request] = [
            (node, [_ASKING if place is None else commands[place] for place in places]) for node, places in sent.items()
        ]
        again: dict[int, Address | None] = {}
        for (node, asked_of_it), answer in zip(sent.items(), (yield requests), strict=True):
            outcomes = repeat(answer, len(asked_of_it)) if isinstance(answer, Exception) else answer
            for number, reply in zip(asked_of_it, outcomes, strict=True):
                if number is not None:
                    replies[number] = reply
                    if _unanswered(reply):
                        again[number] = self._follow(reply, node)
        return again

    def _follow(self, reply: Exception, node: Address) -> Address | None:
        """Notes where a slot moved to; returns the node to ask while its keys are moving."""
        match reply:
            case MovedError():
                self._owners[reply.slot_id] = _address(reply.host, reply.port, node)
            case AskError():
                return _address(reply.host, reply.port, node)
        return None

    def _owner(self, command: Command) -> Address:
        slot = slot_of(command)
        if slot not in self._owners:
            self._stale = True
            raise ClusterDownError(f"slot {slot} has no owner")
        return self._owners[slot]

    def _learn(self) -> Operation[None]:
        """Reads the owners of the slots from one node after the other, unless another caller just did.

        Raises:
            FAILURES: no node answers.
        """
        if not self._stale:
            return
        known = set(self._owners.values())
        for node in [*random.sample(list(known), min(len(known), _ASKED_NODES)), None]:
            try:
                (ranges,) = _checked(_replies_of((yield [(node, [_CLUSTER_SLOTS])])))
            except FAILURES:
                if node is None:
                    raise
            else:
                self._owners, self._stale = owners_of(ranges, node or self._seed), False
                yield Forget(known - set(self._owners.values()))
                return


def settled(answers: Sequence[Answer]) -> list[Any] | None:
    """The replies of the one node that was asked; None where they or the connection failed."""
    (answer,) = answers
    if isinstance(answer, Exception):
        return None
    for reply in answer:
        if isinstance(reply, Exception):
            return None
    return answer


def owners_of(ranges: Sequence[Sequence[Any]], told_by: Address) -> dict[int, Address]:
    """The master of each slot in a node's reply to CLUSTER SLOTS."""
    owners: dict[int, Address] = {}
    for first, last, (host, port, *_), *_ in ranges:
        name = host.decode() if isinstance(host, bytes) else host or ""
        owners.update(dict.fromkeys(range(int(first), int(last) + 1), _address(name, int(port), told_by)))
    return owners


def seed_of(url: str) -> Address:
    """The node that a URL names."""
    parts = urlsplit(url)
    return Address(parts.hostname or "localhost", parts.port or DEFAULT_PORT)


def url_at(url: str, node: Address | None) -> str:
    """The URL with another node; scheme, credentials and options stay. None leaves it as it is."""
    if node is None:
        return url
    parts = urlsplit(url)
    host = f"[{node.host}]" if ":" in node.host else node.host
    credentials, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{credentials}{at}{host}:{node.port}").geturl()


def _address(host: str, port: int, told_by: Address) -> Address:
    return Address(told_by.host if host in _SAME_HOST else host, port)


def _unanswered(reply: object) -> bool:
    """Whether a command must be sent again: it was redirected, or the connection failed."""
    if isinstance(reply, ResponseError):
        return isinstance(reply, AskError | TryAgainError)
    return isinstance(reply, Exception)


def _replies_of(answers: list[Answer]) -> list[Any]:
    """Takes the last answer.

    Raises:
        Exception: the connection failed.
    """
    answer = answers.pop()
    if isinstance(answer, Exception):
        try:
            raise answer
        finally:
            # Its traceback refers to the callers' frames and so to a photo's bytes: avoid a cycle that keeps those.
            del answer
    return answer


def _checked(replies: list[Any]) -> list[Any]:
    """The replies.

    Raises:
        Exception: the first of them that is an error of more than its key.
    """
    for reply in replies:
        if isinstance(reply, Exception) and not is_wrong_type(reply):
            raise reply
    return replies
