"""A failure is blamed on what failed: a host behind a redirect, a proxy, the endpoint of a store."""

import asyncio
from collections import Counter
from itertools import count

import pytest

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable, TransientReason
from consumer.events import Photo, PhotoUploaded
from consumer.fetch.host_health import Fetch
from consumer.fetch.host_table import MAX_HOSTS
from consumer.fetch.hosts import Hosts
from consumer.fetch.limits import HostLimits
from consumer.fetch.trail import trail
from consumer.fetch.urls import origin, parsed
from consumer.telemetry import Metrics
from tests.fakes import MOMENT, RecordingLog

API, CDN, OTHER = "https://api.example:443", "https://cdn.example:443", "https://other.example:443"
PROXY = "http://proxy.example:3128"
LIMITS = HostLimits(probe_interval_s=0.0, overdue_s=0.02)
NUMBERS = count()


def photo(place: str = API) -> PhotoUploaded:
    name = f"photo-{next(NUMBERS)}"
    return PhotoUploaded(name, f"{place}/{name}", MOMENT)


class Web:
    """Hosts that redirect and lie behind others, as the edges of a fetch report them."""

    def __init__(self, limits: HostLimits = LIMITS, *, proxy: str | None = None, places: int = 64) -> None:
        self.log, self.metrics = RecordingLog(), Metrics()
        self.hosts = Hosts(self.attempt, self.log, self.metrics, limits, places=places)
        self.redirects = {API: CDN}
        self.through = () if proxy is None else (proxy,)
        #: By origin or photo id: why it fails, and whether a connection was made.
        self.failing: dict[str, tuple[TransientReason, bool]] = {}
        self.refusing: set[str] = set()
        self.hanging: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    async def attempt(self, event: PhotoUploaded) -> Photo:
        place: str | None = origin(parsed(event.uri))
        while place is not None:
            await trail().asks(place, self.through)
            self.asked.append((event.photo_id, place))
            await asyncio.sleep(0)
            self._check(event.photo_id, place)
            trail().answers()
            place = self.redirects.get(place)
        return Photo(event.photo_id, event.uri, b"jpeg")

    def _check(self, photo_id: str, place: str) -> None:
        if place in self.hanging:
            raise Retryable("fetch_timeout", "hangs", origin=place)
        for cause in self.through:
            if cause in self.failing and self.failing[cause][0] == "connect_failed":
                raise Retryable("connect_failed", "the proxy does not answer", origin=cause)
        for key in (*self.through, place, photo_id):
            if key in self.failing:
                reason, trail().reached = self.failing[key]
                raise Retryable(reason, "no", origin=place)
        if place in self.refusing:
            trail().answers()
            raise PhotoRejected("http_4xx", "gone")

    async def retry(self, step: Fetch, event: PhotoUploaded) -> Photo:
        """Two attempts."""
        try:
            return await step(event)
        except Retryable:
            return await step(event)

    async def ends(self, *events: PhotoUploaded) -> list[str]:
        """How each of the photos ends."""
        fetches = (self.hosts.fetch(event, self.attempt, self.retry) for event in events)  # type: ignore[arg-type]
        return [type(end).__name__ for end in await asyncio.gather(*fetches, return_exceptions=True)]

    def logged(self, event: str) -> list[str]:
        return [fields["host"] for _, name, fields in self.log.lines if name == event]


async def test_a_host_behind_a_redirect_that_cannot_be_reached_is_down_and_the_redirecting_one_is_not() -> None:
    web = Web()
    await web.ends(photo())
    web.failing[CDN] = ("connect_failed", False)
    assert await web.ends(photo(), photo()) == ["PhotoHostDown"] * 2
    web.redirects[API] = OTHER
    assert await web.ends(photo()) == ["Photo"], "what the API redirects elsewhere is not held up"
    web.redirects[API] = CDN
    web.failing.clear()
    assert await web.ends(photo()) == ["Photo"]
    assert web.logged("host.lost") == web.logged("host.recovered") == [CDN]


@pytest.mark.parametrize("reason", ["fetch_timeout", "http_5xx", "short_body", "malformed_response", "connect_failed"])
@pytest.mark.parametrize("place", [API, CDN])
async def test_a_host_of_a_chain_that_fails_for_every_photo_is_down_once_a_good_photo_fails_too(
    place: str, reason: TransientReason
) -> None:
    web = Web()
    good = photo()
    await web.ends(good)
    web.failing[place] = (reason, True)
    assert await web.ends(photo(), photo()) == ["Retryable"] * 2
    assert await web.ends(photo(), photo()) == ["PhotoHostDown"] * 2
    assert (good.photo_id, place) in web.asked[-10:], "the photo that the host gave before, by the same way"
    assert web.logged("host.lost") == [place]


