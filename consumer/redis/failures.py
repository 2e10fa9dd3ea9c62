"""What counts as a failure of Redis, and its mapping to `DependencyDown`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.exceptions import RedisError

from consumer.errors import DependencyDown

#: A failure of Redis or of the connection; a timeout is an OSError.
FAILURES: Final = (RedisError, OSError)


@contextmanager
def redis_failures() -> Iterator[None]:
    """Maps every failure: none is the photo's fault, since keys and arguments are always well-formed.

    That includes `maxmemory` with noeviction, a replica, a loading server, a cluster without one of its masters and
    refused credentials.

    Raises:
        DependencyDown: for each of them.
    """
    try:
        yield
    except FAILURES as error:
        raise DependencyDown("redis", f"{type(error).__name__}: {error}") from None
