"""What stands before a host may be what breaks its answers: then it is to blame, and no photo is."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable
from consumer.events import PhotoUploaded
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.hosts import Hosts
from consumer.fetch.limits import FetchLimits, HostLimits
from consumer.resilience import retry_within_budget
from consumer.telemetry import Metrics
from tests.fakes import MOMENT, RecordingLog
from tests.photo_host import BODY, response, serving

GOOD = response("200 OK", BODY, Connection="close")


class Relay:
    """A proxy that gives the photos of every host, or fails in the middle: for all, or for some names."""

    def __init__(self) -> None:
        self.port = 0
        self.fault = ""
        self.names: tuple[str, ...] = ()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        broken = self.fault and (not self.names or any(name.encode() in head.split()[1] for name in self.names))
        writer.write(GOOD[:-10] if broken else GOOD)
        await writer.drain()
        if broken and self.fault == "stops":
            await asyncio.Event().wait()
        elif broken and self.fault == "resets":
            writer.transport.abort()


class Photos:
    """Photos of any host, by way of the relay."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.log, metrics = RecordingLog(), Metrics()
        self._fetcher = fetcher
        self._hosts = Hosts(fetcher.fetch, self.log, metrics, HostLimits(probe_interval_s=0.0))
        self._retry = retry_within_budget(1, self.log, metrics)
        self._count = 0

    async def end(self, host: str) -> str:
        """How the next photo of this host ends."""
        self._count += 1
        event = PhotoUploaded(f"photo{self._count}", f"http://{host}/{self._count}", MOMENT)
        try:
            photo = await self._hosts.fetch(event, self._fetcher.fetch, self._retry)
        except (PhotoHostDown, PhotoRejected, Retryable) as failure:
            return type(failure).__name__
        photo.drop()
        return "Photo"

    def lost(self) -> list[str]:
        return [fields["host"] for _, name, fields in self.log.lines if name == "host.lost"]


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    relay = Relay()
    async with serving(relay.handle) as relay.port:
        yield relay


@pytest.fixture
async def photos(relay: Relay) -> AsyncIterator[Photos]:
    limits = FetchLimits(
        schemes=("http",), proxy=f"http://127.0.0.1:{relay.port}", read_timeout_s=0.25, total_timeout_s=2.0
    )
    async with Fetcher(limits) as fetcher:
        yield Photos(fetcher)


@pytest.mark.parametrize("fault", ["cuts", "stops", "resets"])
async def test_a_proxy_that_fails_in_the_middle_of_every_answer_is_down_for_hosts_known_or_not(
    relay: Relay, photos: Photos, fault: str
) -> None:
    assert await photos.end("known.example") == "Photo"
    relay.fault = fault
    for number in range(3):
        await photos.end(f"new{number}.example")
    assert [await photos.end(host) for host in ("known.example", "another.example")] == ["PhotoHostDown"] * 2
    assert photos.lost() == [f"http://127.0.0.1:{relay.port}"]
    relay.fault = ""
    assert [await photos.end(host) for host in ("known.example", "another.example")] == ["Photo"] * 2


@pytest.mark.parametrize("fault", ["cuts", "stops", "resets"])
async def test_a_host_that_fails_in_the_middle_of_its_answers_is_not_the_proxys_fault(
    relay: Relay, photos: Photos, fault: str
) -> None:
    assert [await photos.end(host) for host in ("known.example", "bad.example")] == ["Photo"] * 2
    relay.fault, relay.names = fault, ("bad.example", "worse.example")
    for _ in range(5):
        bad = await photos.end("bad.example")
        worse = await photos.end("worse.example")
    assert (bad, worse) == ("PhotoHostDown", "Retryable")
    assert photos.lost() == ["http://bad.example:80"]
    assert await photos.end("known.example") == "Photo"
