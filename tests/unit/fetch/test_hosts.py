import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count

import pytest

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable, TransientReason
from consumer.events import Photo, PhotoUploaded
from consumer.fetch.hosts import Hosts
from consumer.fetch.limits import HostLimits
from consumer.fetch.urls import origin, parsed
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog

GOOD, OTHER = "https://good.example:443", "https://other.example:443"
MOMENT = datetime(2026, 11, 21, tzinfo=UTC)
LIMITS = HostLimits(failure_threshold=3, startup_failure_threshold=5, probe_interval_s=0.0)
NUMBERS = count()

Answer = Callable[[PhotoUploaded], Awaitable[Photo]]


def photo(origin: str = GOOD, name: str | None = None) -> PhotoUploaded:
    name = name or f"photo-{next(NUMBERS)}"
    return PhotoUploaded(name, f"{origin}/{name}", MOMENT)


class Web:
    """Every host at once: what it answers is set by origin, for single photos by id."""

    def __init__(self, limits: HostLimits = LIMITS) -> None:
        self.log, self.metrics = RecordingLog(), Metrics()
        self.hosts = Hosts(self.attempt, self.log, self.metrics, limits)
        self.failing: dict[str, TransientReason] = {}
        self.gone: set[str] = set()
        self.asked: list[str] = []
        self.dropped: list[str] = []

    async def attempt(self, event: PhotoUploaded) -> Photo:
        self.asked.append(event.photo_id)
        await asyncio.sleep(0)
        place = origin(parsed(event.uri))
        if event.photo_id in self.gone:
            raise PhotoRejected("http_4xx", "gone")
        for key in (event.photo_id, place):
            if key in self.failing:
                raise Retryable(self.failing[key], "no", origin=place)
        return Photo(event.photo_id, event.uri, b"jpeg", lambda: self.dropped.append(event.photo_id))

    async def retry(self, step: Answer, event: PhotoUploaded) -> Photo:
        """Two attempts, as the pipeline's budget would make some."""
        try:
            return await step(event)
        except Retryable:
            return await step(event)

    async def fetch(self, event: PhotoUploaded) -> Photo:
        return await self.hosts.fetch(event, self.attempt, self.retry)  # type: ignore[arg-type]

    async def fails(self, *events: PhotoUploaded) -> list[type[BaseException]]:
        """What each of the photos ends with."""
        ends = await asyncio.gather(*map(self.fetch, events), return_exceptions=True)
        return [type(end) for end in ends if isinstance(end, BaseException)]

    def down(self) -> float | None:
        return self.metrics.registry.get_sample_value("tagger_photo_hosts_down")


@pytest.mark.parametrize("reason", ["connect_failed", "dns_failed"])
async def test_a_host_that_worked_and_cannot_be_reached_is_down(reason: TransientReason) -> None:
    web = Web()
    await web.fetch(photo())
    web.failing[GOOD] = reason
    assert await web.fails(photo()) == [PhotoHostDown]
    assert web.down() == 1
    web.failing.clear()
    await web.fetch(photo())
    assert web.down() == 0
    assert [name for _, name, _ in web.log.lines] == ["host.lost", "host.recovered"]


async def test_a_lost_host_that_is_forgotten_among_many_others_is_not_counted_for_ever() -> None:
    web = Web()
    await web.fetch(photo())
    web.failing[GOOD] = "connect_failed"
    assert await web.fails(photo()) == [PhotoHostDown]
    for number in range(1_100):
        await web.fetch(photo(f"https://host-{number}.example:443"))
    assert web.down() == 0


async def test_a_host_that_never_answered_is_the_photos_own_trouble() -> None:
    web = Web()
    await web.fetch(photo(OTHER))
    web.failing[GOOD] = "connect_failed"
    assert await web.fails(*(photo() for _ in range(20))) == [Retryable] * 20
    assert web.down() == 0


async def test_where_nothing_has_ever_answered_many_photos_and_not_one_photo_often_mean_an_outage() -> None:
    web = Web()
    web.failing[GOOD] = "connect_failed"
    one = photo()
    for _ in range(10):
        assert await web.fails(one) == [Retryable]
    for _ in range(3):
        assert await web.fails(photo()) == [Retryable]
    assert await web.fails(photo()) == [PhotoHostDown]
    assert await web.fails(one) == [PhotoHostDown]


@pytest.mark.parametrize("reason", ["fetch_timeout", "http_5xx"])
async def test_photos_that_hang_on_a_host_that_answers_for_others_are_their_own_trouble(
    reason: TransientReason,
) -> None:
    web = Web()
    good = photo()
    await web.fetch(good)
    bad = [photo() for _ in range(10)]
    web.failing.update(dict.fromkeys((one.photo_id for one in bad), reason))
    for one in bad:
        assert await web.fails(one) == [Retryable]
    assert good.photo_id in web.asked[1:], "the host was asked for what it gave before"
    assert web.dropped == web.asked[1:].count(good.photo_id) * [good.photo_id], "its bytes keep no room"
    assert web.down() == 0


