"""When a record that was read may be worked on: not before its time, and not while the breaker is open.

A record that waits here holds a place in its window and nothing else. At the stop it is let go without an outcome: its
offset stays uncommitted, and the next run takes it up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from consumer.kafka.backpressure import Valve
from consumer.kafka.headers import Delivery
from consumer.service.breaker import Breaker, BreakerLimits, State
from consumer.telemetry import Log, Metrics, Outcome

#: A timer of the loop may fire a clock tick before its time, when the breaker would still say no.
_LATE_S: Final = 0.01

Handle = Callable[[Delivery], Awaitable[Outcome]]


class Admission:
    """Gate in front of the pipeline; one per event loop.

    While the breaker is open, `valve` keeps the sources from delivering. `max_retries` records of the retry topic are
    worked on at once: what was late already must not crowd out what is new.
    """

    def __init__(
        self, handle: Handle, limits: BreakerLimits, *, valve: Valve, max_retries: int, log: Log, metrics: Metrics
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
        self._valve = valve

    @property
    def complaint(self) -> str | None:
        """Why photos are not taken in; None while they are."""
        dead, total = self._breaker.seen
        return None if self._known == "closed" else f"breaker: {dead} of {total} photos became dead letters"

    def close(self) -> None:
        """Lets go of every record that waits, and of those that still come."""
        self._closing.set()
        self._wake()

    async def handle(self, delivery: Delivery) -> None:
        """Works on a record as soon as the breaker lets it pass."""
        pass_ = await self._enter()
        if pass_ is None:
            return
        outcome: Outcome | None = None
        try:
            outcome = await self._handle(delivery)
        finally:
            dead = None if outcome is None or outcome == "deferred" else outcome == "dead_lettered"
            self._breaker.note(pass_, dead=dead, now_s=monotonic())
            self._follow()

    async def handle_when_due(self, delivery: Delivery) -> None:
        """Works on a record of the retry topic, not before its time; one that moved on meanwhile is its new owner's."""
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
            pass_ = self._breaker.admit(monotonic())
            self._follow()
            if pass_ is not None:
                return pass_
            await self._changed.wait()
        return None

    def _follow(self) -> None:
        """Acts on what the breaker has become."""
        before, self._known = self._known, self._breaker.state
        if self._known == "half_open" and before == "half_open":
            # A probe said nothing, and its place may be free again.
            self._wake()
        if before == self._known:
            return
        if self._known == "open":
            self._valve.close()
            asyncio.get_running_loop().call_later(self._limits.cool_down_s + _LATE_S, self._probe)
            self._report(reopened=before == "half_open")
        elif self._known == "closed":
            self._metrics.breaker_open.set(0)
            self._log.info("breaker.closed")
        self._wake()

    def _report(self, *, reopened: bool) -> None:
        dead, total = self._breaker.seen
        if reopened:
            self._log.warning("breaker.probed", good=0, next_s=self._limits.cool_down_s)
            return
        self._metrics.breaker_open.set(1)
        self._log.error(
            "breaker.opened",
            dead_letters=dead,
            photos=total,
            window_s=self._limits.window_s,
            next_s=self._limits.cool_down_s,
        )

    def _probe(self) -> None:
        """The cool-down is over: records flow again, up to the few that the breaker lets pass."""
        self._valve.open()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
