"""What counts as a failure of Redis, and what it is to the path."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.exceptions import RedisError

from consumer.errors import DependencyDown

#: Whatever Redis or the way to it does wrong; a timeout is an OSError.
FAILURES: Final = (RedisError, OSError)


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
