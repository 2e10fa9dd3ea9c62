"""Threads for calls that may never return, such as a lookup at a silent name server or a read from a hung mount.

A thread cannot be stopped: a call that nobody waits for any more keeps its place until it returns. So the places are
bounded for each lane (one domain, one mount), and no lane takes those of another. The threads are daemons: none of them
keeps the process from ending. One for each call costs 0.1 ms, little beside the calls.
"""

import asyncio
import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")


class LaneStuck(Exception):
    """Every place of the lane is held by a call that is overdue: another one would wait in vain."""


@dataclass(slots=True)
class _Lane:
    places: asyncio.Semaphore
    #: Calls that run or wait for a place.
    users: int = 0
    #: When each running call began.
    began_s: dict[Future[Any], float] = field(default_factory=dict)


class Lanes:
    """Runs calls in threads, at most `in_each` at once for one lane and `in_all` for all; for one event loop."""

    def __init__(self, name: str, *, in_each: int, in_all: int, overdue_s: float) -> None:
        self._name = name
        self._in_each = in_each
        self._in_all = in_all
        self._overdue_s = overdue_s
        self._lanes: dict[str, _Lane] = {}
        self._threads = 0

    async def run(self, name: str, call: Callable[[], T]) -> T:
        """The result of `call`, and what it raises. A wait that is cancelled leaves the call running, in its place.

        Raises:
            LaneStuck: the lane is full of calls that are overdue.
            OSError: `ENOMEM`, this process has no thread left for it.
        """
        lane = self._lanes.setdefault(name, _Lane(asyncio.Semaphore(self._in_each)))
        if len(lane.began_s) >= self._in_each and monotonic() - max(lane.began_s.values()) > self._overdue_s:
            raise LaneStuck(f"{self._in_each} calls have not returned for {self._overdue_s:g} s")
        lane.users += 1
        started = False
        try:
            await lane.places.acquire()
            started = True
        finally:
            if not started:
                self._leave(name, lane)
        return await asyncio.wrap_future(self._started(name, lane, call))

    def _started(self, name: str, lane: _Lane, call: Callable[[], T]) -> Future[T]:
        loop, done = asyncio.get_running_loop(), Future[T]()
        done.set_running_or_notify_cancel()
        free = partial(self._free, name, lane, done)

        def work() -> None:
            try:
                done.set_result(call())
            except BaseException as failure:  # noqa: BLE001 - for the waiter
                done.set_exception(failure)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(free)

        lane.began_s[done] = monotonic()
        self._threads += 1
        if self._threads > self._in_all:
            free()
            raise OSError(errno.ENOMEM, f"{self._in_all} threads have not returned")
        try:
            threading.Thread(target=work, name=self._name, daemon=True).start()
        except RuntimeError:
            free()
            raise OSError(errno.ENOMEM, "no thread can be started") from None
        return done

    def _free(self, name: str, lane: _Lane, done: Future[T]) -> None:
        del lane.began_s[done]
        self._threads -= 1
        lane.places.release()
        self._leave(name, lane)

    def _leave(self, name: str, lane: _Lane) -> None:
        lane.users -= 1
        if not lane.users:
            del self._lanes[name]
