import asyncio
import contextlib
import hashlib
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable
from consumer.events import PhotoUploaded
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.http import retry_after_s
from consumer.fetch.limits import FetchLimits
from tests.photo_host import (
    BODY,
    SECRET,
    Host,
    Names,
    event,
    failure,
    fetch,
    limits_for,
    no_descriptor_left,
    rejected,
    response,
    retryable,
    until,
)


class TestBodies:
    async def test_the_body_is_the_photo_whatever_its_type(self, host: Host) -> None:
        for body in (BODY, b"<html>not a photo</html>"):
            assert (
                await fetch(
                    host.serve("/photo.jpg", response("200 OK", body, Content_Type="text/html")), limits_for(host)
                )
                == body
            )

    async def test_a_body_without_a_length_ends_with_the_connection(self, host: Host) -> None:
        assert await fetch(host.serve("/a", response("200 OK", BODY, Content_Length=None)), limits_for(host)) == BODY

    async def test_a_chunked_body_is_joined(self, host: Host) -> None:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:5000], BODY[5000:])) + b"0\r\n\r\n"
        raw = response("200 OK", Content_Length=None, Transfer_Encoding="chunked") + chunks
        assert await fetch(host.serve("/a", raw), limits_for(host)) == BODY

    @pytest.mark.parametrize(("size", "count"), [(1, 900), (256, 5_000), (4_096, 300)])
    async def test_a_body_in_small_chunks_is_read_while_it_is_worth_its_work(
        self, host: Host, size: int, count: int
    ) -> None:
        raw = response("200 OK", Content_Length=None, Transfer_Encoding="chunked")
        raw += (b"%x\r\n" % size + b"x" * size + b"\r\n") * count + b"0\r\n\r\n"
        assert await fetch(host.serve("/a", raw), limits_for(host)) == b"x" * size * count

    @pytest.mark.parametrize("size", [1, 2, 100])
    async def test_a_body_in_tiny_chunks_is_left_before_it_costs_other_photos_their_time(
        self, host: Host, size: int
    ) -> None:
        chunk = b"%x\r\n" % size + b"x" * size + b"\r\n"

        async def forever(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(response("200 OK", Content_Length=None, Transfer_Encoding="chunked"))
            while True:
                writer.write(chunk * 10_000)
                await writer.drain()

        error = await failure(host.serve("/a", forever), limits_for(host))
        assert isinstance(error, Retryable)
        assert (error.reason, error.origin) == ("malformed_response", f"http://127.0.0.1:{host.port}")
        assert error.detail.endswith(f"in chunks of {size} bytes")

    @pytest.mark.parametrize(
        ("path", "sent"),
        [
            ("/a%2Fb", "/a%2Fb"),
            ("/caf\u00e9/%e9%2f//./../a;b=c", "/caf%C3%A9/%e9%2f//./../a;b=c"),
            ("/cafe\u0301\u3000\U0001f600.jpg", "/cafe%CC%81%E3%80%80%F0%9F%98%80.jpg"),
            ("/caf\udce9|{}", "/caf%E9|{}"),
        ],
    )
    async def test_path_and_query_reach_the_host_as_they_were_written(self, host: Host, path: str, sent: str) -> None:
        host.serve(sent, response("200 OK", BODY))
        query = "?X-Sig=a%2Fb%2f%3D+c==&empty=&%41&a;b='(*)~|\\&x=/?"
        await fetch(host.url(path) + query, limits_for(host))
        await fetch(host.url(path) + query + "\u00e9&%e9", limits_for(host))
        assert [head.split()[1].decode() for head in host.requests] == [sent + query, sent + query + "%C3%A9&%e9"]

    async def test_a_request_asks_for_no_compression_and_carries_no_cookies(self, host: Host) -> None:
        host.serve("/start", response("302 Found", Location="/end", Set_Cookie="a=b; Path=/"))
        host.serve("/end", response("200 OK", BODY))
        await fetch(host.url("/start"), limits_for(host))
        assert len(host.requests) == 2
        for head in host.requests:
            assert b"Accept-Encoding: identity\r\n" in head
            assert b"cookie" not in head.lower()
            assert b"authorization" not in head.lower()

    async def test_the_checksum_of_the_event_is_checked(self, host: Host) -> None:
        uri = host.serve("/a", response("200 OK", BODY))
        assert await fetch(uri, limits_for(host), sha256=hashlib.sha256(BODY).hexdigest()) == BODY
        assert await rejected(uri, limits_for(host), sha256="0" * 64) == "content_mismatch"

    @pytest.mark.parametrize("status", ["200 OK", "204 No Content", "205 Reset Content"])
    async def test_no_bytes_are_an_empty_body(self, host: Host, status: str) -> None:
        assert await rejected(host.serve("/a", response(status)), limits_for(host)) == "empty_body"

    @pytest.mark.parametrize(
        "encoding",
        [
            *("gzip", "br", "GZIP", "x-gzip", "X-Compress", "deflate", "zstd", "dcb", "bzip2", "xz", "zlib", '"gzip"'),
            *("identity, gzip", "gzip,identity", "aws-chunked,gzip", "gzip;q=1", "utf-8\r\nContent-Encoding: br"),
            "x" * 500 + " gzip",
        ],
    )
    async def test_a_compressed_body_is_refused(self, host: Host, encoding: str) -> None:
        raw = response("200 OK", b"\x1f\x8b", Content_Encoding=encoding)
        assert await rejected(host.serve("/a", raw), limits_for(host)) == "content_encoding"

    @pytest.mark.parametrize(
        "encoding",
        [
            *(
                "identity",
                "Identity, identity",
                "",
                "base64",
                "UTF-8",
                "utf8",
                "binary",
                "none",
                "None",
                "8bit",
                "7bit",
            ),
            *("aws-chunked", "chunked", "quoted-printable", "image/jpeg", "iso-8859-1", "null", "undefined", "raw"),
            *("identity\r\nContent-Encoding: none", "zebra", "x" * 500, "\u00e9"),
        ],
    )
    async def test_what_names_no_compression_says_nothing_of_the_bytes(self, host: Host, encoding: str) -> None:
        raw = response("200 OK", BODY, Content_Encoding=encoding)
        assert await fetch(host.serve("/a", raw), limits_for(host)) == BODY

    @pytest.mark.parametrize("encoding", ["gzip, chunked", "GZIP,chunked", "deflate\r\nTransfer-Encoding: chunked"])
    async def test_a_compressed_transfer_is_refused(self, host: Host, encoding: str) -> None:
        raw = response("200 OK", b"2\r\n\x1f\x8b\r\n0\r\n\r\n", Transfer_Encoding=encoding, Content_Length=None)
        assert await rejected(host.serve("/a", raw), limits_for(host)) == "content_encoding"

    @pytest.mark.parametrize(
        ("lines", "words"),
        [
            ("Content-Length: 1\r\nContent-Length: 1", "Duplicate Content-Length"),
            ("Content-Length: hunter2", "Invalid character in Content-Length"),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", "Transfer-Encoding can't be present with"),
            ("hunter2", "Invalid header token"),
        ],
    )
    async def test_what_is_wrong_with_the_headers_is_said_without_their_values(
        self, host: Host, lines: str, words: str
    ) -> None:
        error = await failure(host.serve("/a", f"HTTP/1.1 200 OK\r\n{lines}\r\n\r\nx".encode()), limits_for(host))
        assert error.reason == "malformed_response"
        assert f"the answer is no proper HTTP: {words}" in error.detail
        assert "hunter2" not in error.detail


class TestBounds:
    async def test_a_body_of_exactly_the_limit_is_taken(self, host: Host) -> None:
        assert await fetch(host.serve("/a", response("200 OK", BODY)), limits_for(host, max_bytes=len(BODY))) == BODY

    async def test_an_announced_excess_is_refused_before_it_is_read(self, host: Host) -> None:
        raw = response("200 OK", Content_Length=10**12)
        assert await rejected(host.serve("/a", raw), limits_for(host)) == "too_many_bytes"

    async def test_an_endless_body_is_refused_when_the_limit_is_passed(self, host: Host) -> None:
        sent = 0

        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(response("200 OK", Content_Length=None))
            while True:
                writer.write(BODY)
                await writer.drain()
                sent += len(BODY)

        assert await rejected(host.serve("/a", endless), limits_for(host, max_bytes=1_000_000)) == "too_many_bytes"
        assert sent < 20_000_000

    @pytest.mark.parametrize("changes", [{"read_timeout_s": 0.05}, {"total_timeout_s": 0.05}])
    async def test_a_host_that_says_nothing_is_left(self, host: Host, changes: dict[str, float]) -> None:
        assert await retryable(host.serve("/a", host.hang) + SECRET, limits_for(host, **changes)) == "fetch_timeout"

    @pytest.mark.parametrize("changes", [{"read_timeout_s": 0.05}, {"total_timeout_s": 0.05}])
    async def test_a_host_that_stops_in_the_middle_is_left(self, host: Host, changes: dict[str, float]) -> None:
        async def stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(response("200 OK", BODY)[:1000])
            await host.hang(reader, writer)

        assert await retryable(host.serve("/a", stop) + SECRET, limits_for(host, **changes)) == "fetch_timeout"

    async def test_a_host_that_drips_is_left_when_the_total_is_spent(self, host: Host) -> None:
        async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(response("200 OK", Content_Length=10**6))
            while not host.released.is_set():
                writer.write(b".")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(host.released.wait(), 0.02)

        limits = limits_for(host, read_timeout_s=5.0, total_timeout_s=0.2)
        assert await retryable(host.serve("/a", drip), limits) == "fetch_timeout"

    async def test_a_short_body_is_retried(self, host: Host) -> None:
        assert (
            await retryable(host.serve("/a", response("200 OK", BODY)[:-1]) + SECRET, limits_for(host)) == "short_body"
        )
        chunked = response("200 OK", Content_Length=None, Transfer_Encoding="chunked") + b"ffff\r\nabc"
        assert await retryable(host.serve("/b", chunked), limits_for(host)) == "short_body"

    async def test_a_body_beyond_its_announced_length_is_no_proper_answer(self, host: Host) -> None:
        raw = response("200 OK", BODY, Content_Length=len(BODY) - 10, Connection="close")
        assert await retryable(host.serve("/a", raw) + SECRET, limits_for(host)) == "malformed_response"

    async def test_a_body_whose_chunks_break_off_in_nonsense_is_left(self, host: Host) -> None:
        # The HTTP client closes the connection but does not wake its reader: the time limit does.

        async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(response("200 OK", Content_Length=None, Transfer_Encoding="chunked") + b"3\r\nabc\r\n")
            await writer.drain()
            writer.write(b"zz\r\nabc\r\n")
            await host.hang(reader, writer)

        limits = limits_for(host, total_timeout_s=0.3)
        assert await retryable(host.serve("/a", nonsense) + SECRET, limits) in {"malformed_response", "fetch_timeout"}

    @pytest.mark.parametrize(
        "raw",
        [
            b"garbage\r\n\r\n",
            b"HTTP/1.1 banana\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"\x16\x03\x01" * 50,
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
            response("206 Partial Content", BODY),
            response("202 Accepted", BODY),
            response("200 OK", Content_Length=None, Transfer_Encoding="chunked") + b"zz\r\nabc\r\n",
        ],
    )
    async def test_what_is_no_proper_answer_is_retried(self, host: Host, raw: bytes) -> None:
        assert await retryable(host.serve("/a", raw) + SECRET, limits_for(host)) == "malformed_response"

    async def test_response_headers_are_read_up_to_32_kb_and_named_beyond(self, host: Host) -> None:
        fields = {f"X{number}": "a" * 300 for number in range(100)}
        for headers in ({"X": "a" * 32_760}, {"X": "a" * 9_000, "Y": "b" * 20_000}, fields):
            assert await fetch(host.serve("/a", response("200 OK", BODY, **headers)), limits_for(host)) == BODY
        for headers in ({"X": "a" * 32_769}, {"X" * 40_000: "a"}, fields | {f"Y{number}": "" for number in range(40)}):
            error = await failure(host.serve("/a", response("200 OK", BODY, **headers)), limits_for(host))
            assert (type(error), error.reason) == (Retryable, "malformed_response")
            assert "response headers are too large: 32768 bytes a field and 128 fields" in error.detail

    async def test_a_connection_that_closes_without_an_answer_is_retried(self, host: Host) -> None:
        assert await retryable(host.serve("/a", b"") + SECRET, limits_for(host)) == "connect_failed"

    async def test_a_host_that_is_down_is_retried(self, host: Host) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            limits = limits_for(host, allow_addresses=(f"127.0.0.1:{port}",))
            error = await failure(f"http://127.0.0.1:{port}/a{SECRET}", limits)
            assert isinstance(error, Retryable)
            assert (error.reason, error.origin) == ("connect_failed", f"http://127.0.0.1:{port}")

    async def test_a_host_that_speaks_no_tls_is_retried(self, host: Host) -> None:
        host.terminator = b"\x16"
        assert await retryable(host.url().replace("http:", "https:") + SECRET, limits_for(host)) == "connect_failed"

    async def test_an_unknown_name_is_retried(self, host: Host) -> None:
        assert await retryable("http://nowhere.example/a" + SECRET, limits_for(host), Names()) == "dns_failed"


class TestStatuses:
    @pytest.mark.parametrize(
        "status", ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "410 Gone"]
    )
    async def test_a_client_error_is_final(self, host: Host, status: str) -> None:
        error = await failure(host.serve("/a", response(status, b"<html>")) + SECRET, limits_for(host))
        assert isinstance(error, PhotoRejected)
        assert error.reason == "http_4xx"
        assert error.detail.startswith(f"{status} from http://127.0.0.1:{host.port}/a")

    @pytest.mark.parametrize(
        "status",
        [
            "408 Request Timeout",
            "425 Too Early",
            "429 Too Many Requests",
            "500 Internal Server Error",
            "503 Service Unavailable",
        ],
    )
    async def test_a_transient_error_is_retried(self, host: Host, status: str) -> None:
        error = await failure(host.serve("/a", response(status, Retry_After=7)), limits_for(host))
        assert isinstance(error, Retryable)
        assert error.reason == "http_5xx"
        assert error.detail.startswith(status)
        assert error.detail.endswith("Retry-After 7")
        assert error.retry_after_s == 7
        assert error.origin == (None if status[:3] in {"408", "425"} else f"http://127.0.0.1:{host.port}")

    async def test_a_host_s_own_words_are_not_passed_on(self, host: Host) -> None:
        error = await failure(host.serve("/a", response("404 hunter2", Retry_After="hunter2")), limits_for(host))
        assert error.detail.startswith("404 Not Found")
        error = await failure(host.serve("/a", response("599 hunter2", Retry_After="hunter2")), limits_for(host))
        assert error.detail.startswith("599 from")


