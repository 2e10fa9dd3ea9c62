"""Health of photo hosts: tells a host that is down from a single photo that cannot be fetched.

The first is an outage and is waited for; the second concerns that photo only, and must end. A photo's way may lead
through several dependencies, each with a health of its own: an egress proxy, the endpoint of a store, the hosts that
redirect to others. What no photo can cause is an outage at once: a host that worked refuses connections or its name no
longer resolves. Timeouts, 5xx and broken bodies may be due to the photos, so a host that worked is probed with the last
photo that came from it. A host that never answered is taken for a wrong name, unless no host has answered since the
start, or all that answered are down.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Final

from consumer.errors import PhotoRejected, Retryable
from consumer.events import Photo, PhotoUploaded
from consumer.fetch.crowd import Crowd
from consumer.fetch.host_table import Host, HostTable
from consumer.fetch.limits import HostLimits
from consumer.fetch.trail import Trail, following
from consumer.telemetry import Log, Metrics

Fetch = Callable[[PhotoUploaded], Awaitable[Photo]]

#: Nothing about a photo makes its host unreachable.
_UNREACHABLE: Final = frozenset({"connect_failed", "dns_failed"})
#: What a cut line between us and all hosts looks like.
_CUT_OFF: Final = _UNREACHABLE | {"fetch_timeout"}


class HostHealth:
    """What is known of the hosts, and which of them are down."""

    def __init__(self, fetch: Fetch, log: Log, metrics: Metrics, limits: HostLimits, crowd: Crowd) -> None:
        self._fetch = fetch
        self._log = log
        self._metrics = metrics
        self._limits = limits
        self.hosts = HostTable(self._forgotten)
        self.crowd = crowd

    def answered(self, *names: str) -> None:
        """These hosts work."""
        for name in names:
            self._answered(name)

    def _answered(self, name: str) -> Host:
        host = self.hosts.answering(name)
        host.answered_s = monotonic()
        host.failing_s, host.unreachable, host.cut_off, host.silent = None, False, False, False
        host.photos.clear()
        self.crowd.answered(host.room)
        if host.reported:
            host.reported = False
            self._metrics.hosts_down.dec()
            self._log.info("host.recovered", host=name)
        return host

    def ended(self, name: str) -> None:
        """This host gave an answer that was not a redirect."""
        host = self._answered(name)
        host.ended_s = host.answered_s

    def served(self, event: PhotoUploaded, names: Sequence[str], ways: Mapping[str, tuple[str, ...]]) -> None:
        """A photo came from the last of these hosts, by way of the others."""
        # A probe requests the photo as it is then: without the event's checksum.
        good = PhotoUploaded(event.photo_id, event.uri, event.uploaded_at)
        for name in names:
            host = self._answered(name)
            host.good, host.through = good, ways.get(name, ())
        host.ended_s = host.answered_s

    def any_down(self, names: Sequence[str]) -> bool:
        """Whether photos wait for one of these hosts."""
        return any(self.is_down(self.hosts[name]) for name in names)

    def is_hopeless(self, failure: Retryable) -> bool:
        """Whether another attempt in place would only hold the place: a host hangs for all its photos."""
        if failure.origin is None or failure.reason != "fetch_timeout":
            return False
        host = self.hosts[failure.origin]
        if self.crowd.is_crowded(host.room) and self.others_answer(failure.origin):
            return True
        return not host.room.answers and len(host.photos) >= self._limits.failure_threshold

    async def down_after(self, name: str, event: PhotoUploaded, failure: Retryable, *, reached: bool) -> bool:
        """Records a failure whose cause may be this host; returns whether the host is down."""
        host, limits = self.hosts[name], self._limits
        self._failed(host, failure, certain=name == failure.origin, reached=reached)
        # Where few photos come, one that failed in an earlier round as well must not be lost for its host.
        suspected = event.photo_id in host.photos or len(host.photos) >= limits.failure_threshold - 1
        if len(host.photos) < max(limits.failure_threshold, limits.startup_failure_threshold):
            host.photos.add(event.photo_id)
        if suspected and not host.unreachable:
            good = self._good_of(name, host)
            if good is not None:
                await self._probe(name, host, good)
        if self.is_down(host) and not self.others_answer(name):
            await self._probe_an_idle_host(name)
        down = self.is_down(host)
        if down:
            self._report(name, host, failure)
        return down

    def _failed(self, host: Host, failure: Retryable, *, certain: bool, reached: bool) -> None:
        host.failing_s = host.failing_s or monotonic()
        if certain:
            host.unreachable = failure.reason in _UNREACHABLE and not reached
            host.cut_off = failure.reason in _CUT_OFF

    def _report(self, name: str, host: Host, failure: Retryable) -> None:
        if not host.reported:
            host.reported = True
            self._metrics.hosts_down.inc()
            self._log.warning("host.lost", host=name, detail=failure.detail)

    def _forgotten(self, host: Host) -> None:
        if host.reported:
            self._metrics.hosts_down.dec()

    def _good_of(self, name: str, host: Host) -> PhotoUploaded | None:
        """A photo whose fetch tells whether this host works: of what stands before others, one of a host that works."""
        behind = (other for _, other in self.hosts.known() if name in other.through and other.failing_s is None)
        return next((other.good for other in behind if other.good is not None), host.good)

    async def _probe_an_idle_host(self, but: str) -> None:
        """Asks another host that worked and was not needed for a while: whether it is this one alone that is down."""
        for name, host in self.hosts.known():
            if name != but and host.ended_s is not None and host.failing_s is None and host.good is not None:
                await self._probe(name, host, host.good)
                return

    async def _probe(self, name: str, host: Host, good: PhotoUploaded) -> None:
        """Requests a photo that came from the host before, to tell a host that is down from photos that fail."""
        if host.probe is not None:
            await asyncio.shield(host.probe)
            return
        if host.probed_s is not None and monotonic() - host.probed_s < self._limits.probe_interval_s:
            return
        host.probe = asyncio.get_running_loop().create_future()
        trail = Trail()
        try:
            with following(trail):
                (await self._fetch(good)).drop()
            self.served(good, trail.answered or [name], trail.ways)
        except PhotoRejected:
            host.silent = bool(trail.ways) and name not in trail.answered
            self.answered(*(trail.answered if trail.ways else [name]))
        except Retryable as failure:
            suspects = () if failure.origin is None else trail.suspects(failure.origin)
            self.answered(*(other for other in trail.answered if other not in suspects))
            if name in suspects:
                host.silent = True
                self._failed(host, failure, certain=name == failure.origin, reached=trail.reached)
            elif not suspects:
                self.answered(name)
        finally:
            host.probed_s = monotonic()
            host.probe.set_result(None)
            host.probe = None

    def is_down(self, host: Host) -> bool:
        """Whether photos wait for this host."""
        limits = self._limits
        if host.failing_s is None or monotonic() - host.failing_s > limits.max_outage_s:
            return False
        if host.answered_s is not None:
            return host.silent or host.unreachable
        known = [other for _, other in self.hosts.known()]
        if not known:
            return host.unreachable and len(host.photos) >= limits.startup_failure_threshold
        return host.cut_off and self._none_answers(known)

    def _none_answers(self, known: Sequence[Host]) -> bool:
        """Whether hosts that worked are down, and no host has answered since."""
        lost_s = [host.failing_s for host in known if host.failing_s is not None and (host.silent or host.unreachable)]
        return bool(lost_s) and all((host.answered_s or 0.0) <= min(lost_s) for host in known)

    def others_answer(self, name: str) -> bool:
        """Whether other hosts gave photos lately; beside something that they lie behind, since it fails."""
        since_s, host = monotonic() - self._limits.healthy_s, self.hosts[name]
        if host.failing_s is not None and any(name in other.through for _, other in self.hosts.known()):
            since_s = max(since_s, host.failing_s)
        return any(
            other.ended_s is not None and other.ended_s > since_s and other.failing_s is None
            for key, other in self.hosts.known()
            if key != name
        )
