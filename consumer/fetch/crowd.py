"""Bulkheads between photo hosts: a host that does not answer holds a share of the places in flight and no more.

A host that answers quickly is never limited. One that has not answered yet, or no longer does, may have a share of the
places; all such hosts together have a larger share. What comes beyond that waits for a moment, in case the host
answers, and then gives its place to photos of others. A host that answers some photos and is late with others keeps at
most half, and that only while other hosts answer.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from math import inf
from time import monotonic

from consumer.fetch.limits import HostLimits


@dataclass(slots=True, eq=False)
class Room:
    """The fetches that wait for one host, with the time since when, oldest first."""

    guests: dict[object, float] = field(default_factory=dict)
    #: The bytes that they reserved for their bodies.
    sizes: dict[object, int] = field(default_factory=dict)
    #: It answered, and no fetch has waited in vain for long since.
    answers: bool = False
    #: It was late once, since it answered last.
    was_late: bool = False
    answered_s: float = -inf


class Crowd:
    """The fetches in flight, by host; for one event loop."""

    def __init__(self, places: int, limits: HostLimits, max_bytes: int) -> None:
        self._share_bytes = int(max_bytes * limits.max_share)
        self._share = max(1, int(places * limits.max_share))
        self._all_silent = max(1, int(places * limits.max_total_share))
        # A full window opens again when half of it is free: more than half must never be held.
        self._most = max(1, places // 2)
        self._overdue_s = limits.overdue_s
        self._rooms: set[Room] = set()
        self._changed = asyncio.Event()

    async def enter(self, room: Room, guest: object, *, others_answer: Callable[[], bool]) -> bool:
        """Counts a fetch as one that waits for this host, after a short wait where there is no place for it.

        Returns False where there is none.
        """
        until_s = monotonic() + self._overdue_s
        while (full_until_s := self._full_until_s(room, others_answer)) is not None:
            left_s = min(until_s, full_until_s) - monotonic()
            if left_s <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
        self.join(room, guest)
        return True

    async def may_read(self, room: Room, guest: object, size: int) -> bool:
        """Counts the bytes that a fetch reserves; False where a host that answered nothing whole holds its share."""
        until_s = monotonic() + self._overdue_s
        while not room.answers and room.sizes and sum(room.sizes.values()) + size > self._share_bytes:
            left_s = until_s - monotonic()
            if left_s <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
        room.sizes[guest] = size
        return True

    def forget_size(self, room: Room, guest: object) -> None:
        """No longer counts the bytes of a fetch."""
        if room.sizes.pop(guest, None) is not None:
            self._wake()

    def join(self, room: Room, guest: object) -> None:
        """Counts a fetch as one that waits for this host, whatever its limit."""
        room.guests[guest] = monotonic()
        self._rooms.add(room)

    def leave(self, room: Room, guest: object) -> None:
        """No longer counts a fetch; one that is not counted is no error."""
        if room.guests.pop(guest, None) is not None:
            if not room.guests:
                self._rooms.discard(room)
            self._wake()

    def answered(self, room: Room) -> None:
        """The host answered one of them."""
        room.answers, room.was_late, room.answered_s = True, False, monotonic()
        self._wake()

    def failed(self, room: Room, guest: object) -> None:
        """A fetch of this host failed: if it waited for long and no other was answered meanwhile, it is silent."""
        since_s = room.guests.get(guest, inf)
        if monotonic() - since_s >= self._overdue_s and room.answered_s < since_s:
            room.answers, room.was_late = False, True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _full_until_s(self, room: Room, others_answer: Callable[[], bool]) -> float | None:
        """Until when the host may still answer, so that there is a place; None if there is one."""
        waiting = self._waiting(room)
        if room.answers:
            held = waiting >= self._most
            held = held or (waiting >= self._share and self._waiting_in_all() >= self._most)
            return -inf if held and others_answer() else None
        if waiting >= self._share:
            return next(iter(room.guests.values())) + self._overdue_s
        # What is left is for the first photo of a host that was never late: it may be new and good.
        limit = self._all_silent if room.was_late or room.guests else self._most
        if self._waiting_in_all() < min(limit, self._most):
            return None
        return min(self._silent_since_s(), default=monotonic()) + self._overdue_s

    def _waiting(self, room: Room) -> int:
        """How many fetches wait for a host: all, or where it answers, those that wait for long."""
        if not room.answers:
            return len(room.guests)
        late_s = monotonic() - self._overdue_s
        return sum(1 for _ in takewhile(lambda since_s: since_s <= late_s, room.guests.values()))

    def _waiting_in_all(self) -> int:
        return sum(map(self._waiting, self._rooms))

    def _silent_since_s(self) -> Iterator[float]:
        return (next(iter(room.guests.values())) for room in self._rooms if not room.answers)
