"""Health of photo hosts: tells a host that is down from a single photo that cannot be fetched.

The first is an outage and is waited for; the second concerns that photo only, and must end. What no photo can cause is
an outage at once: a host that worked refuses connections or its name no longer resolves. Timeouts and 5xx may be due to
the photos, so a host that worked is probed with the last photo that it served. A host that never answered is taken for
a wrong name, unless no host has answered at all.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable
from consumer.events import Photo, PhotoUploaded
from consumer.fetch.limits import HostLimits
from consumer.fetch.urls import origin, parsed
from consumer.resilience import RetryingCaller
from consumer.telemetry import Log, Metrics

Fetch = Callable[[PhotoUploaded], Awaitable[Photo]]

#: Nothing about a photo makes its host unreachable.
_UNREACHABLE: Final = frozenset({"connect_failed", "dns_failed"})
#: Rejected before any request to the host.
_NOT_ASKED: Final = frozenset({"url_not_allowed", "address_not_allowed"})
#: Events can name any number of hosts: the least recently used is forgotten.
_MAX_HOSTS: Final = 1_024


@dataclass(slots=True)
class _Host:
    answered_s: float | None = None
    failing_s: float | None = None
    unreachable: bool = False
    photos: set[str] = field(default_factory=set)
    #: The last photo that it served; the probe requests it.
    good: PhotoUploaded | None = None
    silent: bool = False
    probed_s: float | None = None
    probe: asyncio.Future[None] | None = None
    reported: bool = False


class Hosts:
    """The health of the photo hosts that this process has used; for one event loop."""

    def __init__(self, fetch: Fetch, log: Log, metrics: Metrics, limits: HostLimits | None = None) -> None:
        self._fetch = fetch
        self._log = log
        self._metrics = metrics
        self._limits = limits or HostLimits()
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    async def fetch(self, event: PhotoUploaded, attempt: Fetch, retry: RetryingCaller) -> Photo:
        """The photo, with attempts within the budget of `retry`; with a single one while its host is down.

        Raises:
            PhotoHostDown: its host is down, whatever the photo is.
            PhotoRejected: as the fetch.
            Retryable: as the fetch; the host is not the cause, or not known to work.
        """
        name = origin(parsed(event.uri))
        try:
            photo = await (attempt(event) if self._is_down(self._known(name)) else retry(attempt, event))
        except PhotoRejected as rejected:
            if rejected.reason not in _NOT_ASKED:
                self._answered(name)
            raise
        except Retryable as failure:
            if failure.origin is None or not await self._down_after(failure.origin, event, failure):
                raise
            raise PhotoHostDown(failure.reason, failure.detail) from None
        # A probe requests the photo as it is then: without the event's checksum.
        self._answered(name, PhotoUploaded(event.photo_id, event.uri, event.uploaded_at))
        return photo

    def patience(self, event: PhotoUploaded) -> Callable[[], bool]:
        """Whether this photo still waits for its host in place: not while other hosts answer, and not forever."""
        name, until_s = origin(parsed(event.uri)), monotonic() + self._limits.max_wait_s
        return lambda: monotonic() < until_s and not self._others_answer(name)

    def _known(self, name: str) -> _Host:
        host = self._hosts.setdefault(name, _Host())
        self._hosts.move_to_end(name)
        if len(self._hosts) > _MAX_HOSTS:
            _, forgotten = self._hosts.popitem(last=False)
            if forgotten.reported:
                self._metrics.hosts_down.dec()
        return host

    def _answered(self, name: str, good: PhotoUploaded | None = None) -> None:
        host = self._known(name)
        host.good = good or host.good
        host.answered_s = monotonic()
        host.failing_s, host.unreachable, host.silent = None, False, False
        host.photos.clear()
        if host.reported:
            host.reported = False
            self._metrics.hosts_down.dec()
            self._log.info("host.recovered", host=name)

    async def _down_after(self, name: str, event: PhotoUploaded, failure: Retryable) -> bool:
        """Records a failure; returns whether the host is down."""
        host = self._known(name)
        host.failing_s = host.failing_s or monotonic()
        host.unreachable = failure.reason in _UNREACHABLE
        if len(host.photos) < max(self._limits.failure_threshold, self._limits.startup_failure_threshold):
            host.photos.add(event.photo_id)
        if host.good is not None and not host.unreachable and len(host.photos) >= self._limits.failure_threshold:
            await self._probe(host, host.good)
        down = self._is_down(host)
        if down and not host.reported:
            host.reported = True
            self._metrics.hosts_down.inc()
            self._log.warning("host.lost", host=name, detail=failure.detail)
        return down

    async def _probe(self, host: _Host, good: PhotoUploaded) -> None:
        """Requests a photo that the host served before, to tell a host that is down from photos that fail."""
        if host.probe is not None:
            await asyncio.shield(host.probe)
            return
        if host.probed_s is not None and monotonic() - host.probed_s < self._limits.probe_interval_s:
            return
        host.probe = asyncio.get_running_loop().create_future()
        try:
            (await self._fetch(good)).drop()
            host.silent = False
        except PhotoRejected:
            host.silent = False
        except Retryable as failure:
            host.silent = failure.origin is not None
        finally:
            host.probed_s = monotonic()
            host.probe.set_result(None)
            host.probe = None
        if not host.silent:
            host.photos.clear()

    def _is_down(self, host: _Host) -> bool:
        limits = self._limits
        if host.failing_s is None or monotonic() - host.failing_s > limits.max_outage_s:
            return False
        if host.answered_s is not None:
            return host.silent or host.unreachable
        nowhere = all(other.answered_s is None for other in self._hosts.values())
        return nowhere and host.unreachable and len(host.photos) >= limits.startup_failure_threshold

    def _others_answer(self, name: str) -> bool:
        since_s = monotonic() - self._limits.healthy_s
        return any(
            other.answered_s is not None and other.answered_s > since_s and other.failing_s is None
            for key, other in self._hosts.items()
            if key != name
        )
