"""What an operation on Redis asks of the link that carries it out. Pure."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from consumer.redis.commands import Command


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait before the next step."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Carry out an operation, one caller of the link at a time."""

    operation: "Operation[None]"


@dataclass(frozen=True, slots=True)
class Forget:
    """Let go of the connections to these nodes."""

    nodes: Iterable[Address]


#: Commands for one node, to be sent in one round trip; node None is the one that the URL names.
Request = tuple[Address | None, Sequence[Command]]
#: What a node replied to each command of a request, errors as values; or the failure of the connection.
Answer = list[Any] | Exception
#: Requests are sent at the same time, and the result is a new list of their answers; other steps have no result.
Step = list[Request] | Wait | Exclusive | Forget
T = TypeVar("T")
Operation = Generator[Step, Any, T]
