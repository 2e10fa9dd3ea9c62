"""How many photos of one model are with Triton at once, adapted to how fast it answers.

Triton computes what it has queued even after its client gave up (measured: of 40 requests that were cancelled or ran
out of time, 32 to 38 were computed). So a request that is asked again while it is queued doubles the work, and a
service that sends more than Triton can answer in time gets nothing done. Photos therefore wait here, not there. They
are counted one by one also where they share a request: eight in one take about as long as eight alone.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final

from consumer.budget import Budget, Permit
from consumer.errors import DependencyDown, TaggerError
from consumer.triton.failures import Overloaded

_FIRST: Final = 16
_LEAST: Final = 2
_MOST: Final = 4096
_DECREASE: Final = 0.7
#: An answer is slow only if it took so many times the fastest one: a large model is not a crowded one.
_CROWDED_RATIO: Final = 2.0
#: But one that took so many times `slow_s` is slow in any case: the fastest may have waited in a queue as well.
_MOST_SLOW: Final = 4.0
#: A job that yields keeps Triton's queue so short that no answer takes more than so many times the fastest one.
_YIELDING_RATIO: Final = 3.0
#: What it takes for the fastest grows by this with each answer: a lucky one, or a model that got slower, is forgotten.
_FORGETTING: Final = 1.002


@dataclass(slots=True)
class Limit:
    """Additive increase, multiplicative decrease; doubles per round trip until the first decrease. Pure.

    An answer that took longer than `slow_s`, and twice as long as the fastest one took, lowers `allowed`, once for all
    photos that were sent before. One that `yields` takes an answer for slow as soon as it took three times as long as
    the fastest one, whoever is ahead of it in the queue, and goes down to a single photo.
    """

    slow_s: float
    yields: bool = False
    allowed: float = _FIRST
    _fastest_s: float = inf
    _doubles: bool = True
    _lowered_s: float = -inf

    def answered(self, sent_s: float, now_s: float, *, in_use: bool) -> None:
        """An answer came; `in_use` says whether all that is allowed was sent."""
        took_s = now_s - sent_s
        self._fastest_s = min(self._fastest_s * (_FORGETTING if self.yields else 1), took_s)
        if took_s > self._bound_s():
            self.crowded(sent_s, now_s)
        elif in_use:
            self.allowed = min(self.allowed + (1 if self._doubles else 1 / self.allowed), _MOST)

    def _bound_s(self) -> float:
        """The time after which an answer is slow."""
        if self.yields:
            return min(_YIELDING_RATIO * self._fastest_s, self.slow_s)
        return max(self.slow_s, min(_CROWDED_RATIO * self._fastest_s, _MOST_SLOW * self.slow_s))

    def crowded(self, sent_s: float, now_s: float) -> None:
        """A photo was refused for lack of room, or was answered late or never."""
        self._doubles = False
        if sent_s >= self._lowered_s:
            self.allowed, self._lowered_s = max(self.allowed * _DECREASE, 1 if self.yields else _LEAST), now_s

    def lost(self) -> None:
        """The server went away: one that comes back is not met by everything at once."""
        self.allowed, self._doubles = min(self.allowed, _FIRST), True


class Concurrency:
    """The places for photos of one model, given in order of arrival. For one event loop."""

    def __init__(self, slow_s: float, *, yields: bool = False) -> None:
        self._limit = Limit(slow_s, yields)
        self._places = Budget(int(self._limit.allowed))
        self._sent = 0
        self._heard_s = 0.0

    @property
    def sent(self) -> int:
        """Photos that Triton has not answered, or that are about to be sent."""
        return self._sent

    @property
    def allowed(self) -> int:
        """The number of places."""
        return self._places.total

    @property
    def waiting(self) -> int:
        """Photos that wait for a place."""
        return self._places.waiting

    def silent_s(self) -> float:
        """For how long Triton has answered none of the photos that it has; 0 where it has none."""
        return monotonic() - self._heard_s if self._sent else 0.0

    def place(self) -> AbstractAsyncContextManager[None]:
        """A place for one photo, which is sent when the place is free; how the block ends adapts their number."""
        return _Stay(self, waits=True)

    def extra(self) -> AbstractAsyncContextManager[None]:
        """As `place`, for a photo that waits for no place: whether Triton answers must be seen when all are taken."""
        return _Stay(self, waits=False)

    async def _enter(self) -> Permit:
        return await self._places.acquire(1)

    def _begin(self) -> float:
        sent_s = monotonic()
        if not self._sent:
            self._heard_s = sent_s
        self._sent += 1
        return sent_s

    def _end(self, failure: BaseException | None, sent_s: float) -> None:
        if failure is None:
            self._heard_s = now_s = monotonic()
            self._limit.answered(sent_s, now_s, in_use=self._places.used >= self._places.total)
        elif isinstance(failure, TaggerError):
            self._note_failure(failure, sent_s)
        self._sent -= 1
        self._places.total = int(self._limit.allowed)

    def _note_failure(self, failure: TaggerError, sent_s: float) -> None:
        if isinstance(failure, Overloaded):
            self._limit.crowded(sent_s, monotonic())
        elif isinstance(failure, DependencyDown):
            self._limit.lost()
        else:
            # Of this photo, not of how much Triton has to do: so a photo takes no places from the others.
            self._heard_s = monotonic()


class _Stay(AbstractAsyncContextManager[None]):
    """One photo at Triton. Each photo has two: generators would cost three times as much."""

    __slots__ = ("_concurrency", "_permit", "_sent_s", "_waits")

    def __init__(self, concurrency: Concurrency, *, waits: bool) -> None:
        self._concurrency = concurrency
        self._waits = waits

    async def __aenter__(self) -> None:
        self._permit = await self._concurrency._enter() if self._waits else None  # noqa: SLF001 - one part
        self._sent_s = self._concurrency._begin()  # noqa: SLF001 - as above

    async def __aexit__(self, _: object, failure: BaseException | None, __: object) -> None:
        self._concurrency._end(failure, self._sent_s)  # noqa: SLF001 - as above
        if self._permit is not None:
            self._permit.release()
