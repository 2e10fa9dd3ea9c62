"""Redis commands and scripts, the slot of each, and the steps of an operation that a link carries out. Pure."""

import hashlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeVar

from redis.crc import key_slot

#: A command with its arguments; its first key is the second part, or the fourth of a script's call.
Command = tuple[str | bytes | float, ...]

_SCRIPT_CALLS: Final = frozenset({"EVALSHA", "EVAL"})


class Script:
    """A Lua script of this package, called by its hash."""

    def __init__(self, name: str) -> None:
        self._source = files("consumer.redis").joinpath(name).read_text(encoding="utf-8")
        self._sha = hashlib.sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str | bytes], arguments: Sequence[str | bytes]) -> Command:
        """The command; every key that the script touches must be among `keys`, and in one slot."""
        return ("EVALSHA", self._sha, len(keys), *keys, *arguments)

    def spelled_out(self, call: Command) -> Command:
        """The same call with the script itself, for a server that does not know it; it does from then on."""
        return ("EVAL", self._source, *call[2:])


def slot_of(command: Command) -> int:
    """The slot of a command's first key; all its keys must share it."""
    key = command[3] if command[0] in _SCRIPT_CALLS else command[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode(errors="surrogateescape"))


class Address(NamedTuple):
    """The address of a node."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits before the next step."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Carries out an operation, one at a time for all callers of the link."""

    operation: "Operation[None]"


@dataclass(frozen=True, slots=True)
class Forget:
    """Closes the connections to these nodes."""

    nodes: Iterable[Address]


#: Commands for one node, to be sent in one round trip; node None is the one that the URL names.
Request = tuple[Address | None, Sequence[Command]]
#: What a node replied to each command of a request, errors as values; or the failure of the connection.
Answer = list[Any] | Exception
#: Requests are sent concurrently, and the result is a new list of their answers; other steps have no result.
Step = list[Request] | Wait | Exclusive | Forget
T = TypeVar("T")
Operation = Generator[Step, Any, T]