async def test_a_single_photo_is_enough_to_find_out_that_its_host_is_down_when_it_comes_back() -> None:
    web = Web()
    await web.ends(photo())
    web.failing[CDN] = ("http_5xx", True)
    alone = photo()
    assert await web.ends(alone) == ["Retryable"]
    assert await web.ends(alone) == ["PhotoHostDown"]


@pytest.mark.parametrize("reason", ["fetch_timeout", "http_5xx", "short_body", "connect_failed"])
async def test_one_photo_that_breaks_its_connections_is_its_own_trouble(reason: TransientReason) -> None:
    web = Web()
    await web.ends(photo())
    bad = [photo() for _ in range(10)]
    web.failing.update({one.photo_id: (reason, True) for one in bad})
    for _ in range(2):
        assert await web.ends(*bad) == ["Retryable"] * 10
    assert web.logged("host.lost") == []


async def test_a_host_that_redirects_to_itself_and_fails_then_is_down_like_any_other() -> None:
    web = Web()
    web.redirects = {}
    await web.ends(photo())
    attempt = web.attempt

    async def redirected(event: PhotoUploaded) -> Photo:
        await trail().asks(API)
        trail().answers()
        return await attempt(event)

    web.attempt = web.hosts._health._fetch = redirected  # type: ignore[method-assign]
    web.failing[API] = ("http_5xx", True)
    assert (await web.ends(*(photo() for _ in range(5))))[-1] == "PhotoHostDown"


@pytest.mark.parametrize("place", [API, OTHER, "https://never-seen.example:443"])
async def test_a_proxy_that_is_gone_is_an_outage_for_every_host(place: str) -> None:
    web = Web(proxy=PROXY)
    await web.ends(photo())
    web.failing[PROXY] = ("connect_failed", False)
    assert await web.ends(photo(place)) == ["PhotoHostDown"]
    assert web.hosts.patience(photo(place))(), "no host answers behind it"
    assert web.logged("host.lost") == [PROXY]
    web.failing.clear()
    assert await web.ends(photo(place)) == ["Photo"]


@pytest.mark.parametrize("reason", ["fetch_timeout", "http_5xx", "malformed_response"])
async def test_a_proxy_that_answers_nothing_good_is_found_out_by_a_photo_of_another_host(
    reason: TransientReason,
) -> None:
    web = Web(proxy=PROXY)
    await web.ends(photo(OTHER))
    web.failing[PROXY] = (reason, True)
    unknown = "https://never-seen.example:443"
    await web.ends(*(photo(unknown) for _ in range(3)))
    assert await web.ends(photo(unknown)) == ["PhotoHostDown"]
    assert web.logged("host.lost") == [PROXY]


async def test_a_host_that_the_proxy_cannot_reach_is_not_the_proxys_fault() -> None:
    web = Web(proxy=PROXY)
    await web.ends(photo(API), photo(OTHER))
    web.failing[OTHER] = ("connect_failed", False)
    assert await web.ends(*(photo(OTHER) for _ in range(10))) == ["PhotoHostDown"] * 10
    assert await web.ends(photo()) == ["Photo"]
    assert web.logged("host.lost") == [OTHER]


async def test_an_unknown_host_is_not_taken_for_a_wrong_name_while_every_known_host_is_cut_off() -> None:
    web = Web()
    await web.ends(photo(OTHER))
    unknown = "https://never-seen.example:443"
    web.failing = {OTHER: ("fetch_timeout", False), unknown: ("dns_failed", False)}
    await web.ends(*(photo(OTHER) for _ in range(5)))
    assert await web.ends(photo(unknown)) == ["PhotoHostDown"]
    del web.failing[OTHER]
    await web.ends(photo(OTHER))
    assert await web.ends(photo(unknown)) == ["Retryable"]


async def test_an_idle_host_is_asked_whether_it_is_the_other_one_alone_that_is_down() -> None:
    web = Web(HostLimits(probe_interval_s=0.0, healthy_s=0.01))
    idle = photo(OTHER)
    await web.ends(idle)
    await web.ends(photo())
    await asyncio.sleep(0.02)
    web.failing[CDN] = ("connect_failed", False)
    web.asked.clear()
    assert await web.ends(photo()) == ["PhotoHostDown"]
    assert (idle.photo_id, OTHER) in web.asked
    assert web.logged("host.lost") == [CDN]


