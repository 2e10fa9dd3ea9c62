"""Many records at once, those of one photo one after the other."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from consumer.kafka.headers import Delivery


class PerPhotoOrder:
    """One task for each record of a topic; records with the same key run in the order in which they were started.

    A record without a key has no order. A record that fails or is cancelled does not hold the next one up.
    """

    def __init__(self, handle: Callable[[Delivery], Awaitable[None]]) -> None:
        self._handle = handle
        self._running: set[asyncio.Task[None]] = set()
        self._last: dict[bytes, asyncio.Task[None]] = {}
        self._closed = False

    def start(self, deliveries: Iterable[Delivery]) -> None:
        """Starts a task for each record in the running event loop; after `close` nothing happens."""
        for delivery in () if self._closed else deliveries:
            self._start(delivery)

    def close(self) -> frozenset[asyncio.Task[None]]:
        """Starts nothing more; returns the tasks that have not ended, those that wait for their turn included."""
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
            await asyncio.wait({before})
        await self._handle(delivery)

    def _forget(self, key: bytes, ended: asyncio.Task[None]) -> None:
        if self._last.get(key) is ended:
            del self._last[key]
