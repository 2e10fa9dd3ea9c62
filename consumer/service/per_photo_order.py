"""Many records at once, those of one photo one after the other."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from consumer.events import Record


class KeyedTasks:
    """One task for each record; records with the same key run in the order in which they were started.

    A record without a key has no order. A record that fails or is cancelled does not hold the next one up.
    """

    def __init__(self, handle: Callable[[Record], Awaitable[None]]) -> None:
        self._handle = handle
        self._running: set[asyncio.Task[None]] = set()
        self._last: dict[Hashable, asyncio.Task[None]] = {}

    @property
    def running(self) -> frozenset[asyncio.Task[None]]:
        """The tasks that have not ended, those that wait for their turn included."""
        return frozenset(self._running)

    def start(self, record: Record) -> None:
        """Starts a record's task in the running event loop."""
        key = None if record.key is None else (record.topic, record.key)
        task = asyncio.create_task(self._run(record, None if key is None else self._last.get(key)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if key is not None:
            self._last[key] = task
            task.add_done_callback(lambda ended: self._forget(key, ended))

    async def _run(self, record: Record, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait({before})
        await self._handle(record)

    def _forget(self, key: Hashable, ended: asyncio.Task[None]) -> None:
        if self._last.get(key) is ended:
            del self._last[key]
