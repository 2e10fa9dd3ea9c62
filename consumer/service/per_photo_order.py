"""Concurrent processing of records, in order for each photo."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from consumer.kafka.headers import Delivery

_SHOWN_BYTES: Final = 100


class PerPhotoOrder:
    """One task for each record of a topic; records with the same key run one after the other, as they were started.

    Records without a key have no order. A record that fails or is cancelled does not block the next one.
    """

    def __init__(self, handle: Callable[[Delivery], Awaitable[None]]) -> None:
        self._handle = handle
        self._running: set[asyncio.Task[None]] = set()
        self._last: dict[bytes, asyncio.Task[None]] = {}
        self._closed = False

    def start(self, deliveries: Iterable[Delivery]) -> None:
        """Starts a task for each record in the running event loop; after `close`, none."""
        for delivery in () if self._closed else deliveries:
            self._start(delivery)

    def close(self) -> frozenset[asyncio.Task[None]]:
        """Starts no more tasks; returns those that have not ended, including those that wait for an earlier one."""
        self._closed = True
        return frozenset(self._running)

    def _start(self, delivery: Delivery) -> None:
        key = delivery.record.key
        task = asyncio.create_task(self._run(delivery, None if key is None else self._last.get(key)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if key is not None:
            self._last[key] = task
            task.add_done_callback(lambda ended: self._forget(key, ended))

    async def _run(self, delivery: Delivery, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            turn, delivery.wait.what = delivery.wait.what, f"an earlier event of photo {_shown(delivery)}"
            await asyncio.wait({before})
            delivery.wait.what = turn
        await self._handle(delivery)

    def _forget(self, key: bytes, ended: asyncio.Task[None]) -> None:
        if self._last.get(key) is ended:
            del self._last[key]


def _shown(delivery: Delivery) -> str:
    """The key as quoted text: a sender may write anything there, and as much as a record holds."""
    return ascii((delivery.record.key or b"")[:_SHOWN_BYTES].decode(errors="backslashreplace"))
