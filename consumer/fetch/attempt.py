"""The resources of one fetch: bytes of the budget before they are read, and time, except while it waits for bytes.

Bytes are reserved when the size is known and before the body is read: the announced length, else the largest size
allowed, so that no fetch grows while it holds a permit; two that grow could wait for each other forever. Meanwhile the
connection is held unread, for a few seconds at most: then it is closed, the place in the queue is kept, and the photo
is requested again once there are bytes.
"""

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from consumer.budget import Budget, Permit
from consumer.errors import PhotoHostDown, PhotoRejected, Retryable

#: How long a connection is held unread; hosts close such connections after 10 to 60 s.
OPEN_WAIT_S: Final = 5.0
#: What is reserved before the length is known is at most this part of the budget: the eight calls of a mount that hangs
#: hold a quarter.
_LITTLE: Final = 32


class NotFound(Exception):
    """The host has no such photo: finally, or because the upload is not visible yet."""


class NoRoom(Exception):
    """The budget had no room for the body while its connection was held: close it and wait with `Attempt.queued`."""


def busy(status: int, text: str, origin: str, retry_after_s: float | None = None) -> Retryable | None:
    """The failure for an HTTP status that means "later", None for any other; 408 and 425 say nothing of the origin."""
    about_request = status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
    if not about_request and status != HTTPStatus.TOO_MANY_REQUESTS and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    return Retryable("http_5xx", text, origin=None if about_request else origin, retry_after_s=retry_after_s)


#: What a process runs out of, whatever it asks for.
_OWN_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


def own_limit(error: OSError) -> PhotoHostDown | None:
    """The failure for an error that means that this process or its machine has run out of something, else None.

    It is neither the photo's nor the host's: the photo waits, and uses up no attempt.
    """
    if error.errno not in _OWN_LIMITS:
        return None
    return PhotoHostDown("connect_failed", f"this machine is at a limit: {error.strerror}")


class Attempt:
    """The bytes and the time of one fetch. `release` returns the bytes, at the latest when the photo is dropped."""

    __slots__ = ("_budget", "_clock", "_open_wait_s", "_permit", "_queue", "asking", "max_bytes", "place")

    def __init__(self, budget: Budget, max_bytes: int, *, open_wait_s: float = OPEN_WAIT_S) -> None:
        self._budget = budget
        #: Most bytes of a body.
        self.max_bytes = max_bytes
        self._open_wait_s = open_wait_s
        self._clock: asyncio.Timeout | None = None
        self._queue: asyncio.Task[Permit] | None = None
        self._permit: Permit | None = None
        #: The origin that was asked and has not answered yet: a failure is then the origin's, not the photo's.
        self.asking: str | None = None
        #: What is asked, for messages; of a redirect, what it leads to.
        self.place = ""

    def within(self, total_s: float) -> asyncio.Timeout:
        """A context that raises TimeoutError after so much time in it, without the time that it waits for room."""
        self._clock = asyncio.timeout(total_s)
        return self._clock

    async def make_room(self, place: str, announced: int | None) -> None:
        """Waits until a body of the announced length fits beside the others in flight.

        Raises:
            PhotoRejected: `too_many_bytes`.
            Retryable: `malformed_response`, a smaller length was announced before.
            NoRoom: there is no room yet; the connection must be closed.
        """
        if announced is not None and announced > self.max_bytes:
            raise self.too_many(place, f"{announced} announced")
        wanted = self.max_bytes if announced is None else announced
        if self._permit is None:
            self._permit = self._budget.try_acquire(wanted) or await self._waited_for(wanted)
        elif not self._permit.try_grow(min(wanted, self._budget.total)):
            raise Retryable("malformed_response", f"{place}: announces {wanted} bytes, fewer a moment ago")
        self._permit.shrink(wanted)

    def reserve(self, most: int) -> int:
        """Takes room for a body of unknown length, where it is free: `most` bytes, or less where that is not little.

        Returns how much it took.
        """
        size = min(most, self.max_bytes, self._budget.total // _LITTLE)
        if self._permit is None and size:
            self._permit = self._budget.try_acquire(size)
            return 0 if self._permit is None else size
        return 0

    def unreserve(self) -> None:
        """Returns the room of `reserve`: the body is longer."""
        if self._permit is not None:
            self._permit.release()
            self._permit = None

    async def queued(self) -> None:
        """Waits for the room after `NoRoom`."""
        if self._queue is not None:
            self._permit = await self._queue
            self._queue = None

    def keep(self, length: int) -> None:
        """Returns the room that a body does not need."""
        if self._permit is not None:
            self._permit.shrink(length)

    def release(self) -> None:
        """Returns all room; a second call does nothing."""
        if self._queue is not None:
            self._queue.add_done_callback(_give_back)
            self._queue.cancel()
            self._queue = None
        if self._permit is not None:
            self._permit.release()

    def too_many(self, place: str, what: str) -> PhotoRejected:
        """The rejection of a body that is too large."""
        return PhotoRejected("too_many_bytes", f"{place}: {what}, {self.max_bytes} bytes are allowed")

    async def _waited_for(self, wanted: int) -> Permit:
        self._queue = asyncio.get_running_loop().create_task(self._budget.acquire(wanted))
        with self._clock_stopped():
            await asyncio.wait({self._queue}, timeout=self._open_wait_s)
        if not self._queue.done():
            raise NoRoom
        permit, self._queue = self._queue.result(), None
        return permit

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        clock, loop = self._clock, asyncio.get_running_loop()
        if clock is None or (end_s := clock.when()) is None:
            yield
            return
        left_s = end_s - loop.time()
        clock.reschedule(None)
        try:
            yield
        finally:
            clock.reschedule(loop.time() + left_s)


def _give_back(queue: "asyncio.Task[Permit]") -> None:
    if not queue.cancelled() and queue.exception() is None:
        queue.result().release()
