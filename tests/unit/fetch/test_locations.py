"""Where a redirect leads is read as browsers read it; what the host is asked for is looked at on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from consumer.errors import PhotoRejected, Retryable
from consumer.fetch.limits import FetchLimits
from consumer.fetch.urls import check_web, redirected
from tests.photo_host import BODY, SECRET, Host, Names, failure, fetch, limits_for, response, until

BASE = "https://photos.example:8443/a%2Fb/caf%C3%A9//c.jpg?q=%2f"


def found(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("d e.jpg", "https://photos.example:8443/a%2Fb/caf%C3%A9//d%20e.jpg"),
        ("?r=%3d", "https://photos.example:8443/a%2Fb/caf%C3%A9//c.jpg?r=%3d"),
        ("#top", "https://photos.example:8443/a%2Fb/caf%C3%A9//c.jpg?q=%2f"),
        ("../d", "https://photos.example:8443/a%2Fb/caf%C3%A9/d"),
        ("./d/.", "https://photos.example:8443/a%2Fb/caf%C3%A9//d/"),
        ("../../../../../d", "https://photos.example:8443/d"),
        ("/d//e/", "https://photos.example:8443/d//e/"),
        ("/%2E%2e/d/%2e", "https://photos.example:8443/d/"),
        ("/d%2F..%2Fe?a/../b", "https://photos.example:8443/d%2F..%2Fe?a/../b"),
        ("//cdn.example/d", "https://cdn.example/d"),
        ("//cdn.example", "https://cdn.example"),
        ("\\\\cdn.example\\d?e\\f", "https://cdn.example/d?e\\f"),
        ("http://cdn.example/d/../e#f?g", "http://cdn.example/e"),
        ("HTTPS:/d", "https://photos.example:8443/d"),
        ("https:d", "https://photos.example:8443/a%2Fb/caf%C3%A9//d"),
        (" \t/d\te\r\n.jpg ", "https://photos.example:8443/de.jpg"),
        ('/{d}^`"<e>?{f}^`"<g>', "https://photos.example:8443/%7Bd%7D%5E%60%22%3Ce%3E?{f}^`%22%3Cg%3E"),
        ("/\u00fc\u3000?\u00fc=%fc", "https://photos.example:8443/%C3%BC%E3%80%80?%C3%BC=%fc"),
        ("/\udcfc?\udcfc", "https://photos.example:8443/%FC?%FC"),
        ("//b\u00fccher.example/d", "https://xn--bcher-kva.example/d"),
        ("http://[::1]:81/d", "http://[::1]:81/d"),
        ("///cdn.example/d", "https://cdn.example/d"),
        ("https:////cdn.example/d", "https://cdn.example/d"),
        ("http:/cdn.example/d/./e", "http://cdn.example/d/e"),
        ("http:cdn.example", "http://cdn.example"),
        ("d:e/f", "d://e/f"),
        ("/d?e='f'", "https://photos.example:8443/d?e=%27f%27"),
    ],
)
def test_a_location_is_read_as_browsers_read_it(location: str, target: str) -> None:
    assert str(redirected(URL(BASE, encoded=True), location)) == target


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (b"/a b.jpg?c d", b"/a%20b.jpg?c%20d"),
        ("/caf\u00e9".encode(), b"/caf%C3%A9"),
        (b"/caf\xe9?\xe9%E9", b"/caf%E9?%E9%E9"),
        (b"next", b"/x/caf%C3%A9%2Fy/next"),
        (b"/n?X-Sig=a%2Fb%2f%3D+c==&empty=#f", b"/n?X-Sig=a%2Fb%2f%3D+c==&empty="),
    ],
)
async def test_a_redirect_is_followed_byte_for_byte(host: Host, location: bytes, path: bytes) -> None:
    host.serve(path.partition(b"?")[0].decode(), response("200 OK", BODY))
    uri = host.serve("/x/caf%C3%A9%2Fy/z", found(location))
    assert await fetch(uri, limits_for(host)) == BODY
    assert host.requests[1].split()[1] == path


@pytest.mark.parametrize(
    ("location", "reason", "words"),
    [
        (b"http://h:65536/b", "url_not_allowed", "/a redirects: the port in the URI"),
        (b"http://[::1/b", "url_not_allowed", "/a redirects: the URI cannot be read"),
        (b"http://b\xfccher.example/b", "url_not_allowed", "/a redirects: the URI cannot be read"),
        (b"http://a b.example/b", "url_not_allowed", "http://a%20b.example/b: a host name has"),
        (b"http:///", "url_not_allowed", "http://: no host"),
        (b"///[::1]:8/b", "address_not_allowed", "http://[::1]:8/b: ::1 port 8 is loopback"),
        (b"http://h:+80/b", "url_not_allowed", "/a redirects: the port in the URI"),
        (b"ftp://h/b", "url_not_allowed", "ftp://h/b: scheme 'ftp' is not among"),
        (b"s3://bucket/b", "url_not_allowed", "s3://bucket/b: scheme 's3' is not among"),
        (b"http://me:hunter2@h/b", "url_not_allowed", "http://h/b: credentials"),
        (b"http://[fe80::1%25lo]/b", "url_not_allowed", "http://[fe80::1%25lo]/b: an IPv6 address has no zone"),
        (b"http://[::1]:8/b", "address_not_allowed", "http://[::1]:8/b: ::1 port 8 is loopback"),
        (b"/none", "http_4xx", "404 Not Found from http://127.0.0.1:{port}/none"),
        (b"/empty", "empty_body", "http://127.0.0.1:{port}/empty: the photo has no bytes"),
    ],
)
async def test_what_is_wrong_with_a_redirect_names_the_redirect(
    host: Host, location: bytes, reason: str, words: str
) -> None:
    host.serve("/empty", response("200 OK"))
    limits = limits_for(host, schemes=("http",))
    error = await failure(host.serve("/a", found(location)) + SECRET, limits)
    assert isinstance(error, PhotoRejected)
    assert error.reason == reason
    assert words.format(port=host.port) in error.detail
    assert "/a:" not in error.detail


async def test_a_redirect_that_never_answers_is_named_and_not_the_uri_of_the_event(host: Host) -> None:
    host.serve("/silent", host.hang)
    error = await failure(host.serve("/a", found(b"/silent")), limits_for(host, total_timeout_s=0.3))
    assert isinstance(error, Retryable)
    assert error.detail == f"http://127.0.0.1:{host.port}/silent: no photo in time"
    await until(lambda: len(host.requests) == 2)


@pytest.mark.parametrize("answer", [found(b""), found(b"  "), response("302 Found")])
async def test_a_redirect_without_a_location_is_retried(host: Host, answer: bytes) -> None:
    error = await failure(host.serve("/a", answer), limits_for(host))
    assert isinstance(error, Retryable)
    assert error.detail == f"http://127.0.0.1:{host.port}/a: 302 Found without a Location"


@given(
    st.text(st.sampled_from("/\\.:?#@[]%2eE a\t\u00fc\udce9x-"), max_size=30),
    st.sampled_from(["", "//", "https://", "https:"]),
)
def test_a_redirect_leads_to_a_place_or_is_refused(location: str, start: str) -> None:
    reason = None
    try:
        target = redirected(URL(BASE, encoded=True), start + location)
        check_web(target, ("https",))
    except PhotoRejected as refused:
        reason = refused.reason
    if reason is not None:
        assert reason == "url_not_allowed"
        return
    assert str(target).isascii()
    assert not target.raw_fragment
    assert {".", ".."}.isdisjoint(target.raw_path.lower().replace("%2e", ".").split("/"))
    assert redirected(URL(BASE, encoded=True), str(target)) == target


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://h/a b.jpg", "holds ' ': leave it out, or write it as %20"),
        ("http://h/a.jpg\n", r"holds '\n': leave it out, or write it as %0A"),
        ("\thttp://h/a.jpg", r"holds '\t': leave it out"),
        ("http://h:65536/a", "the port in the URI is not a number up to 65535"),
        ("http://h:8o/a", "the port in the URI is not a number up to 65535"),
        ("http://h:0/a", "nothing can be reached at port 0"),
        ("http://h/a\\b", "a backslash: write / or %5C"),
        ("http://h\\b/a", "cannot be read as a URL"),
        ("http://[fe80::1%25eth0]/a", "http://[fe80::1%25eth0]/a: an IPv6 address has no zone"),
        ("http://[fe80::1%eth0]/a", "an IPv6 address has no zone"),
        ("http://::1/a", "an IPv6 address stands in brackets"),
        ("http://b\u00fccher_\u00fc.example\ud83d/a", "cannot be read as a URL"),
        ("http://me:hunter2@h/a", "http://h/a: credentials in a URL are not sent"),
        ("ftp://h/a?b", "ftp://h/a: scheme 'ftp' is not among the allowed ones (http)"),
    ],
)
async def test_what_is_wrong_with_a_uri_is_said(uri: str, words: str) -> None:
    names = Names(h=["93.184.216.34"])
    error = await failure(uri, FetchLimits(schemes=("http",)), names)
    assert error.reason == "url_not_allowed"
    assert words in error.detail
    assert names.asked == []