@pytest.mark.parametrize("reason", ["fetch_timeout", "http_5xx"])
async def test_a_host_that_is_silent_for_everything_is_down_until_it_answers(reason: TransientReason) -> None:
    web = Web()
    await web.fetch(photo())
    web.failing[GOOD] = reason
    assert await web.fails(photo(), photo()) == [Retryable] * 2
    assert await web.fails(photo()) == [PhotoHostDown]
    bad = photo()
    web.failing = {bad.photo_id: reason}
    assert await web.fails(bad) == [Retryable], "the host is back, this photo is not"
    await web.fetch(photo())
    assert web.down() == 0


async def test_a_refusal_is_an_answer() -> None:
    web = Web()
    gone = photo()
    web.gone.add(gone.photo_id)
    assert await web.fails(gone) == [PhotoRejected]
    web.failing[GOOD] = "connect_failed"
    assert await web.fails(photo()) == [PhotoHostDown]


async def test_a_host_that_is_down_is_knocked_at_once_by_each_photo() -> None:
    web = Web()
    await web.fetch(photo())
    web.failing[GOOD] = "connect_failed"
    first, second = photo(), photo()
    await web.fails(first)
    await web.fails(second)
    assert web.asked.count(first.photo_id) == 2
    assert web.asked.count(second.photo_id) == 1


async def test_a_photo_whose_single_attempt_failed_as_its_host_came_back_is_attempted_again() -> None:
    web = Web()
    await web.fetch(photo())
    web.failing[GOOD] = "http_5xx"
    assert PhotoHostDown in await web.fails(*(photo() for _ in range(5)))
    late = photo()

    async def last_to_fail(event: PhotoUploaded) -> Photo:
        first = late.photo_id not in web.asked
        try:
            return await web.attempt(event)
        finally:
            if first:
                web.failing.clear()

    await web.hosts.fetch(late, last_to_fail, web.retry)  # type: ignore[arg-type]
    assert web.asked.count(late.photo_id) == 2


async def test_a_host_that_comes_and_goes_uses_up_no_round_of_a_photo() -> None:
    web = Web()
    await web.fetch(photo())
    late = photo()

    async def flap(event: PhotoUploaded) -> Photo:
        web.failing = {GOOD: "http_5xx"}
        assert PhotoHostDown in await web.fails(*(photo() for _ in range(5)))
        try:
            return await web.attempt(event)
        finally:
            web.failing.clear()

    with pytest.raises(PhotoHostDown, match="comes and goes"):
        await web.hosts.fetch(late, flap, web.retry)  # type: ignore[arg-type]


async def test_many_photos_that_suspect_a_host_ask_it_once_together() -> None:
    web = Web(HostLimits(probe_interval_s=3600.0))
    good = photo()
    await web.fetch(good)
    web.failing[GOOD] = "fetch_timeout"
    await web.fails(*(photo() for _ in range(50)))
    await web.fails(*(photo() for _ in range(50)))
    assert web.asked.count(good.photo_id) == 2


async def test_a_host_that_has_been_gone_for_too_long_no_longer_excuses_its_photos() -> None:
    web = Web(HostLimits(max_outage_s=0.0))
    await web.fetch(photo())
    web.failing[GOOD] = "connect_failed"
    await web.fails(photo())
    assert await web.fails(photo()) == [Retryable]


async def test_a_photo_keeps_its_place_only_while_no_other_host_answers_and_not_for_ever() -> None:
    web = Web()
    await web.fetch(photo())
    waits = web.hosts.patience(photo())
    assert waits()
    await web.fetch(photo(OTHER))
    assert not waits()
    hasty = Web(HostLimits(max_wait_s=0.0))
    await hasty.fetch(photo())
    assert not hasty.hosts.patience(photo())()
    # Nor for a host that never answered.
    assert not Web().hosts.patience(photo())()


async def test_any_number_of_hosts_in_events_takes_bounded_memory() -> None:
    web = Web()
    for number in range(3000):
        await web.fetch(photo(f"https://{number}.example"))
    assert len(web.hosts._hosts) == 1024


async def test_a_host_is_known_by_every_spelling_of_its_name() -> None:
    web = Web()
    await web.fetch(photo("https://b\u00fccher.example"))
    web.failing["https://xn--bcher-kva.example:443"] = "connect_failed"
    assert await web.fails(photo("HTTPS://B\u00dcCHER.Example.:443")) == [PhotoHostDown]
    assert await web.fails(photo("https://XN--BCHER-kva.example:")) == [PhotoHostDown]
    assert web.down() == 1


@pytest.mark.parametrize("uri", ["https://a..b/1.jpg", "ftp://h/1.jpg", "https://[::1"])
async def test_a_uri_that_names_no_place_is_rejected_and_no_host_is_known_by_it(uri: str) -> None:
    web = Web()
    event = PhotoUploaded("p", uri, MOMENT)
    assert await web.fails(event) == [PhotoRejected]
    with pytest.raises(PhotoRejected, match="url_not_allowed"):
        web.hosts.patience(event)
    assert not web.hosts._hosts
