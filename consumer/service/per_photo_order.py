"""Concurrent processing of records, in order for each photo.

A record that waits for an earlier one of its photo holds a place in flight, and of one photo there may be any number.
Where too many wait so for one that takes long, as when its host hangs, the last of them step aside: they are handled at
once, marked so that they only move to the retry topic. While no photo gets on, none does.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Final

from consumer.kafka.headers import Delivery

_SHOWN_BYTES: Final = 100
#: A record that is handled for longer takes long.
_SLOW_S: Final = 5.0


@dataclass(slots=True)
class _Line:
    """The records of one photo: since when one is handled, and the turns of those behind it, True once it has come."""

    began_s: float
    behind: deque[asyncio.Future[bool]] = field(default_factory=deque)


class PerPhotoOrder:
    """One task for each record of a topic; records with the same key run one after the other, as they were started.

    Records without a key have no order. A record that fails or is cancelled does not block the next one. At most
    `most_behind` records wait behind ones that take long, unless all are `halted`.
    """

    def __init__(
        self,
        handle: Callable[[Delivery], Awaitable[None]],
        *,
        most_behind: float = inf,
        halted: Callable[[], bool] = lambda: False,
        slow_s: float = _SLOW_S,
    ) -> None:
        self._handle = handle
        self._most_behind = most_behind
        self._halted = halted
        self._slow_s = slow_s
        self._running: set[asyncio.Task[None]] = set()
        self._lines: dict[bytes, _Line] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self, deliveries: Iterable[Delivery]) -> None:
        """Starts a task for each record in the running event loop; after `close`, none."""
        for delivery in () if self._closed else deliveries:
            task = asyncio.create_task(self._run(delivery))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def close(self) -> frozenset[asyncio.Task[None]]:
        """Starts no more tasks; returns those that have not ended, including those that wait for an earlier one."""
        self._closed = True
        return frozenset(self._running)

    async def _run(self, delivery: Delivery) -> None:
        key = delivery.record.key
        if key is None:
            await self._handle(delivery)
            return
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(monotonic())
        elif not await self._turn(delivery, key, line):
            delivery.wait.steps_aside = True
            await self._handle(delivery)
            return
        try:
            await self._handle(delivery)
        finally:
            self._next(key, line)

    async def _turn(self, delivery: Delivery, key: bytes, line: _Line) -> bool:
        """Waits for the earlier records of the photo; False where this one has to step aside."""
        before, delivery.wait.what = delivery.wait.what, f"an earlier event of photo {_shown(key)}"
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        line.behind.append(turn)
        self._look()
        used = False
        try:
            stays = await turn
            used = True
        finally:
            if not used and not turn.cancelled() and turn.result():  # cancelled when its turn had just come
                self._next(key, line)
        delivery.wait.what = before
        return stays

    def _next(self, key: bytes, line: _Line) -> None:
        """The next record of a photo has its turn."""
        while line.behind:
            turn = line.behind.popleft()
            if not turn.done():
                line.began_s = monotonic()
                turn.set_result(True)
                return
        del self._lines[key]

    def _look(self) -> None:
        """Lets the last ones step aside where too many wait, and looks again once the others may have to."""
        surplus = sum(len(line.behind) for line in self._lines.values()) - self._most_behind
        if surplus <= 0:
            return
        slow_since_s = monotonic() - self._slow_s
        for line in () if self._halted() else self._lines.values():
            while surplus > 0 and line.behind and line.began_s <= slow_since_s:
                turn = line.behind.pop()
                surplus -= 1
                if not turn.done():
                    turn.set_result(False)
        if surplus > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._slow_s / 2, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._closed:
            self._look()


def _shown(key: bytes) -> str:
    """The key as quoted text: a sender may write anything there, and as much as a record holds."""
    return ascii(key[:_SHOWN_BYTES].decode(errors="backslashreplace"))
