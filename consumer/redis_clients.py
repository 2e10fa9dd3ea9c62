"""The connections to Redis that the service's steps share in kind."""

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis

_MAX_CONNECTIONS: Final = 16


def open_redis(url: str, timeout_s: float) -> Redis:
    """A client whose callers wait for a free connection instead of opening one each; every wait ends by `timeout_s`."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
    )
    return Redis.from_pool(pool)
