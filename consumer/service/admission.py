"""Admission: a record is not processed while the circuit breaker is open.

A record that waits here counts as in flight and holds nothing else. When the service stops, it gets no outcome: its
offset stays uncommitted, and it is read again.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from consumer.kafka.headers import Delivery
from consumer.service.breaker import Breaker, BreakerLimits, State, evidence
from consumer.telemetry import Log, Metrics, Outcome

#: A timer of the loop may fire a clock tick early, when the breaker would still refuse.
_LATE_S: Final = 0.01

Handle = Callable[[Delivery], Awaitable[Outcome]]


class Admission:
    """Gate in front of the pipeline; one per event loop.

    While the breaker is open, the event `suspended` is set, so that the sources deliver nothing.
    """

    def __init__(
        self,
        handle: Handle,
        limits: BreakerLimits,
        *,
        suspended: threading.Event,
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._handle = handle
        self._limits = limits
        self._breaker = Breaker(limits)
        self._known: State = "closed"
        self._closing = False
        self._changed = asyncio.Event()
        self._pulse: asyncio.TimerHandle | None = None
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
        self._closing = True
        self._wake()

    async def handle(self, delivery: Delivery) -> None:
        """Processes a record as soon as the breaker admits it."""
        permit = await self._enter(delivery)
        if permit is None:
            return
        outcome: Outcome | None = None
        try:
            outcome = await self._handle(delivery)
        finally:
            self._breaker.note(permit, dead=evidence(outcome, delivery.wait.rejected), now_s=monotonic())
            self._follow()

    async def _enter(self, delivery: Delivery) -> int | None:
        while not self._closing:
            permit = self._breaker.admit(monotonic())
            self._follow()
            if permit is not None:
                return permit
            delivery.wait.what = "the breaker"
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
            self._tick_after(self._limits.cool_down_s)
            if before == "half_open":
                self._log.warning("breaker.probed", good=0, next_s=self._limits.cool_down_s)
            else:
                self._report_opened()
        elif self._known == "half_open":
            self._suspended.clear()
            self._tick_after(self._limits.settle_s)
        else:
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

    def _tick_after(self, wait_s: float) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        self._pulse = asyncio.get_running_loop().call_later(wait_s + _LATE_S, self._tick)

    def _tick(self) -> None:
        """The cool-down is over, or a half-open round may have to be decided."""
        before = self._known
        self._breaker.tick(monotonic())
        self._follow()
        if self._known == before != "closed":
            self._tick_after(self._limits.settle_s)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
