"""The photo of an event, from a host that may be down or silent: what that means for this photo and for others.

What counts as down is decided in `host_health.py`, how many photos may wait for a silent host in `crowd.py`.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable
from consumer.events import Photo, PhotoUploaded
from consumer.fetch.crowd import Crowd
from consumer.fetch.host_health import Fetch, HostHealth
from consumer.fetch.host_table import Host
from consumer.fetch.limits import HostLimits
from consumer.fetch.trail import Trail, following
from consumer.fetch.urls import origin_of
from consumer.resilience import RetryingCaller
from consumer.telemetry import Log, Metrics

#: Rejected before any request to the host.
_NOT_ASKED: Final = frozenset({"url_not_allowed", "address_not_allowed"})


class _Enough(Exception):
    """A failure after which another attempt in place would only hold the place; for its host, which `down` says."""

    def __init__(self, failure: Retryable, *, down: bool) -> None:
        self.failure = failure
        self.down = down


class _Visit(Trail):
    """The way of one photo: counts it among those that wait for the host that it is at."""

    def __init__(self, health: HostHealth, name: str) -> None:
        super().__init__()
        self._health = health
        self._at: Host | None = None
        self._paused_at: Host | None = None
        self._clock = asyncio.timeout(None)
        #: The origin of the photo's URI.
        self.name = name

    def within(self) -> asyncio.Timeout:
        """A context that raises TimeoutError once this photo has to give way to others."""
        return self._clock

    def give_way(self) -> None:
        """See `Guest`."""
        self._clock.reschedule(asyncio.get_running_loop().time())

    def answers(self) -> None:
        """See `Trail`."""
        if self._at is not None:
            self._at.room.took(self)
        super().answers()

    async def asks(self, origin: str, through: tuple[str, ...] = ()) -> None:
        """Moves on to this origin.

        Raises:
            PhotoHostDown: it does not answer, and enough photos wait for it.
        """
        if (host := self._health.hosts[origin]) is not self._at:
            self.leave()
            await self._admit(origin, host)
            self._at = host
        await super().asks(origin, through)

    async def pauses(self, size: int) -> None:
        """Waits for something else than the host, which has answered so far.

        Raises:
            PhotoHostDown: it never ends its answers, and holds enough bytes.
        """
        self.relayed()
        host = self._at
        if host is not None:
            host.room.took(self)
        if host is not None and not await self._health.crowd.may_read(host.room, self, size):
            self._health.hosts[self.name].waits_for = self.asking
            raise PhotoHostDown("fetch_timeout", f"{self.asking} does not end its answers, and holds enough bytes")
        self.leave(reading=True)
        self._paused_at = host

    def reads(self) -> None:
        """Waits for the host again."""
        self._at = self._paused_at
        if self._at is not None:
            self._health.crowd.join(self._at.room, self)

    def leave(self, *, reading: bool = False) -> None:
        """Waits for no host any more; its bytes are still counted while it is `reading`."""
        for host in (self._at, self._paused_at):
            if host is not None and not reading:
                self._health.crowd.forget_size(host.room, self)
        if self._at is not None:
            self._health.crowd.leave(self._at.room, self)
            self._at = None

    async def _admit(self, name: str, host: Host) -> None:
        others_answer = partial(self._health.others_answer, name)
        if not await self._health.crowd.enter(host.room, self, others_answer=others_answer):
            self._health.hosts[self.name].waits_for = name
            raise PhotoHostDown("fetch_timeout", f"{name} does not answer, and enough photos wait for it")

    async def attempt(self, step: Fetch, event: PhotoUploaded) -> Photo:
        """One attempt, after which every origin on the way has its due.

        Raises:
            PhotoRejected: as the step.
            Retryable: as the step.
            _Enough: another attempt in place would only hold the place.
        """
        self.answered.clear()
        try:
            photo = await step(event)
        except PhotoRejected as rejected:
            if rejected.reason not in _NOT_ASKED:
                self._health.ended(self.asking or self.name)
            self._health.answered(*self.answered)
            raise
        except Retryable as failure:
            if self._at is not None:
                self._health.crowd.failed(self._at.room, self)
            suspects = () if failure.origin is None else self.suspects(failure.origin)
            self._health.answered(*(name for name in self.answered if name not in suspects))
            if (down := self._health.any_down(suspects)) or self._health.is_hopeless(failure):
                raise _Enough(failure, down=down) from None
            raise
        self._health.served(event, self.answered or [self.name], self.ways)
        return photo


class Hosts:
    """The photo hosts that this process uses; for one event loop. `places` and `max_bytes` bound what is in flight."""

    def __init__(
        self,
        fetch: Fetch,
        log: Log,
        metrics: Metrics,
        limits: HostLimits | None = None,
        *,
        places: int = 64,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self._limits = limits or HostLimits()
        self._health = HostHealth(fetch, log, metrics, self._limits, Crowd(places, self._limits, max_bytes))
        self._hosts = self._health.hosts

    async def fetch(self, event: PhotoUploaded, attempt: Fetch, retry: RetryingCaller) -> Photo:
        """The photo, with attempts within the budget of `retry`; with a single one while its host is down.

        Raises:
            PhotoHostDown: a host on its way is down, whatever the photo is, or is silent and enough photos wait for it.
            PhotoRejected: as the fetch.
            Retryable: as the fetch; no host is the cause, or none that is known to work.
        """
        photo = await self._fetch(event, attempt, retry)
        if photo is None:
            # Cut short for a host that came back meanwhile: what happened says nothing about the photo yet.
            photo = await self._fetch(event, attempt, retry)
        if photo is None:
            raise PhotoHostDown("connect_failed", f"{origin_of(event.uri)} comes and goes")
        return photo

    async def _fetch(self, event: PhotoUploaded, attempt: Fetch, retry: RetryingCaller) -> Photo | None:
        """As `fetch`; None where the photo had a single attempt since a host was down, and it answers by now.

        Raises:
            PhotoHostDown: as `fetch`.
            PhotoRejected: as `fetch`.
            Retryable: as `fetch`.
        """
        visit, down = _Visit(self._health, origin_of(event.uri)), False
        try:
            with following(visit):
                async with visit.within():
                    return await retry(partial(visit.attempt, attempt), event)
        except TimeoutError:
            failure = self._sent_away(visit)
        except Retryable as spent:
            failure = spent
        except _Enough as enough:
            failure, down = enough.failure, enough.down
        finally:
            visit.leave()
        for suspect in () if failure.origin is None else visit.suspects(failure.origin):
            if await self._health.down_after(suspect, event, failure, reached=visit.reached):
                self._hosts[visit.name].waits_for = suspect
                raise PhotoHostDown(failure.reason, failure.detail) from None
        if down:
            return None
        raise failure from None

    def _sent_away(self, visit: _Visit) -> Retryable:
        """What it means that a photo gave way to others: nothing for the photo while other hosts answer.

        Raises:
            PhotoHostDown: other hosts answer, or its host never did.
        """
        cause = visit.asking or visit.name
        detail = f"{cause} is late for too many photos"
        if self._hosts[cause].answered_s is None or self._health.others_answer(cause):
            self._hosts[visit.name].waits_for = cause
            raise PhotoHostDown("fetch_timeout", detail) from None
        return Retryable("fetch_timeout", detail, origin=cause)

    def patience(self, event: PhotoUploaded) -> Callable[[], bool]:
        """Whether this photo still waits for its host in place: not while other hosts answer, and not forever.

        Nor does it wait for a host that never answered, unless no host does: the photos behind it may be of others.
        """
        name, until_s = origin_of(event.uri), monotonic() + self._limits.max_wait_s

        def waits() -> bool:
            cause = self._hosts[name].waits_for or name
            host = self._hosts[cause]
            if host.answered_s is None and not self._health.is_down(host):
                return False
            return monotonic() < until_s and not self._health.others_answer(cause)

        return waits
