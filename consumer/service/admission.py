"""Admission: a record is not processed before its time, nor while the circuit breaker is open.

A record that waits here counts as in flight and holds nothing else. When the service stops, it gets no outcome: its
offset stays uncommitted, and it is read again.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from consumer.kafka.headers import Delivery
from consumer.service.breaker import Breaker, BreakerLimits, State
from consumer.telemetry import Log, Metrics, Outcome

#: A timer of the loop may fire a clock tick early, when the breaker would still refuse.
_LATE_S: Final = 0.01

Handle = Callable[[Delivery], Awaitable[Outcome]]


class Admission:
    """Gate in front of the pipeline; one per event loop.

    While the breaker is open, the event `suspended` is set, so that the sources deliver nothing. At most `max_retries`
    records of the retry topic are processed at once, so that they leave room for new ones.
    """

    def __init__(
        self,
        handle: Handle,
        limits: BreakerLimits,
        *,
        suspended: threading.Event,
        max_retries: int,
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._handle = handle
        self._limits = limits
        self._breaker = Breaker(limits)
        self._known: State = "closed"
        self._retries = asyncio.Semaphore(max_retries)
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()
        self._log = log
        self._metrics = metrics
        self._suspended = suspended

    @property
    def complaint(self) -> str | None:
        """Why no records are processed; None while they are."""
        dead, total = self._breaker.seen
        return None if self._known == "closed" else f"breaker: {dead} of {total} photos became dead letters"

    def close(self) -> None:
        """Drops every record that waits or still arrives, without an outcome."""
        self._closing.set()
        self._wake()

    async def handle(self, delivery: Delivery) -> None:
        """Processes a record as soon as the breaker admits it."""
        permit = await self._enter()
        if permit is None:
            return
        outcome: Outcome | None = None
        try:
            outcome = await self._handle(delivery)
        finally:
            dead = None if outcome in {None, "deferred", "skipped"} else outcome == "dead_lettered"
            self._breaker.note(permit, dead=dead, now_s=monotonic())
            self._follow()

    async def handle_when_due(self, delivery: Delivery) -> None:
        """Processes a record of the retry topic, not before its time, unless its partition was revoked meanwhile."""
        await self._until_due(delivery)
        async with self._retries:
            if not self._closing.is_set() and delivery.is_ours():
                await self.handle(delivery)

    async def _until_due(self, delivery: Delivery) -> None:
        if delivery.deferral is None:
            return
        while (left_s := (delivery.deferral.not_before - datetime.now(UTC)).total_seconds()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), left_s)
            if self._closing.is_set():
                return

    async def _enter(self) -> int | None:
        while not self._closing.is_set():
            permit = self._breaker.admit(monotonic())
            self._follow()
            if permit is not None:
                return permit
            await self._changed.wait()
        return None

    def _follow(self) -> None:
        """Acts on a change of the breaker's state."""
        before, self._known = self._known, self._breaker.state
        if self._known == "half_open" and before == "half_open":
            # A probe may have ended without an answer, so that another record may be admitted.
            self._wake()
        if before == self._known:
            return
        if self._known == "open":
            self._suspended.set()
            asyncio.get_running_loop().call_later(self._limits.cool_down_s + _LATE_S, self._probe)
            if before == "half_open":
                self._log.warning("breaker.probed", good=0, next_s=self._limits.cool_down_s)
            else:
                self._report_opened()
        elif self._known == "closed":
            self._metrics.breaker_open.set(0)
            self._log.info("breaker.closed")
        self._wake()

    def _report_opened(self) -> None:
        self._metrics.breaker_open.set(1)
        dead, total = self._breaker.seen
        limits = self._limits
        self._log.error(
            "breaker.opened", dead_letters=dead, photos=total, window_s=limits.window_s, next_s=limits.cool_down_s
        )

    def _probe(self) -> None:
        """The cool-down is over: records are delivered again, and the breaker admits a few."""
        self._suspended.clear()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
