"""Threads for calls that may never return, such as a lookup at a silent name server or a read from a hung mount.

A thread cannot be stopped: a call that nobody waits for any more keeps its place until it returns. So the places are
bounded for each lane (one domain, one mount), and no lane takes those of another: where half of all threads are taken,
a lane has one. The threads are daemons: none of them keeps the process from ending. One that has returned serves the
next call: the event loop blocks until a new one runs.
"""

import asyncio
import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

#: A thread without a call ends after this.
_IDLE_S: Final = 5.0


class LaneStuck(Exception):
    """Every place of the lane is held by a call that is overdue: another one would wait in vain."""


@dataclass(slots=True)
class _Lane:
    places: asyncio.Semaphore
    #: Calls that run or wait for a place.
    users: int = 0
    #: When each running call began.
    began_s: dict[asyncio.Future[Any], float] = field(default_factory=dict)
    #: Set when one of them returns; None while nobody waits for that.
    returned: asyncio.Event | None = None


class _Threads:
    """Daemon threads, as many as there are calls at once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Callable[[], None]]] = []

    def run(self, call: Callable[[], None]) -> None:
        """Runs a call, which must not raise, in a thread that has none.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            calls = self._idle.pop() if self._idle else None
        if calls is None:
            calls = SimpleQueue()
            threading.Thread(target=self._serve, args=(calls,), name=self._name, daemon=True).start()
        calls.put(call)

    def _serve(self, calls: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                calls.get(timeout=_IDLE_S)()
            except Empty:
                with self._lock:
                    if calls in self._idle:
                        self._idle.remove(calls)
                        return
            else:
                with self._lock:
                    self._idle.append(calls)


class Lanes:
    """Runs calls in threads, at most `in_each` at once for one lane and `in_all` for all; for one event loop."""

    def __init__(self, name: str, *, in_each: int, in_all: int, overdue_s: float) -> None:
        self._in_each = in_each
        self._in_all = in_all
        self._overdue_s = overdue_s
        self._lanes: dict[str, _Lane] = {}
        self._running = 0
        self._threads = _Threads(name)

    async def run(self, name: str, call: Callable[[], T], before: Callable[[], object] | None = None) -> T:
        """The result of `call`, and what it raises. A wait that is cancelled leaves the call running, in its place.

        `before` is called in the event loop once there is a place; it must not raise.

        Raises:
            LaneStuck: the lane is full of calls that are overdue.
            OSError: `ENOMEM`, this process has no thread left for it.
        """
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(asyncio.Semaphore(self._in_each))
        if self._is_full(lane) and monotonic() - max(lane.began_s.values()) > self._overdue_s:
            raise LaneStuck(f"{len(lane.began_s)} calls have not returned for {self._overdue_s:g} s")
        lane.users += 1
        held = started = False
        try:
            held = await lane.places.acquire()
            while self._is_full(lane):  # threads are scarce
                lane.returned = lane.returned or asyncio.Event()
                await lane.returned.wait()
            started = True
        finally:
            if not started:
                if held:
                    lane.places.release()
                self._leave(name, lane)
        if before is not None:
            before()
        return await self._started(name, lane, call)

    def _is_full(self, lane: _Lane) -> bool:
        """Whether the lane has what it may have."""
        return len(lane.began_s) >= (self._in_each if self._running < self._in_all // 2 else 1)

    def _started(self, name: str, lane: _Lane, call: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def finish(outcome: T | BaseException, *, failed: bool) -> None:
            self._free(name, lane, done)
            if done.cancelled():
                return
            if failed and isinstance(outcome, BaseException):
                done.set_exception(outcome)
            else:
                done.set_result(cast("T", outcome))

        def work() -> None:
            try:
                ended = partial(finish, call(), failed=False)
            except BaseException as failure:  # noqa: BLE001 - for the waiter
                ended = partial(finish, failure, failed=True)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ended)

        lane.began_s[done] = monotonic()
        self._running += 1
        if self._running > self._in_all:
            self._free(name, lane, done)
            raise OSError(errno.ENOMEM, f"{self._in_all} threads have not returned")
        try:
            self._threads.run(work)
        except RuntimeError:
            self._free(name, lane, done)
            raise OSError(errno.ENOMEM, "no thread can be started") from None
        return done

    def _free(self, name: str, lane: _Lane, done: asyncio.Future[Any]) -> None:
        del lane.began_s[done]
        self._running -= 1
        lane.places.release()
        if lane.returned is not None:
            lane.returned.set()
            lane.returned = None
        self._leave(name, lane)

    def _leave(self, name: str, lane: _Lane) -> None:
        lane.users -= 1
        if not lane.users:
            del self._lanes[name]
