"""Retries with backoff: without limit for a dependency, within a budget for a photo."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from consumer.errors import Dependency, DependencyDown, Retryable
from consumer.events import Record, Source
from consumer.telemetry import Log, Metrics

T = TypeVar("T")
U = TypeVar("U")

_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 2.0
_REMIND_S: Final = 10.0
#: Most characters of a failure that a state shows: it may quote an answer of a server.
_SHOWN: Final = 300

_RETRY_WAIT_S: Final = 0.2
_RETRY_WAIT_MAX_S: Final = 5.0
_RETRY_BUDGET_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Deferral:
    """Why and until when a record waits in the retry topic; `attempt` counts all attempts, `round` the waits.

    `by` is the `traceparent` of the span that deferred it, where traces are on.
    """

    reason: str
    detail: str
    attempt: int
    round: int
    not_before: datetime
    origin: Source
    by: str = ""


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """How often a record may wait in the retry topic, and for how long; the last delay is for all further rounds.

    A delay is extended by up to a tenth by `jitter` in 0..1.
    """

    rounds: int
    delays_s: tuple[float, ...]

    def next_after(self, before: Deferral | None, now: datetime, jitter: float) -> tuple[int, datetime] | None:
        """Round (from 1) and time of the next attempt; None after the last round."""
        number = 1 if before is None else before.round + 1
        return None if number > self.rounds else (number, self._time(number, now, jitter))

    def again(self, before: Deferral | None, now: datetime, jitter: float) -> tuple[int, datetime]:
        """Round and time of the next attempt after a wait that uses up no round."""
        number = 0 if before is None else before.round
        return number, self._time(max(number, 1), now, jitter)

    def _time(self, number: int, now: datetime, jitter: float) -> datetime:
        delay_s = self.delays_s[min(number, len(self.delays_s)) - 1]
        return now + timedelta(seconds=delay_s * (1 + jitter / 10))


@dataclass(frozen=True, slots=True)
class _Need:
    """A dependency, or a part of it that may be missing alone."""

    dependency: Dependency
    part: str = ""

    def __str__(self) -> str:
        return f"{self.dependency} ({self.part})" if self.part else self.dependency

    def is_part(self) -> bool:
        return bool(self.part)


class Dependencies:
    """Which dependencies are down, and calls that wait for them; logs each loss, reminders and the recovery.

    Many calls are in flight at the edges of an outage: a success of a call that began before the loss is not its end,
    and a failure of one that began before the recovery is not a new loss. A part of a dependency, such as one topic, is
    lost for as long as a call waits for it: that others succeed, which do without it, does not mean that it is back.
    """

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._lost_s: dict[_Need, float] = {}
        self._details: dict[_Need, str] = {}
        self._reminded_s: dict[_Need, float] = {}
        self._recovered_s: dict[_Need, float] = {}
        #: Calls that failed and will be made again.
        self._waiting: Counter[_Need] = Counter()

    @property
    def lost(self) -> tuple[str, ...]:
        """The dependencies that are down, and what else is missing of one, as in `kafka (topic photo-tags)`."""
        return tuple(map(str, self._lost_s))

    @property
    def stop_every_photo(self) -> bool:
        """Whether something is down that every photo needs: anything but a photo host."""
        return any(need.dependency != "photos" for need in self._lost_s)

    @property
    def losses(self) -> tuple[str, ...]:
        """The dependencies that are down, each with its last failure: `triton: host:8001: UNAVAILABLE: ...`."""
        return tuple(f"{need}: {self._details[need][:_SHOWN]}" for need in self._lost_s)

    async def retry_until_available(
        self,
        dependency: Dependency,
        call: Callable[[], Awaitable[T]],
        waits: Callable[[], bool] = lambda: True,
    ) -> T:
        """The result of `call`, repeated with backoff and jitter while the dependency is down.

        Raises:
            DependencyDown: it is down and `waits` returns false.
        """
        wait_s, needs = _FIRST_WAIT_S, set[_Need]()
        try:
            while True:
                began_s = monotonic()
                try:
                    result = await call()
                except DependencyDown as error:
                    if not waits():
                        raise
                    need = _Need(error.dependency, error.part)
                    self._note_loss(need, error.detail, began_s)
                    self._waiting[need] += need not in needs
                    needs.add(need)
                else:
                    # Of each photo five calls come here, and nearly never is anything lost.
                    recovered = (_Need(dependency), *filter(_Need.is_part, needs)) if self._lost_s else ()
                    for need in recovered:
                        self._note_recovery(need, began_s)
                    return result
                # Jitter, so that the photos in flight do not all call a server at once that just came back.
                await asyncio.sleep(wait_s * (0.5 + random.random() / 2))  # noqa: S311 - jitter is not cryptography
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        finally:
            # Given up, as at a stop: if others wait for a part, they will say so again.
            for need in needs:
                self._waiting[need] -= 1
                if need.part:
                    self._forget(need)

    async def probe(self, dependency: Dependency, ping: Callable[[], Awaitable[object]]) -> None:
        """Asks a server whether it answers; that it does ends no loss whose end a call waits for: that asks more."""
        need, began_s = _Need(dependency), monotonic()
        try:
            await ping()
        except DependencyDown as down:
            self._note_loss(need, down.detail, began_s)
        else:
            if not self._waiting[need]:
                self._note_recovery(need, began_s)

    def _note_loss(self, need: _Need, detail: str, began_s: float) -> None:
        if began_s < self._recovered_s.get(need, 0.0):
            return
        now = monotonic()
        self._lost_s.setdefault(need, now)
        self._details[need] = detail
        if now - self._reminded_s.get(need, -_REMIND_S) >= _REMIND_S:
            self._reminded_s[need] = now
            self._metrics.dependency_up.labels(need.dependency).set(0)
            self._log.warning(
                "dependency.lost",
                dependency=need.dependency,
                detail=detail,
                waited_s=round(now - self._lost_s[need], 1),
            )

    def _note_recovery(self, need: _Need, began_s: float) -> None:
        since_s = self._lost_s.get(need)
        if since_s is None or began_s < since_s:
            return
        now = self._recovered_s[need] = monotonic()
        self._forget(need)
        more = {"part": need.part} if need.part else {}
        waited_s = round(now - since_s, 1)
        self._log.info("dependency.recovered", dependency=need.dependency, **more, waited_s=waited_s)

    def _forget(self, need: _Need) -> None:
        """A dependency, or a part of it, is not lost any more, or nobody waits for it."""
        self._reminded_s.pop(need, None)
        self._details.pop(need, None)
        if self._lost_s.pop(need, None) is not None:
            left = {each.dependency for each in self._lost_s}
            self._metrics.dependency_up.labels(need.dependency).set(need.dependency not in left)


class StuckRecords:
    """The records that have no outcome because Kafka refuses even their dead letters. One for a service."""

    def __init__(self, metrics: Metrics) -> None:
        self._reasons: dict[tuple[str, int, int], str] = {}
        metrics.stuck.set_function(lambda: len(self._reasons))

    def note(self, record: Record, why: str) -> None:
        """A record is stuck until `forget`; the reason that was told last is shown."""
        self._reasons[_coordinates(record)] = why

    def forget(self, record: Record) -> None:
        """A record is stuck no more, if it was."""
        self._reasons.pop(_coordinates(record), None)

    @property
    def complaint(self) -> str | None:
        """How many are stuck, where the first of them is, and why; None where none is."""
        if not self._reasons:
            return None
        (topic, partition, offset), why = next(iter(self._reasons.items()))
        count = f"{len(self._reasons)} records have" if len(self._reasons) > 1 else "a record has"
        return f"stuck: {count} no place in the dead-letter topic, {topic}[{partition}] offset {offset}: {why[:_SHOWN]}"


def _coordinates(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


class RetryingCaller:
    """Repeats a step after `Retryable`, with exponential backoff and jitter, then raises the last failure.

    Where a host asks for a wait (Retry-After) of more than 5 s, the failure is raised at once. The budget of time
    begins with the first failure.
    """

    def __init__(self, attempts: int) -> None:
        self._caller = stamina.AsyncRetryingCaller(
            attempts=attempts, timeout=_RETRY_BUDGET_S, wait_initial=_RETRY_WAIT_S, wait_max=_RETRY_WAIT_MAX_S
        ).on(_again)

    async def __call__(self, step: Callable[[U], Awaitable[T]], value: U) -> T:
        """The result of the step."""
        # Nearly every step succeeds at once, and stamina's loop costs 0.05 ms: it begins with the first failure.
        try:
            return await step(value)
        except Retryable as failure:
            first = [failure]

        async def attempt() -> T:
            if first:
                raise first.pop()
            return await step(value)

        return await self._caller(attempt)


def retry_within_budget(attempts: int, log: Log, metrics: Metrics) -> RetryingCaller:
    """The caller for steps of a photo; it logs and counts each repetition."""

    def on_retry(details: RetryDetails) -> None:
        cause = details.caused_by
        if isinstance(cause, Retryable):
            metrics.retries.labels(cause.reason).inc()
            log.info(
                "photo.retried",
                reason=cause.reason,
                detail=cause.detail,
                attempt=details.retry_num,
                wait_s=round(details.wait_for, 3),
            )

    # stamina's own hook logs the arguments, and a URI may hold a signature.
    set_on_retry_hooks([on_retry])
    return RetryingCaller(attempts)


def _again(error: Exception) -> bool | float:
    """Whether to try again in place; after how many seconds, where the host asked for a short wait."""
    if not isinstance(error, Retryable):
        return False
    if error.retry_after_s is None:
        return True
    return max(error.retry_after_s, _RETRY_WAIT_S) if error.retry_after_s <= _RETRY_WAIT_MAX_S else False
