"""Questions of pages to Kafka, Redis and Triton: each is asked once at a time, answered soon or not waited for.

A page that is opened by a hundred people asks its question once, and its answer is kept for a moment. What takes longer
than a page may wait goes on in its thread: who asks again joins it.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar, cast

from consumer.errors import DependencyDown, TaggerError

T = TypeVar("T")

#: Answers that are kept, of all questions together: that of a run has pictures.
_MOST_KEPT: Final = 32
#: Questions at once; each may wait for its turn in vain.
_MOST_ASKED: Final = 64
DEADLINE_S: Final = 6.0


class NotYet(TaggerError):
    """A question has no answer yet; it is still being worked on, or waits for its turn."""


class Asker:
    """Asks `places` questions at most at once, blocking ones in threads of its own. For one event loop."""

    def __init__(self, places: int = 8) -> None:
        self._places = asyncio.Semaphore(places)
        self._flights: dict[Hashable, asyncio.Task[object]] = {}
        self._kept: OrderedDict[Hashable, tuple[float, object]] = OrderedDict()

    async def ask(
        self, key: Hashable, job: Callable[[], T], *, keep_s: float = 1.0, deadline_s: float | None = None
    ) -> T:
        """As `share`, of a blocking job, which gets a thread.

        Raises:
            NotYet: as `share`.
        """
        return await self.share(key, partial(in_thread, job), keep_s=keep_s, deadline_s=deadline_s)

    async def share(
        self, key: Hashable, job: Callable[[], Awaitable[T]], *, keep_s: float = 1.0, deadline_s: float | None = None
    ) -> T:
        """The answer of a job, which may be up to `keep_s` old; `key` names the question. Raises what the job raises.

        Raises:
            NotYet: there is none within `deadline_s`, and the job goes on; or too many are asked.
        """
        now_s = asyncio.get_running_loop().time()
        if key in self._kept and self._kept[key][0] > now_s:
            return cast("T", self._kept[key][1])
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= _MOST_ASKED:
                raise NotYet("too many questions wait for an answer; try again in a moment")
            flight = self._flights[key] = asyncio.create_task(self._fly(key, job, keep_s))
            # Who asked may have gone before it fails.
            flight.add_done_callback(_look_at_failure)
        wait_s = DEADLINE_S if deadline_s is None else deadline_s
        try:
            async with asyncio.timeout(wait_s):
                return cast("T", await asyncio.shield(flight))
        except TimeoutError:
            raise NotYet(f"no answer in {wait_s:g} s; it is still being worked on") from None

    def forget(self, key: Hashable) -> None:
        """Drops what is kept of a question that has another answer now."""
        self._kept.pop(key, None)

    async def aclose(self) -> None:
        """Waits for nobody: threads that are within a call end with the process."""
        for flight in self._flights.values():
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)

    async def _fly(self, key: Hashable, job: Callable[[], Awaitable[T]], keep_s: float) -> T:
        try:
            async with self._places:
                answer = await job()
            self._kept[key] = asyncio.get_running_loop().time() + keep_s, answer
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return answer
        finally:
            del self._flights[key]


async def in_thread(job: Callable[[], T]) -> T:
    """The result of a job in a thread that the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, failure: BaseException | None) -> None:
        if done.done():
            return
        if failure is None:
            done.set_result(cast("T", result))
        else:
            done.set_exception(failure)

    def run() -> None:
        result, failure = None, None
        try:
            result = job()
        except BaseException as error:  # noqa: BLE001 - it is raised where the job was asked for
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="page", daemon=True).start()
    return await done


def _look_at_failure(flight: asyncio.Task[object]) -> None:
    if not flight.cancelled():
        flight.exception()


def in_words(failure: TaggerError) -> str:
    """What a page says where a part of it has no answer."""
    if isinstance(failure, DependencyDown):
        return f"{failure.dependency.capitalize()} does not answer: {failure.detail}"
    return str(failure)
