import contextlib
from collections.abc import AsyncIterator

import pytest

from consumer.errors import PhotoRejected, Retryable
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.limits import FetchLimits
from consumer.fetch.trail import Trail, following
from tests.egress_proxy import Proxy, proxying
from tests.photo_host import BODY, SECRET, Host, Names, event, failure, fetch, response

PASSWORD = "me:hunter2"


@pytest.fixture
async def proxy(host: Host) -> AsyncIterator[Proxy]:
    async with proxying(host) as running:
        yield running


def through(running: Proxy, **changes: object) -> FetchLimits:
    return FetchLimits(**({"schemes": ("http", "https"), "proxy": running.url} | changes))


async def test_http_goes_through_the_proxy_as_a_whole_url(host: Host, proxy: Proxy) -> None:
    host.serve("/a.jpg", response("200 OK", BODY, Connection="close"))
    assert await fetch("http://photos.example/a.jpg", through(proxy)) == BODY
    assert proxy.requests == ["GET http://photos.example/a.jpg HTTP/1.1"]


async def test_the_proxy_gets_urls_as_they_were_written(host: Host, proxy: Proxy) -> None:
    host.serve("/caf%C3%A9//a%2f", response("200 OK", BODY, Connection="close"))
    assert await fetch("http://[2606:4700::1111]:8080/caf\u00e9//a%2f?b=%2f+", through(proxy)) == BODY
    assert proxy.requests == ["GET http://[2606:4700::1111]:8080/caf%C3%A9//a%2f?b=%2f+ HTTP/1.1"]


async def test_https_goes_through_a_tunnel(host: Host, proxy: Proxy) -> None:
    host.terminator = b"\x16"  # the host sees a TLS client and does not speak it
    error = await failure(f"https://photos.example/a.jpg{SECRET}", through(proxy))
    assert (error.reason, proxy.requests) == ("connect_failed", ["CONNECT photos.example:443 HTTP/1.1"])


async def test_a_redirect_goes_through_the_proxy_too(host: Host, proxy: Proxy) -> None:
    host.serve("/a", response("302 Found", Location="http://other.example/b", Connection="close"))
    host.serve("/b", response("200 OK", BODY, Connection="close"))
    assert await fetch("http://photos.example/a", through(proxy)) == BODY
    assert [line.split()[1] for line in proxy.requests] == ["http://photos.example/a", "http://other.example/b"]


async def test_the_proxy_gets_its_password_and_nobody_else_does(host: Host) -> None:
    host.serve("/a.jpg", response("200 OK", BODY, Connection="close"))
    async with proxying(host, PASSWORD) as proxy:
        assert await fetch("http://photos.example/a.jpg", through(proxy)) == BODY
        wrong = through(proxy, proxy=proxy.url.replace("hunter2", "hunter3"))
        for scheme, origin in (("http", "http://photos.example:80"), ("https", f"http://127.0.0.1:{proxy.port}")):
            error = await failure(f"{scheme}://photos.example/a.jpg", wrong)
            assert isinstance(error, Retryable)
            assert (error.reason, error.origin) == ("connect_failed", origin)
            assert "hunter" not in str(error)


async def test_a_proxy_that_is_down_is_an_outage_of_the_proxy(host: Host) -> None:
    async with proxying(host) as proxy:
        pass
    for uri in ("http://photos.example/a.jpg", "https://photos.example/a.jpg"):
        error = await failure(uri, through(proxy))
        assert isinstance(error, Retryable)
        assert (error.reason, error.origin) == ("connect_failed", f"http://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("status", [403, 407])
async def test_what_the_proxy_refuses_is_not_allowed(proxy: Proxy, status: int) -> None:
    proxy.refused = {"photos.example:443": status, "http://photos.example/a.jpg": 407}
    for uri in ("https://photos.example/a.jpg", "http://photos.example/a.jpg"):
        error = await failure(uri, through(proxy))
        assert isinstance(error, PhotoRejected)
        assert error.reason == "address_not_allowed"


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_host_that_the_proxy_cannot_reach_is_down_and_not_the_proxy(proxy: Proxy, status: int) -> None:
    proxy.refused = {"photos.example:443": status}
    error = await failure("https://photos.example/a.jpg", through(proxy))
    assert isinstance(error, Retryable)
    assert (error.reason, error.origin) == ("connect_failed", "https://photos.example:443")


@pytest.mark.parametrize(
    "place", ["127.0.0.1", "169.254.169.254", "[::1]", "10.0.0.1", "[::ffff:10.0.0.1]", "[fd00:ec2::254]", "100.64.0.1"]
)
async def test_literal_addresses_are_judged_before_the_proxy_is_asked(host: Host, proxy: Proxy, place: str) -> None:
    error = await failure(f"http://{place}/a.jpg", through(proxy))
    assert error.reason == "address_not_allowed"
    host.serve("/a", response("302 Found", Location=f"http://{place}/", Connection="close"))
    assert (await failure("http://photos.example/a", through(proxy))).reason == "address_not_allowed"
    assert len(proxy.requests) == 1


async def test_a_literal_address_that_is_allowed_goes_through_the_proxy(host: Host, proxy: Proxy) -> None:
    host.serve("/a.jpg", response("200 OK", BODY, Connection="close"))
    limits = through(proxy, allow_addresses=("10.0.0.0/8",))
    assert await fetch("http://10.0.0.1/a.jpg", limits) == BODY
    assert proxy.requests == ["GET http://10.0.0.1/a.jpg HTTP/1.1"]


@pytest.mark.parametrize("uri", ["http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://u:p@photos.example/"])
async def test_odd_hosts_are_refused_before_the_proxy_is_asked(proxy: Proxy, uri: str) -> None:
    assert (await failure(uri, through(proxy))).reason == "url_not_allowed"
    assert proxy.requests == []


async def test_a_proxy_whose_name_does_not_resolve_is_an_outage_of_the_proxy(proxy: Proxy) -> None:
    named = through(proxy, proxy=f"http://proxy.example:{proxy.port}")
    error = await failure("https://photos.example/a.jpg", named, Names())
    assert isinstance(error, Retryable)
    assert (error.reason, error.origin) == ("connect_failed", f"http://proxy.example:{proxy.port}")


@pytest.mark.parametrize(
    ("answer", "status", "relayed"),
    [("", 200, True), ("", 404, True), ("", 500, True), ("", 503, False), ("proxy", 407, False), ("proxy", 502, False)],
)
async def test_what_a_proxy_may_have_said_itself_is_no_sign_that_it_works(
    host: Host, proxy: Proxy, answer: str, status: int, *, relayed: bool
) -> None:
    uri = "http://photos.example/a.jpg"
    host.serve("/a.jpg", response(f"{status} X", BODY, Connection="close"))
    proxy.refused = {uri: status} if answer else {}
    way = Trail()
    async with Fetcher(through(proxy)) as fetcher:
        with following(way), contextlib.suppress(PhotoRejected, Retryable):
            await fetcher.fetch(event(uri))
    assert (proxy.url in way.answered) == relayed
    assert way.ways == {"http://photos.example:80": (proxy.url,)}
