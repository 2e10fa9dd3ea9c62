"""A weighted semaphore that serves in order of arrival, for bytes in flight and the memory of decodes.

asyncio's semaphore counts holders, but one photo may need a thousand times what another needs. For one event loop.
"""

import asyncio
from collections import deque
from contextlib import suppress


class Permit:
    """An amount of a budget that is held until `release`."""

    __slots__ = ("_budget", "amount")

    def __init__(self, budget: "Budget", amount: int) -> None:
        self._budget = budget
        self.amount = amount

    def shrink(self, amount: int) -> None:
        """Keeps `amount`, if that is less, once the real need is known."""
        given_back = self.amount - max(amount, 0)
        if given_back > 0:
            self.amount -= given_back
            self._budget._give_back(given_back)  # noqa: SLF001 - the two classes are one part

    def try_grow(self, amount: int) -> bool:
        """Holds `amount` from now on, if that much is free and nobody waits for it.

        It never waits: two holders that waited for each other would deadlock.
        """
        more = amount - self.amount
        if more > 0:
            if not self._budget._try_give(more):  # noqa: SLF001 - as above
                return False
            self.amount = amount
        return True

    def release(self) -> None:
        """Gives all of it back; again does nothing."""
        self.shrink(0)


class Budget:
    """A total from which permits are taken in order of arrival: small requests do not overtake a large one.

    A request beyond the total is reduced to it: it is served once nothing else is held.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._queue)

    async def acquire(self, amount: int) -> Permit:
        """Waits for a permit of `amount`, which the caller must release.

        Raises:
            asyncio.CancelledError: the caller was cancelled while it waited, and holds nothing.
        """
        permit = self.try_acquire(amount)
        if permit is not None:
            return permit
        wanted = self._cut(amount)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (wanted, granted)
        self._queue.append(entry)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                with suppress(ValueError):  # `_serve` may have dropped it
                    self._queue.remove(entry)
                self._serve()
            else:  # granted and cancelled in the same iteration of the loop
                self._give_back(wanted)
            raise
        return Permit(self, wanted)

    def try_acquire(self, amount: int) -> Permit | None:
        """A permit of `amount` if that much is free and nobody waits for it, else None."""
        wanted = self._cut(amount)
        return Permit(self, wanted) if self._try_give(wanted) else None

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
        """Grants the oldest requests as far as they fit."""
        while self._queue and (self._queue[0][1].cancelled() or self.used + self._queue[0][0] <= self.total):
            amount, granted = self._queue.popleft()
            if not granted.cancelled():
                self.used += amount
                granted.set_result(None)