async def test_one_fetcher_serves_many_photos_at_once(host: Host) -> None:
    bodies = {f"/{number}": BODY + str(number).encode() for number in range(50)}
    for path, body in bodies.items():
        host.serve(path, response("200 OK", body))
    async with Fetcher(limits_for(host)) as fetcher:
        photos = await asyncio.gather(*(fetcher.fetch(event(host.url(path))) for path in bodies))
    assert [photo.body for photo in photos] == list(bodies.values())


class TestNames:
    """Silent name servers take the places of their own names alone."""

    @pytest.mark.parametrize("domains", [1, 40])
    async def test_a_photo_is_fetched_while_many_names_are_silent(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, domains: int
    ) -> None:
        released, asked = threading.Event(), []

        def name_server(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
            asked.append(name)
            if name.endswith(".example"):
                released.wait(30)
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", name_server)
        host.serve("/a", response("200 OK", BODY))
        async with Fetcher(limits_for(host)) as fetcher:
            silent = [
                asyncio.create_task(fetcher.fetch(event(f"http://{number}.silent{number % domains}.example/a")))
                for number in range(80)
            ]
            await until(lambda: asked)
            photo = await asyncio.wait_for(fetcher.fetch(event(host.url("/a", "good.test"))), 3)
            assert photo.body == BODY
            for one in silent:
                one.cancel()
            released.set()
            await asyncio.gather(*silent, return_exceptions=True)


class TestOwnLimits:
    """What this process runs out of is neither the photo's failure nor its host's."""

    @pytest.mark.parametrize("name", ["127.0.0.1", "good.test"])
    async def test_without_a_descriptor_left_the_photo_waits(
        self, host: Host, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda _, port, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
        )
        uri = host.serve("/a", response("200 OK", BODY)).replace("127.0.0.1", name)
        async with Fetcher(limits_for(host)) as fetcher:
            with no_descriptor_left(), pytest.raises(PhotoHostDown, match="at a limit: Too many open files"):
                await fetcher.fetch(event(uri))
            assert (await fetcher.fetch(event(uri))).body == BODY


class TestGrace:
    """A 404 may be an upload that is not visible yet."""

    @staticmethod
    async def outcome(
        uri: str, limits: FetchLimits, age_s: float, sha256: str | None = None
    ) -> PhotoRejected | Retryable:
        upload = PhotoUploaded("p1", uri, datetime.now(UTC) - timedelta(seconds=age_s), content_sha256=sha256)
        async with Fetcher(limits) as fetcher:
            with pytest.raises((PhotoRejected, Retryable)) as caught:
                await fetcher.fetch(upload)
        return caught.value

    async def test_a_photo_that_was_just_uploaded_may_appear_yet(self, host: Host) -> None:
        error = await self.outcome(host.url("/none"), limits_for(host), age_s=1)
        assert isinstance(error, Retryable)
        assert (error.reason, error.origin) == ("http_4xx", None)

    async def test_after_the_grace_it_is_gone_for_good(self, host: Host) -> None:
        error = await self.outcome(host.url("/none"), limits_for(host), age_s=31)
        assert isinstance(error, PhotoRejected)
        assert error.reason == "http_4xx"

    async def test_without_a_grace_it_is_gone_at_once(self, host: Host) -> None:
        error = await self.outcome(host.url("/none"), limits_for(host, not_found_grace_s=0), age_s=0)
        assert isinstance(error, PhotoRejected)

    async def test_what_is_forbidden_or_gone_has_no_grace(self, host: Host) -> None:
        for status in ("401 Unauthorized", "403 Forbidden", "410 Gone"):
            error = await self.outcome(host.serve("/a", response(status)), limits_for(host), age_s=1)
            assert isinstance(error, PhotoRejected)

    @pytest.mark.parametrize(
        ("body", "sha256", "reason"),
        [
            (b"", None, "empty_body"),
            (BODY[: len(BODY) // 2], hashlib.sha256(BODY).hexdigest(), "content_mismatch"),
            (bytes(4_096), hashlib.sha256(BODY).hexdigest(), "content_mismatch"),
            (b"", hashlib.sha256(BODY).hexdigest(), "empty_body"),
        ],
    )
    @pytest.mark.parametrize("where", ["web", "file", "chunked"])
    async def test_an_empty_or_unfinished_photo_has_the_same_grace(
        self, host: Host, tmp_path: Path, body: bytes, sha256: str | None, reason: str, where: str
    ) -> None:
        limits, uri = limits_for(host), host.serve("/a", response("200 OK", body))
        if where == "file":
            (tmp_path / "a").write_bytes(body)
            limits, uri = FetchLimits(schemes=("file",), file_root=tmp_path), f"file://{tmp_path}/a"
        elif where == "chunked":
            host.serve("/a", response("200 OK", body, Content_Length=None))
        for age_s, family in ((1, Retryable), (29, Retryable), (31, PhotoRejected), (86_400, PhotoRejected)):
            error = await self.outcome(uri, limits, age_s, sha256)
            assert type(error) is family
            assert error.reason == reason
        if not body and where == "web":
            error = await self.outcome(host.serve("/a", response("204 No Content")), limits, 1)
            assert (type(error), error.reason) == (Retryable, "empty_body")

    async def test_a_clock_that_is_ahead_makes_the_grace_no_longer_than_twice_as_long(self, host: Host) -> None:
        assert isinstance(await self.outcome(host.url("/none"), limits_for(host), age_s=-29), Retryable)
        for ahead_s in (31, 3_600, 86_400):
            assert isinstance(await self.outcome(host.url("/none"), limits_for(host), age_s=-ahead_s), PhotoRejected)

    async def test_what_is_too_large_or_not_allowed_has_no_grace(self, host: Host) -> None:
        large = host.serve("/a", response("200 OK", BODY))
        for uri in (large, "ftp://host/a", "http://127.0.0.1:1/a"):
            error = await self.outcome(uri, limits_for(host, max_bytes=100), age_s=1)
            assert isinstance(error, PhotoRejected)

    async def test_a_missing_file_has_the_grace_too(self, tmp_path: Path) -> None:
        limits = FetchLimits(schemes=("file",), file_root=tmp_path)
        assert isinstance(await self.outcome(f"file://{tmp_path}/none", limits, age_s=1), Retryable)
        assert isinstance(await self.outcome(f"file://{tmp_path}/none", limits, age_s=31), PhotoRejected)


MOMENT = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("9" * 400, 3600.0),
        ("Sat, 21 Nov 2026 10:01:30 GMT", 90.0),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2126 09:00:00 GMT", 3600.0),
        ("Sat, 21 Nov 2026 10:01:30 -0000", 90.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
        ("\u0663", None),
    ],
)
def test_a_host_may_ask_to_be_left_for_seconds_or_until_a_date(header: str, seconds: float | None) -> None:
    assert retry_after_s(header, MOMENT) == seconds
