"""Asks all the time whether the servers answer, also while no photo comes, so that `/ready` tells what is so now."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Final

from consumer.errors import Dependency, DependencyDown
from consumer.resilience import Dependencies
from consumer.service.construction import Connections

_APART_S: Final = 1.0
#: A server that is stopped is named within five seconds: this, the pause, and the start of the next question.
_PATIENCE_S: Final = 3.0

Ping = Callable[[], Awaitable[object]]


def probes(connections: Connections, dependencies: Dependencies) -> Iterator[Coroutine[None, None, None]]:
    """What asks each server for ever.

    Yields:
        A coroutine for each.
    """
    pings: dict[Dependency, Ping] = {
        "kafka": partial(connections.publisher.ping, _PATIENCE_S),
        "redis": connections.store.ping,
        "triton": connections.triton.ping,
    }
    for dependency, ping in pings.items():
        yield _probe(dependencies, dependency, ping)


async def _probe(dependencies: Dependencies, dependency: Dependency, ping: Ping) -> None:
    while True:
        await dependencies.retry_until_available(dependency, partial(_in_time, dependency, ping))
        await asyncio.sleep(_APART_S)


async def _in_time(dependency: Dependency, ping: Ping) -> None:
    """Asks once.

    Raises:
        DependencyDown: there is no answer, or none in time.
    """
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await ping()
    except TimeoutError:
        raise DependencyDown(dependency, f"no answer within {_PATIENCE_S:g} s") from None
