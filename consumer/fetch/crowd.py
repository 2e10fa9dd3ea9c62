"""Bulkheads between photo hosts: a host that does not answer holds a share of the places in flight and no more.

A host that answers quickly is never limited. One that has not answered yet, or no longer does, may have a share of the
places and of the bytes; all such hosts together have a larger share. What comes beyond that waits for a moment, in case
the host answers, and then gives its place to photos of others. A host that was never asked gets a place for its first
photo, if need be that of a late one. A host that answers some photos and is late with others keeps at most half, and
that only while other hosts answer. Of those that wait for much longer than its answers take, what is beyond its share
gives way, and it is limited until it has answered for a while.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import inf
from operator import itemgetter
from time import monotonic
from typing import Final

from consumer.fetch.limits import HostLimits
from consumer.fetch.room import Guest, Room

#: So many times longer do the photos of the only host wait that answers, or was asked: nobody else needs their places.
_ALONE: Final = 4.0
#: How often, in the time after which a fetch is late, the late ones are looked for.
_LOOKS: Final = 4


class Crowd:
    """The fetches in flight, by host; for one event loop."""

    def __init__(self, places: int, limits: HostLimits, max_bytes: int) -> None:
        self._places = places
        self._share = max(1, int(places * limits.max_share))
        self._share_bytes = int(max_bytes * limits.max_share)
        # A full window opens again when half of it is free: more than half must never be held.
        self._most = max(1, places // 2)
        self._most_bytes = max_bytes // 2
        self._all_silent = min(self._most, max(1, int(places * limits.max_total_share)))
        self._all_silent_bytes = int(max_bytes * limits.max_total_share)
        self._overdue_s = limits.overdue_s
        self._rooms: set[Room] = set()
        #: How many wait to enter.
        self._queue: Counter[Room] = Counter()
        #: Set at the next change; None while nobody waits for one.
        self._changed: asyncio.Event | None = None
        self._look: asyncio.TimerHandle | None = None

    async def enter(self, room: Room, guest: Guest, *, others_answer: Callable[[], bool]) -> bool:
        """Counts a fetch as one that waits for this host, after a short wait where there is no place for it.

        Returns False where there is none.
        """
        room.others_answer = others_answer
        if self._full_until_s(room) is None:
            self.join(room, guest)
            return True
        # All places may be held by hosts that were new a moment ago, and have theirs for as long.
        long = self._overdue_s * (2 if room.is_new else 1)
        self._queue[room] += 1
        try:
            enters = await self._until(lambda: self._full_until_s(room), max(long, self._patience_s(room)))
        finally:
            self._queue[room] -= 1
            if not self._queue[room]:
                del self._queue[room]
        if enters:
            self.join(room, guest)
        return enters

    async def may_read(self, room: Room, guest: Guest, size: int) -> bool:
        """Counts the bytes that a fetch reserves; False where hosts that end no answers hold their share."""
        if not await self._until(lambda: inf if self._is_too_large(room, size) else None, self._overdue_s):
            return False
        room.sizes[guest] = size
        self._rooms.add(room)
        return True

    def forget_size(self, room: Room, guest: Guest) -> None:
        """No longer counts the bytes of a fetch."""
        if room.sizes.pop(guest, None) is not None:
            self._left(room)

    def join(self, room: Room, guest: Guest) -> None:
        """Counts a fetch as one that waits for this host, whatever its limit."""
        room.guests[guest] = monotonic()
        self._rooms.add(room)
        self._look = self._look or self._next_look()

    def leave(self, room: Room, guest: Guest) -> None:
        """No longer counts a fetch; one that is not counted is no error."""
        if room.guests.pop(guest, None) is not None:
            self._left(room)

    def answered(self, room: Room) -> None:
        """The host answered one of them."""
        room.answers, room.was_late, room.answered_s = True, False, monotonic()
        room.owed = max(0, room.owed - 1)
        self._wake()

    def failed(self, room: Room, guest: Guest) -> None:
        """A fetch of this host failed: if it waited for long and no other was answered meanwhile, it is silent."""
        since_s = room.guests.get(guest, inf)
        if monotonic() - since_s < self._overdue_s:
            return
        if room.owed:
            room.owed = self._places
        if room.answered_s < since_s:
            room.answers, room.was_late = False, True

    def is_crowded(self, room: Room) -> bool:
        """Whether the host, or all hosts that do not answer, hold what they may."""
        if room.answers:
            return room.owed > 0
        return len(room.guests) >= self._share or self._waiting_in_all() >= self._all_silent

    async def _until(self, full_until_s: Callable[[], float | None], long: float) -> bool:
        """Waits until the time that is asked for again after each change, for `long` at most; None is success."""
        until_s = monotonic() + long
        while (full_s := full_until_s()) is not None:
            left_s = min(until_s, full_s) - monotonic()
            if left_s <= 0:
                return False
            self._changed = self._changed or asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
        return True

    def _left(self, room: Room) -> None:
        if not room.guests and not room.sizes:
            self._rooms.discard(room)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _patience_s(self, room: Room) -> float:
        alone = self._rooms <= {room} and not room.others_answer()
        return self._overdue_s * (_ALONE if alone else 1)

    def _full_until_s(self, room: Room) -> float | None:
        """Until when the host may still answer, so that there is a place; None if there is one."""
        if not room.limited:
            return -inf if self._holds_too_much(room) and room.others_answer() else None
        if len(room.guests) >= self._share:
            return room.oldest_s + self._patience_s(room)
        # What is left is for the first photo of a host that was never late: it may be new and good.
        if self._waiting_in_all() < (self._most if room.is_new else self._all_silent):
            return None
        return self._wait_until_s(room)

    def _wait_until_s(self, room: Room) -> float | None:
        """As `_full_until_s`, where hosts that do not answer hold what they may together."""
        silent_until_s = min((one.oldest_s for one in self._rooms if one.limited), default=-inf) + self._overdue_s
        # Those that wait hold places of the window, too: many of them must not wait for long.
        most = (self._share if room.others_answer() else self._all_silent) // (1 if room.is_new else 2)
        queue = sum(count for one, count in self._queue.items() if one.is_new == room.is_new)
        hurry = queue > most and silent_until_s < monotonic()
        if room.is_new:
            return -inf if hurry else self._turn_s()
        return room.oldest_s + self._overdue_s / (_LOOKS if hurry else 1) if room.guests else silent_until_s

    def _turn_s(self) -> float | None:
        """Until when a host that was never asked must wait; None where the youngest late fetch gives way to it.

        Only what is beyond the share of all silent hosts changes hands: otherwise many slow ones would never answer.
        """
        late_s = monotonic() - self._overdue_s
        held = [
            (since_s, guest, room)
            for room in self._rooms
            for guest, since_s in room.guests.items()
            if room.limited or since_s <= late_s
        ]
        reserve = sorted(held, key=itemgetter(0))[self._all_silent :]
        for since_s, guest, room in reversed(reserve):
            if since_s <= late_s:
                self._send_away(room, guest)
                return None
        return min(since_s for since_s, *_ in reserve or held) + self._overdue_s

    def _is_too_large(self, room: Room, size: int) -> bool:
        """Whether a host that ends no answers would hold too many bytes; one photo may always be read."""
        if not room.limited:
            return False
        if room.sizes and sum(room.sizes.values()) + size > self._share_bytes:
            return True
        silent = sum(sum(one.sizes.values()) for one in self._rooms if one.limited)
        first = not room.was_late and not room.sizes
        return silent > 0 and silent + size > (self._most_bytes if first else self._all_silent_bytes)

    def _holds_too_much(self, room: Room) -> bool:
        """Whether a host that answers, but is late for some, holds what it may."""
        late = self._waiting(room)
        return late >= self._most or (late >= self._share and self._waiting_in_all() >= self._most)

    def _next_look(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._overdue_s / _LOOKS, self._look_at_all)

    def _look_at_all(self) -> None:
        """Makes what hangs at hosts that answer others give way, as far as it is beyond their share."""
        self._look = self._next_look() if self._rooms else None
        silent = [room for room in self._rooms if not room.answers]
        places = self._most - sum(len(room.guests) for room in silent)
        size = self._most_bytes - sum(sum(room.sizes.values()) for room in silent)
        for room in self._rooms.difference(silent):
            needed = room.others_answer()
            hung = room.hung(self._overdue_s * (1 if needed else _ALONE))
            # Where no other host answers, half is left to its own photos, and to hosts that were never asked.
            gone = hung[max(0, min(places, self._share if needed else self._most)) :]
            gone += room.beyond(min(size, self._share_bytes if needed else self._most_bytes), hung)
            if gone and needed:
                room.owed = self._places
            for guest in gone:
                self._send_away(room, guest)
            places -= sum(guest in room.guests for guest in hung)
            size -= sum(room.sizes.get(guest, 0) for guest in hung)

    def _send_away(self, room: Room, guest: Guest) -> None:
        room.was_late = True
        guest.give_way()
        self.forget_size(room, guest)
        self.leave(room, guest)

    def _waiting(self, room: Room) -> int:
        """How many fetches wait for a host: all, or where it is not limited, those that wait for long."""
        return len(room.guests) if room.limited else len(room.late(self._overdue_s))

    def _waiting_in_all(self) -> int:
        return sum(map(self._waiting, self._rooms))