async def test_a_refusal_is_the_answer_of_the_host_that_refuses() -> None:
    web = Web()
    web.refusing.add(CDN)
    assert await web.ends(photo()) == ["PhotoRejected"]
    web.failing[CDN] = ("connect_failed", False)
    assert await web.ends(photo()) == ["PhotoHostDown"]


async def test_what_comes_beyond_the_share_of_a_silent_host_is_sent_away_without_an_attempt() -> None:
    web = Web(places=16)
    held = asyncio.Event()

    async def hang(_: PhotoUploaded) -> Photo:
        await trail().asks(OTHER)
        await held.wait()
        raise Retryable("fetch_timeout", "no answer", origin=OTHER)

    fetches = [
        asyncio.create_task(web.hosts.fetch(photo(OTHER), hang, web.retry))  # type: ignore[arg-type]
        for _ in range(50)
    ]
    done, _ = await asyncio.wait(fetches, timeout=0.5)
    assert [type(fetch.exception()) for fetch in done] == [PhotoHostDown] * 46
    assert not web.hosts.patience(photo(OTHER))(), "they give their places to others at once"
    held.set()
    assert {type(end) for end in await asyncio.gather(*fetches, return_exceptions=True)} == {PhotoHostDown, Retryable}
    assert not web.hosts._health.crowd._rooms, "nobody is counted any more"


async def test_photos_of_a_host_that_hangs_for_all_are_tried_once_in_place() -> None:
    web = Web()
    web.hanging.add(OTHER)
    await web.ends(*(photo(OTHER) for _ in range(3)))
    last = photo(OTHER)
    assert await web.ends(last) == ["Retryable"]
    assert web.asked.count((last.photo_id, OTHER)) == 1


async def test_any_number_of_hosts_that_never_answer_do_not_make_a_good_one_forgotten() -> None:
    web = Web()
    await web.ends(photo(OTHER))
    for number in range(MAX_HOSTS + 100):
        place = f"https://n{number}.example:443"
        web.failing[place] = ("dns_failed", False)
        await web.ends(photo(place))
    assert len(web.hosts._hosts) == MAX_HOSTS + 1
    web.failing[OTHER] = ("connect_failed", False)
    assert await web.ends(photo(OTHER)) == ["PhotoHostDown"]


@pytest.mark.parametrize("others", [True, False])
async def test_a_photo_of_a_host_that_holds_its_share_is_tried_once_in_place_while_others_answer(
    *, others: bool
) -> None:
    web = Web(places=4)
    if others:
        await web.ends(photo())
    web.hanging.add(OTHER)
    hung = photo(OTHER)
    assert await web.ends(hung) == ["Retryable"]
    assert web.asked.count((hung.photo_id, OTHER)) == (1 if others else 2)


@pytest.mark.parametrize(
    ("known", "ends"), [((API, OTHER), {"PhotoHostDown": 3}), ((OTHER,), {"Retryable": 2}), ((API,), {})]
)
async def test_a_photo_that_gives_way_uses_up_no_round_while_other_hosts_answer(
    known: tuple[str, ...], ends: dict[str, int]
) -> None:
    web = Web(places=4)
    await web.ends(*map(photo, known))

    async def hang(_: PhotoUploaded) -> Photo:
        await trail().asks(OTHER)
        await asyncio.Event().wait()
        raise AssertionError

    fetches = [
        asyncio.create_task(web.hosts.fetch(photo(OTHER), hang, web.retry))  # type: ignore[arg-type]
        for _ in range(4 if OTHER in known else 1)
    ]
    done, held = await asyncio.wait(fetches, timeout=0.3)
    for fetch in held:
        fetch.cancel()
    await asyncio.wait(fetches)
    assert Counter(type(fetch.exception()).__name__ for fetch in done) == ends
    assert not web.hosts._health.crowd._rooms


@pytest.mark.parametrize("body", [False, True])
async def test_how_long_a_host_takes_to_answer_is_known_with_or_without_a_body(*, body: bool) -> None:
    web = Web()

    async def slow(event: PhotoUploaded) -> Photo:
        way = trail()
        await way.asks(OTHER)
        await asyncio.sleep(0.03)
        if body:
            await way.pauses(1)
            way.reads()
        way.answers()
        return Photo(event.photo_id, event.uri, b"jpeg")

    await web.hosts.fetch(photo(OTHER), slow, web.retry)  # type: ignore[arg-type]
    assert web.hosts._hosts[OTHER].room.usual_s > 0.02
