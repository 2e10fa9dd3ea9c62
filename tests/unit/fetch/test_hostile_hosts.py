"""A web server that means harm: every case ends with its reason, in time, and the next photo is not touched by it."""

import asyncio
import contextlib
import gzip
from pathlib import Path
from time import monotonic

import pytest

from consumer.budget import Budget
from consumer.contract import Geometry
from consumer.errors import PhotoRejected, Retryable
from consumer.fetch.fetcher import Fetcher
from consumer.imaging.preparer import PrepareLimits, explain
from tests.photo_host import BODY, SECRET, Answer, Host, event, fetch, files_of, limits_for, redirect, response

TOTAL_S = 1.0
GENEROUS_S = 5.0
CHUNKED = response("200 OK", Content_Length=None, Transfer_Encoding="chunked")


def repeated(head: bytes, part: bytes, pause_s: float = 0.0) -> Answer:
    """A first part, then another for ever."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


CASES: dict[str, tuple[Answer, set[str]]] = {
    "slow loris: a header line for ever": (repeated(b"HTTP/1.1 200 OK\r\nX: ", b"a", 0.02), {"fetch_timeout"}),
    "header lines for ever, slowly": (repeated(b"HTTP/1.1 200 OK\r\n", b"X: a\r\n", 0.02), {"fetch_timeout"}),
    "header lines for ever, at once": (
        repeated(b"HTTP/1.1 200 OK\r\n", b"X: a\r\n" * 1000),
        {"malformed_response", "fetch_timeout"},
    ),
    "one endless header line": (repeated(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 10_000), {"malformed_response"}),
    "interim answers for ever": (
        repeated(b"", b"HTTP/1.1 103 Early Hints\r\nX: a\r\n\r\n" * 100),
        {"malformed_response", "fetch_timeout"},
    ),
    "interim answers for ever, slowly": (repeated(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02), {"fetch_timeout"}),
    "drip: a byte now and then": (repeated(response("200 OK", Content_Length=10**6), b".", 0.02), {"fetch_timeout"}),
    "drip in chunks": (repeated(CHUNKED, b"1\r\na\r\n", 0.02), {"fetch_timeout"}),
    "endless body": (repeated(response("200 OK", Content_Length=None), BODY), {"too_many_bytes"}),
    "endless chunks": (repeated(CHUNKED, b"10000\r\n" + bytes(0x10000) + b"\r\n"), {"too_many_bytes"}),
    "endless chunk extension": (repeated(CHUNKED + b"1;", b"a" * 10_000), {"malformed_response", "fetch_timeout"}),
    "endless trailers": (
        repeated(CHUNKED + b"0\r\n", b"X: a\r\n" * 1000),
        {"malformed_response", "short_body", "fetch_timeout"},
    ),
    "a chunk of 2**63 bytes": (CHUNKED + b"8000000000000000\r\nabc", {"malformed_response", "short_body"}),
    "a chunk that is no number": (CHUNKED + b"zz\r\nabc\r\n", {"malformed_response"}),
    "a chunk longer than it says": (CHUNKED + b"2\r\nabcdef\r\n0\r\n\r\n", {"malformed_response", "fetch_timeout"}),
    "a length too short": (response("200 OK", BODY, Content_Length=10), {"malformed_response", "corrupt_image"}),
    "a length too long": (response("200 OK", BODY, Content_Length=len(BODY) + 1), {"short_body"}),
    "a negative length": (response("200 OK", BODY, Content_Length=-1), {"malformed_response"}),
    "a terabyte announced": (response("200 OK", Content_Length=10**12), {"too_many_bytes"}),
    "a length of 400 digits": (response("200 OK", Content_Length="9" * 400), {"malformed_response", "too_many_bytes"}),
    "a length that is no number": (response("200 OK", BODY, Content_Length="banana"), {"malformed_response"}),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg",
        {"malformed_response"},
    ),
    "a length and chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {"malformed_response", "empty_body", "short_body"},
    ),
    "gzip bomb, announced": (
        response("200 OK", gzip.compress(bytes(10**7)), Content_Encoding="gzip"),
        {"content_encoding"},
    ),
    "gzip bomb, hidden": (response("200 OK", gzip.compress(bytes(10**7))), {"unsupported_format"}),
    "gzip as transfer coding": (
        response("200 OK", gzip.compress(BODY), Content_Length=None, Transfer_Encoding="gzip"),
        {"content_encoding"},
    ),
    "HTML with 200": (response("200 OK", b"<html>sorry</html>", Content_Type="image/jpeg"), {"unsupported_format"}),
    "nothing with 200": (response("200 OK"), {"empty_body"}),
    "part of it with 206": (response("206 Partial Content", BODY), {"malformed_response"}),
    "switching protocols": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", {"malformed_response"}),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", {"malformed_response"}),
    "HTTP 0.9": (BODY, {"malformed_response"}),
    "silence, then the end": (b"", {"connect_failed"}),
    "a redirect to itself": (redirect("/a"), {"too_many_redirects"}),
    "a redirect with NUL": (redirect("http://127.0.0.1\0.example/"), {"url_not_allowed", "malformed_response"}),
    "a redirect to data:": (redirect("data:image/png;base64,AAAA"), {"url_not_allowed"}),
    "a redirect to a socket": (redirect("unix:///var/run/docker.sock"), {"url_not_allowed"}),
    "a redirect of 100 kB": (redirect("/" + "a" * 100_000), {"malformed_response"}),
    "a redirect to an odd loopback": (redirect("http://0x7f000001/"), {"url_not_allowed"}),
    "a redirect to full-width digits": (
        redirect("http://\uff11\uff12\uff17.0.0.1:1/"),
        {"url_not_allowed", "address_not_allowed"},
    ),
    "a redirect to the metadata service": (redirect("http://[::ffff:a9fe:a9fe]/latest"), {"address_not_allowed"}),
    "Retry-After for ever": (response("503 Busy", Retry_After="9" * 5000), {"http_5xx"}),
}


@pytest.mark.parametrize("name", CASES)
async def test_every_case_ends_with_its_reason_in_time_and_holds_nothing(host: Host, name: str) -> None:
    answer, reasons = CASES[name]
    host.serve("/a", answer)
    host.serve("/good", response("200 OK", BODY))
    budget = Budget(64 * 1024 * 1024)
    limits = limits_for(host, max_bytes=2_000_000, read_timeout_s=TOTAL_S / 2, total_timeout_s=TOTAL_S)
    started = monotonic()
    async with Fetcher(limits, budget) as fetcher:
        try:
            photo = await fetcher.fetch(event(host.url("/a") + SECRET))
        except (PhotoRejected, Retryable) as error:
            outcome, text = error.reason, str(error)
        else:
            said = explain(photo.body, [Geometry(32, 32)], PrepareLimits())
            outcome, text = said.outcome, said.detail
            photo.drop()
        assert outcome in reasons
        assert "hunter2" not in text
        assert len(text) < 1_000
        assert monotonic() - started < GENEROUS_S
        assert budget.used == 0
        assert (await fetcher.fetch(event(host.url("/good")))).body == BODY


async def test_a_failure_keeps_nothing_of_the_bytes_that_came(host: Host) -> None:
    half = response("200 OK", BODY * 100, Content_Length=len(BODY) * 200)
    host.serve("/half", half)
    async with Fetcher(limits_for(host)) as fetcher:
        with pytest.raises(Retryable) as caught:
            await fetcher.fetch(event(host.url("/half")))
    assert caught.value.reason == "short_body"
    assert files_of(caught.value) <= {Path(__file__).name, "fetch.py"}


async def test_what_follows_a_photo_on_its_connection_is_not_the_next_photo(host: Host) -> None:
    # A host that keeps the connection and sends an answer that nobody asked for.
    forged = response("200 OK", b"forged")
    served = asyncio.Event()

    async def keep_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response("200 OK", BODY) + forged)
        await writer.drain()
        served.set()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response("200 OK", b"second"))
            await writer.drain()

    async with Fetcher(limits_for(host)) as fetcher:
        host.serve("/a", keep_alive)
        host.serve("/b", response("200 OK", b"second"))
        with contextlib.suppress(Retryable):
            assert (await fetcher.fetch(event(host.url("/a")))).body == BODY
        await served.wait()
        for _ in range(3):
            assert (await fetcher.fetch(event(host.url("/b")))).body == b"second"


async def test_a_connection_is_used_again_after_a_good_photo_and_left_after_a_bad_one(host: Host) -> None:
    connections = 0

    async def many(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = b"GET /good "
            while True:
                if head.startswith(b"GET /good"):
                    writer.write(response("200 OK", BODY))
                else:
                    writer.write(response("200 OK", Content_Length=10**12) + BODY)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")

    host.serve("/good", many)
    async with Fetcher(limits_for(host)) as fetcher:
        for _ in range(3):
            assert (await fetcher.fetch(event(host.url("/good")))).body == BODY
        assert connections == 1
        with pytest.raises(PhotoRejected, match="too_many_bytes"):
            await fetcher.fetch(event(host.url("/huge")))
        assert (await fetcher.fetch(event(host.url("/good")))).body == BODY
        assert connections == 2


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1\0.example/",
        "http://127.0.0.1%00.example/",
        "http://127.0.0.1%2f@evil.example/",
        "http://127.0.0.1\t/",
        "http://[::1%25lo]/",
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://0/",
        "http://0x7f.0x0.0x0.0x1/",
        "http://017700000001/",
        "http://[::]/",
        "http://[0:0:0:0:0:ffff:7f00:1]/",
        "http://LOCALHOST/",
    ],
)
async def test_no_spelling_of_our_own_address_is_fetched(uri: str, host: Host) -> None:
    with pytest.raises(PhotoRejected) as caught:
        await fetch(uri, limits_for(host))
    assert caught.value.reason in {"url_not_allowed", "address_not_allowed"}
