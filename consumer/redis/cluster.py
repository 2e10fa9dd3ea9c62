"""Commands and where they go in a Redis Cluster: who owns which slot, and what a redirection says about it. Pure.

This is our own because redis-py's cluster clients lose their way while slots move: both fail on an ASK to a node that
owns no slot yet (redis-py#4015), and the asynchronous one sends ASKING and the command over two connections.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    NoScriptError,
    RedisError,
    TryAgainError,
)

#: A command with its arguments; its first key is the second part, or the fourth of a script's call.
Command = tuple[str | bytes | float, ...]

CLUSTER_SLOTS: Final[Command] = ("CLUSTER", "SLOTS")
#: How often commands follow redirections, and how long they wait before the next time where a slot is split.
ROUNDS: Final = 6
SPLIT_WAIT_S: Final = 0.05

#: Nodes that are asked for the cluster's layout before it is given up for now, beside the one that the user named.
_ASKED_NODES: Final = 3
_DEFAULT_PORT: Final = 6379
_SCRIPT_CALLS: Final = frozenset({"EVALSHA", "EVAL"})
#: What a node says where it does not know a host, its own included: ask where you asked before.
_SAME_HOST: Final = frozenset({"", "?"})


class Script:
    """A Lua script of this package, called by its hash."""

    def __init__(self, name: str) -> None:
        self._source = files("consumer.redis").joinpath(name).read_text(encoding="utf-8")
        self._sha = hashlib.sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], arguments: Sequence[str | bytes]) -> Command:
        """The command; every key that the script touches must be among `keys`, and in one slot."""
        return ("EVALSHA", self._sha, len(keys), *keys, *arguments)

    def spelled_out(self, call: Command) -> Command:
        """The same call with the script itself, for a server that does not know it; it does from then on."""
        return ("EVAL", self._source, *call[2:])


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int


class Route(NamedTuple):
    """A node, and whether it is only about to get the slot: each command needs ASKING before it then."""

    address: Address
    asking: bool


def slot_of(command: Command) -> int:
    """The slot of a command's first key; all its keys must share it."""
    key = command[3] if command[0] in _SCRIPT_CALLS else command[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode(errors="surrogateescape"))


class Owners:
    """The master of each slot, as far as the nodes told."""

    def __init__(self) -> None:
        self._by_slot: dict[int, Address] = {}

    @property
    def addresses(self) -> set[Address]:
        """Every master that owns a slot."""
        return set(self._by_slot.values())

    @property
    def uncovered(self) -> int:
        """How many slots have no owner."""
        return REDIS_CLUSTER_HASH_SLOTS - len(self._by_slot)

    def load(self, ranges: Sequence[Sequence[Any]], asked: Address) -> None:
        """Takes the answer to CLUSTER SLOTS of the node `asked` in place of what was known."""
        owners = {}
        for first, last, master, *_ in ranges:
            address = _address(_text(master[0]), int(master[1]), asked)
            owners.update(dict.fromkeys(range(int(first), int(last) + 1), address))
        self._by_slot = owners

    def of(self, command: Command) -> Address:
        """The node to send a command to.

        Raises:
            ClusterDownError: no node owns the slot.
        """
        slot = slot_of(command)
        if slot not in self._by_slot:
            raise ClusterDownError(f"slot {slot} has no owner")
        return self._by_slot[slot]

    def move(self, slot: int, address: Address) -> None:
        """Notes a slot's new owner."""
        self._by_slot[slot] = address


class Batch:
    """Commands on their way through a cluster: which have no answer yet, and where those go next."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self._pending = list(range(len(commands)))
        self._asking: dict[int, Address] = {}
        #: The answers in the order of the commands; errors are values, redirections that led nowhere included.
        self.replies: list[Any] = [None] * len(commands)
        #: Whether a slot's keys are apart on two nodes right now, which only time mends.
        self.split = False

    @property
    def finished(self) -> bool:
        """Whether every command has its answer."""
        return not self._pending

    def routes(self, owners: Owners) -> dict[Route, list[int]]:
        """The places of the unanswered commands, by where to send them.

        Raises:
            ClusterDownError: as `Owners.of`.
        """
        routes: dict[Route, list[int]] = {}
        for place in self._pending:
            asked = self._asking.get(place)
            route = (
                Route(owners.of(self._commands[place]), asking=False) if asked is None else Route(asked, asking=True)
            )
            routes.setdefault(route, []).append(place)
        return routes

    def packed(self, route: Route, places: Sequence[int]) -> list[Command]:
        """What to send to one node, in one pipeline: ASKING counts for the next command of a connection alone."""
        if not route.asking:
            return [self._commands[place] for place in places]
        return [command for place in places for command in (("ASKING",), self._commands[place])]

    def take(
        self, routes: Mapping[Route, Sequence[int]], answers: Sequence[Sequence[Any] | Exception], owners: Owners
    ) -> Exception | None:
        """Notes what each node answered to what `packed` gave, and learns from redirections.

        Returns:
            One of the answers that were a failure of the connection, if any; those commands have no answer yet.
        """
        self.split, failure, self._asking, self._pending = False, None, {}, []
        for (route, places), replies in zip(routes.items(), answers, strict=True):
            if isinstance(replies, Exception):
                failure = replies
                self._pending += places
                continue
            for place, reply in zip(places, replies[1::2] if route.asking else replies, strict=True):
                self.replies[place] = reply
                if self._redirected(place, reply, route.address, owners):
                    self._pending.append(place)
        return failure

    def _redirected(self, place: int, reply: object, by: Address, owners: Owners) -> bool:
        match reply:
            case MovedError():
                owners.move(slot_of(self._commands[place]), _address(reply.host, reply.port, by))
            case AskError():
                self._asking[place] = _address(reply.host, reply.port, by)
            case TryAgainError():
                self.split = True
            case _:
                return False
        return True


def checked(replies: list[Any]) -> list[Any]:
    """The answers, if none of them is an error.

    Raises:
        RedisError: the first that is.
    """
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies


def unknown_script(replies: Sequence[object]) -> list[int]:
    """The places of the calls whose script the server does not know."""
    return [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def without_redirections(replies: list[Any]) -> list[Any]:
    """The answers of a server that was not said to belong to a cluster.

    Raises:
        ClusterError: it does.
    """
    if any(isinstance(reply, AskError) for reply in replies):
        raise ClusterError("this server belongs to a cluster: say so (setting redis.cluster, TagReader(cluster=True))")
    return replies


def to_ask(owners: Owners) -> list[Address | None]:
    """The nodes to ask for the layout, one after the other; None is the one that the user named."""
    known = list(owners.addresses)
    return [*random.sample(known, min(len(known), _ASKED_NODES)), None]


def seed_of(url: str) -> Address:
    """The node that a URL names."""
    parts = urlsplit(url)
    return Address(parts.hostname or "localhost", parts.port or _DEFAULT_PORT)


def url_at(url: str, address: Address) -> str:
    """The URL with another node; scheme, credentials and options stay."""
    parts = urlsplit(url)
    host = f"[{address.host}]" if ":" in address.host else address.host
    credentials, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{credentials}{at}{host}:{address.port}").geturl()


def _address(host: str, port: int, told_by: Address) -> Address:
    return Address(told_by.host if host in _SAME_HOST else host, port)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
