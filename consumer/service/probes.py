"""Asks all the time whether the servers answer, also while no photo comes, so that `/ready` tells what is so now."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from time import monotonic
from typing import Final

from consumer.errors import Dependency, DependencyDown
from consumer.resilience import Dependencies
from consumer.service.construction import Connections

_APART_S: Final = 1.0
#: A server that hangs is named within five seconds: the pause, and this twice.
_PATIENCE_S: Final = 2.0
#: What takes longer is silence, and no refusal.
_AT_ONCE_S: Final = 1.0

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
        await dependencies.probe(dependency, partial(_answered, dependency, ping))
        await asyncio.sleep(_APART_S)


async def _answered(dependency: Dependency, ping: Ping) -> None:
    """Asks once, or twice where there is silence: on a busy machine one answer may take long.

    Raises:
        DependencyDown: it refuses, or does not answer in time.
    """
    began_s = monotonic()
    try:
        await _in_time(dependency, ping)
    except DependencyDown:
        if monotonic() < began_s + _AT_ONCE_S:
            raise
        await _in_time(dependency, ping)


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
