"""Threads for calls that may never return, such as a lookup at a silent name server or a read from a hung mount.

A thread cannot be stopped: a call that nobody waits for any more keeps its place until it returns. So the places are
bounded for each lane (one domain, one mount), and no lane takes those of another: where half of all places are taken,
a lane has one. The threads are daemons: none of them keeps the process from ending.

Calls that return at once share one thread of their lane: to wake a thread for each, which then waits for the
interpreter, costs several times what the call does. What waits for more than a moment gets a thread of its own.
"""

import asyncio
import errno
import threading
from collections import deque
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
#: A call that has waited so long behind others of its lane gets another thread.
_SHORT_S: Final = 0.01


class LaneStuck(Exception):
    """Every place of the lane is held by a call that is overdue: another one would wait in vain."""


@dataclass(slots=True)
class _Lane:
    places: asyncio.Semaphore
    #: Calls that run or wait for a place.
    users: int = 0
    #: When each call got its place.
    began_s: dict[asyncio.Future[Any], float] = field(default_factory=dict)
    #: Set when one of them returns; None while nobody waits for that.
    returned: asyncio.Event | None = None
    #: Threads that serve it; and the calls with a place that none has taken yet, each with when it got it.
    threads: int = 0
    queue: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)
    look: asyncio.TimerHandle | None = None


class _Threads:
    """Daemon threads, which serve one lane until nothing waits there, and then any other."""

    def __init__(self, name: str) -> None:
        self._name = name
        #: Held while threads, or the queue of a lane, change.
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[tuple[_Lane, Callable[[], None]]]] = []

    def run(self, lane: _Lane, call: Callable[[], None]) -> None:
        """Runs a call, which must not raise: in a new thread of the lane where it has none, else after others.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            if lane.threads:
                lane.queue.append((monotonic(), call))
            else:
                self._begin(lane, call)

    def help(self, lane: _Lane) -> None:
        """Gives the lane one more thread, if its next call has waited for more than a moment and one can be started."""
        with self._lock:
            if lane.queue and monotonic() - lane.queue[0][0] >= _SHORT_S:
                with suppress(RuntimeError):
                    self._begin(lane, lane.queue[0][1])
                    lane.queue.popleft()

    def _begin(self, lane: _Lane, call: Callable[[], None]) -> None:
        if self._idle:
            calls = self._idle.pop()
        else:
            calls = SimpleQueue()
            threading.Thread(target=self._serve, args=(calls,), name=self._name, daemon=True).start()
        lane.threads += 1
        calls.put((lane, call))

    def _serve(self, calls: SimpleQueue[tuple[_Lane, Callable[[], None]]]) -> None:
        while True:
            try:
                self._serve_lane(calls, *calls.get(timeout=_IDLE_S))
            except Empty:
                with self._lock:
                    if calls in self._idle:
                        self._idle.remove(calls)
                        return

    def _serve_lane(
        self, calls: SimpleQueue[tuple[_Lane, Callable[[], None]]], lane: _Lane, call: Callable[[], None]
    ) -> None:
        while True:
            call()
            with self._lock:
                if not lane.queue:
                    lane.threads -= 1
                    self._idle.append(calls)
                    return
                _, call = lane.queue.popleft()


class Lanes:
    """Runs calls in threads, at most `in_each` at once for one lane and `in_all` for all; for one event loop."""

    def __init__(self, name: str, *, in_each: int, in_all: int, overdue_s: float) -> None:
        self._in_each = in_each
        self._in_all = in_all
        self._overdue_s = overdue_s
        self._lanes: dict[str, _Lane] = {}
        self._running = 0
        self._threads = _Threads(name)
        self._ended: deque[Callable[[], None]] = deque()
        #: The loop is about to look at what has ended.
        self._woken = False

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
            self._returned(loop, ended)

        lane.began_s[done] = monotonic()
        self._running += 1
        if self._running > self._in_all:
            self._free(name, lane, done)
            raise OSError(errno.ENOMEM, f"{self._in_all} threads have not returned")
        try:
            self._threads.run(lane, work)
        except RuntimeError:
            self._free(name, lane, done)
            raise OSError(errno.ENOMEM, "no thread can be started") from None
        self._look_at(lane)
        return done

    def _look_at(self, lane: _Lane) -> None:
        """Looks after a moment whether what waits needs another thread, for as long as anything waits."""
        if lane.queue and lane.look is None:
            lane.look = asyncio.get_running_loop().call_later(_SHORT_S, self._look, lane)

    def _look(self, lane: _Lane) -> None:
        lane.look = None
        self._threads.help(lane)
        self._look_at(lane)

    def _returned(self, loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
        self._ended.append(ended)
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        """Gives the outcomes so far to those who wait: calls that return together wake the loop once."""
        self._woken = False
        while self._ended:
            self._ended.popleft()()

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
