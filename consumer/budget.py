"""An amount that is shared: bytes in flight, memory of decodes. A weighted semaphore that serves in order of arrival.

asyncio's semaphore counts holders; one photo may need a thousand times what another needs. Pure, of one event loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Share:
    """A part of a budget that somebody holds until `release`."""

    __slots__ = ("_budget", "amount")

    def __init__(self, budget: "Budget", amount: int) -> None:
        self._budget = budget
        self.amount = amount

    def shrink(self, amount: int) -> None:
        """Keep only `amount` of it, where that is less, once the real need is known."""
        given_back = self.amount - max(amount, 0)
        if given_back > 0:
            self.amount -= given_back
            self._budget._give_back(given_back)  # noqa: SLF001 - the two classes are one part

    def try_grow(self, amount: int) -> bool:
        """Hold `amount` from now on, if that much is free and nobody waits for it.

        It never waits: holders that wait for each other's shares would wait for ever.
        """
        more = amount - self.amount
        if more > 0:
            if not self._budget._try_give(more):  # noqa: SLF001 - as above
                return False
            self.amount = amount
        return True

    def release(self) -> None:
        """Give all of it back; again does nothing."""
        self.shrink(0)


class Budget:
    """A total from which shares are taken, first come, first served: a large request is not overtaken by small ones.

    A request beyond the total is cut to it: it is served once nothing else is held, and then alone.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """Requests that wait for their share."""
        return len(self._queue)

    @asynccontextmanager
    async def take(self, amount: int) -> AsyncIterator[Share]:
        """Holds a share within the block, after waiting for it.

        Yields:
            The share of `amount`; the block may shrink it or let it grow.
        """
        share = await self.acquire(amount)
        try:
            yield share
        finally:
            share.release()

    async def acquire(self, amount: int) -> Share:
        """A share of `amount` that the caller must release, after waiting for it.

        Raises:
            asyncio.CancelledError: the caller was cancelled while it waited; it holds nothing then.
        """
        share = self.try_acquire(amount)
        if share is not None:
            return share
        wanted = self._cut(amount)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (wanted, granted)
        self._queue.append(entry)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                with suppress(ValueError):  # those that are served meanwhile step over it
                    self._queue.remove(entry)
                self._serve()
            else:  # granted and cancelled in the same turn of the loop
                self._give_back(wanted)
            raise
        return Share(self, wanted)

    def try_acquire(self, amount: int) -> Share | None:
        """A share of `amount` if that much is free and nobody waits for it, else None."""
        wanted = self._cut(amount)
        return Share(self, wanted) if self._try_give(wanted) else None

    def _cut(self, amount: int) -> int:
        return min(max(amount, 0), self.total)

    def _try_give(self, amount: int) -> bool:
        if self._queue or self.used + amount > self.total:
            return False
        self.used += amount
        return True

    def _give_back(self, amount: int) -> None:
        self.used -= amount
        self._serve()

    def _serve(self) -> None:
        """Grant the oldest requests as far as they fit."""
        while self._queue and (self._queue[0][1].cancelled() or self.used + self._queue[0][0] <= self.total):
            amount, granted = self._queue.popleft()
            if not granted.cancelled():
                self.used += amount
                granted.set_result(None)
