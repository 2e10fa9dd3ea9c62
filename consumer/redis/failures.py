"""What counts as a failure of Redis, its mapping to `DependencyDown`, and what is the fault of a single key instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeGuard

from redis.exceptions import RedisError, ResponseError

from consumer.errors import DependencyDown

#: A failure of Redis or of the connection; a timeout is an OSError.
FAILURES: Final = (RedisError, OSError)


def is_wrong_type(reply: object) -> TypeGuard[ResponseError]:
    """Whether a reply says that the key holds another type: somebody else wrote to it, and Redis is well."""
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


@contextmanager
def redis_failures() -> Iterator[None]:
    """Maps every failure: none is the photo's fault, since keys and arguments are always well-formed.

    That includes `maxmemory` with noeviction, a replica, a loading server, a cluster without one of its masters,
    refused credentials and commands that the user may not call. A key of another type is none (`is_wrong_type`).

    Raises:
        DependencyDown: for each of them.
    """
    try:
        yield
    except FAILURES as error:
        raise DependencyDown("redis", f"{type(error).__name__}: {error}") from None
