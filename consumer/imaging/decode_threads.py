"""The threads that decode: each takes the next photo by itself, and wakes the event loop for some of them at once.

To wake the loop for each photo, and a thread for the next one, costs more than a small photo's decode: threads wait for
the interpreter, and find their caches full of what others do.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

#: So many outcomes wake the loop. Fewer do where the threads would soon have nothing to do.
_TOGETHER: Final = 4
#: How often, while anything is decoded, the loop looks by itself: a slow decode must not hold up outcomes before it.
_LOOK_S: Final = 0.02


class Overdue(Exception):
    """The time limit has passed since the work began; it still runs."""


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    work: Callable[[], T] | None
    ended: Callable[[], None]
    done: asyncio.Future[T]
    began_s: float | None = None
    has_ended: bool = False
    overdue: bool = False


class DecodeThreads(Generic[T]):
    """So many daemon threads, for one event loop; work is begun in the order of its start."""

    def __init__(self, count: int, timeout_s: float) -> None:
        self._count = count
        self._timeout_s = timeout_s
        self._queue: SimpleQueue[_Job[T] | None] = SimpleQueue()
        self._threads = 0
        #: What was started and has not ended as far as the loop knows.
        self._jobs: set[_Job[T]] = set()
        #: Jobs that have ended, each with its result or its failure.
        self._outcomes: deque[tuple[_Job[T], Any, BaseException | None]] = deque()
        #: Held while a job ends, or is found overdue.
        self._lock = threading.Lock()
        self._woken = False
        self._look: asyncio.TimerHandle | None = None

    @property
    def overdue(self) -> int:
        """How many run on after their time limit: a thread cannot be stopped, a process can."""
        return sum(job.overdue for job in self._jobs)

    def start(self, work: Callable[[], T], ended: Callable[[], None]) -> asyncio.Future[T]:
        """The result of `work`, what it raises, or `Overdue`. `ended` is called in the loop once it does not run.

        What was given up before it begins is not begun.

        Raises:
            RuntimeError: there is no thread, and none can be started.
        """
        loop = asyncio.get_running_loop()
        if self._threads < self._count:
            try:
                self._add_thread()
            except RuntimeError:
                if not self._threads:
                    raise
        job = _Job(work, ended, loop.create_future())
        self._jobs.add(job)
        self._queue.put(job)
        if self._look is None:
            self._look = loop.call_later(_LOOK_S, self._look_at_all)
        return job.done

    def close(self) -> None:
        """Gives up what has not begun; what runs goes on, and its outcome is nobody's."""
        for job in self._jobs:
            job.done.cancel()
        for _ in range(self._threads):
            self._queue.put(None)
        if self._look is not None:
            self._look.cancel()

    def _add_thread(self) -> None:
        threading.Thread(target=self._serve, name=f"decode_{self._threads}", daemon=True).start()
        self._threads += 1

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            self._run(job)
            if job.overdue:  # another thread has its place
                return
            del job  # a failure holds the photo

    def _run(self, job: _Job[T]) -> None:
        result, failure = None, None
        if not job.done.cancelled() and job.work is not None:
            job.began_s = monotonic()
            result, failure = _tried(job.work)
        job.work = None
        with self._lock:
            job.has_ended = True
        self._outcomes.append((job, result, failure))
        if not self._woken and (len(self._outcomes) >= _TOGETHER or self._queue.qsize() < self._count):
            self._woken = True
            with suppress(RuntimeError):  # the loop has ended
                job.done.get_loop().call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        self._woken = False
        while self._outcomes:
            job, result, failure = self._outcomes.popleft()
            self._jobs.discard(job)
            job.ended()
            if job.done.done():  # given up, or overdue
                continue
            if failure is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(failure)

    def _look_at_all(self) -> None:
        self._hand_out()
        latest_s = monotonic() - self._timeout_s
        for job in self._jobs:
            if job.began_s is not None and job.began_s <= latest_s and not job.overdue:
                self._give_up(job)
        self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_at_all) if self._jobs else None

    def _give_up(self, job: _Job[T]) -> None:
        """Leaves its thread to a job that is overdue, and continues with another, so that no other photo waits."""
        with self._lock:
            if job.has_ended:
                return
            job.overdue = True
        self._threads -= 1
        with suppress(RuntimeError):  # the next start tries again
            self._add_thread()
        if not job.done.done():
            job.done.set_exception(Overdue())


def _tried(work: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """The result or the failure; a frame of its own, since the failure keeps it and must keep nothing else."""
    try:
        return work(), None
    except BaseException as failure:  # noqa: BLE001 - for the waiter
        return None, failure
