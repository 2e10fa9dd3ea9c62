import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from consumer.errors import PhotoRejected, Retryable
from consumer.events import PhotoUploaded
from consumer.fetch import Fetcher, FetchLimits

BODY = b"\xff\xd8\xff" + bytes(range(256)) * 300
SECRET = "?X-Signature=0123456789abcdef&token=hunter2"

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def response(status: str, body: bytes = b"", **headers: object) -> bytes:
    headers = {"Content-Length": len(body)} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        f"HTTP/1.1 {status}",
        *(f"{name}: {value}" for name, value in headers.items() if value is not None),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return response(status, Location=location)


class Host:
    """A photo host that answers each path with the bytes or the behaviour that it was given."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.answers: dict[str, Answer] = {}
        self.requests: list[bytes] = []
        self.released = asyncio.Event()
        self.terminator = b"\r\n\r\n"

    def url(self, path: str = "/photo.jpg", host: str | None = None) -> str:
        return f"http://{host or self.address}:{self.port}{path}"

    def serve(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return self.url(path)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(self.terminator)
            self.requests.append(head)
            path = head.split()[1].decode().partition("?")[0] if len(head) > 1 else ""
            answer = self.answers.get(path, response("404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        writer.close()

    async def hang(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.released.wait()
        writer.close()


@contextlib.asynccontextmanager
async def hosting(address: str = "127.0.0.1") -> AsyncIterator[Host]:
    host = Host(address, 0)
    server = await asyncio.start_server(host.handle, address, 0)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        host.released.set()
        server.close()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with hosting() as running:
        yield running


def event(uri: str, sha256: str | None = None) -> PhotoUploaded:
    return PhotoUploaded("p1", uri, datetime(2026, 11, 21, tzinfo=UTC), content_sha256=sha256)


def limits_for(host: Host, **changes: object) -> FetchLimits:
    defaults = {"schemes": ("https", "http"), "allow_addresses": (f"{host.address}:{host.port}",)}
    return FetchLimits(**(defaults | changes))


async def fetch(
    uri: str, limits: FetchLimits, resolver: AbstractResolver | None = None, sha256: str | None = None
) -> bytes:
    async with Fetcher(limits, resolver=resolver) as fetcher:
        photo = await fetcher.fetch(event(uri, sha256))
    assert photo.photo_id == "p1"
    assert photo.uri == uri
    return photo.body


async def failure(
    uri: str, limits: FetchLimits, resolver: AbstractResolver | None = None, sha256: str | None = None
) -> PhotoRejected | Retryable:
    with pytest.raises((PhotoRejected, Retryable)) as caught:
        await fetch(uri, limits, resolver, sha256)
    assert "hunter2" not in str(caught.value)
    assert "X-Signature" not in str(caught.value)
    return caught.value


async def rejected(
    uri: str, limits: FetchLimits, resolver: AbstractResolver | None = None, sha256: str | None = None
) -> str:
    error = await failure(uri, limits, resolver, sha256)
    assert isinstance(error, PhotoRejected), error
    return error.reason


async def retryable(uri: str, limits: FetchLimits, resolver: AbstractResolver | None = None) -> str:
    error = await failure(uri, limits, resolver)
    assert isinstance(error, Retryable), error
    return error.reason


class Names(AbstractResolver):
    """A DNS server that gives each name its answers in turn, the last one for ever."""

    def __init__(self, **answers: list[str]) -> None:
        self._answers = {name.replace("_", "."): list(addresses) for name, addresses in answers.items()}
        self.asked: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - the interface's
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self._answers.get(host.lower())
        if not answers:
            raise OSError(None, "Name or service not known")
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
        ]

    async def close(self) -> None:
        pass


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

    async def test_the_query_reaches_the_host_as_it_was_written(self, host: Host) -> None:
        host.serve("/a%2Fb", response("200 OK", BODY))
        query = "?X-Sig=a%2Fb%3D+c&empty=&%41"
        await fetch(host.url("/a%2Fb") + query, limits_for(host))
        assert host.requests[0].split()[1].decode() == "/a%2Fb" + query

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

    @pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip", "x" * 500])
    async def test_an_encoded_body_is_refused(self, host: Host, encoding: str) -> None:
        raw = response("200 OK", b"\x1f\x8b", Content_Encoding=encoding)
        assert await rejected(host.serve("/a", raw), limits_for(host)) == "content_encoding"

    async def test_identity_is_no_encoding(self, host: Host) -> None:
        assert (
            await fetch(host.serve("/a", response("200 OK", BODY, Content_Encoding="identity")), limits_for(host))
            == BODY
        )


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
    async def test_a_passing_error_is_retried(self, host: Host, status: str) -> None:
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


class TestRedirects:
    @pytest.mark.parametrize(
        "status",
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"],
    )
    async def test_redirects_are_followed(self, host: Host, status: str) -> None:
        host.serve("/photo.jpg", response("200 OK", BODY))
        assert await fetch(host.serve("/a", redirect("photo.jpg", status)), limits_for(host)) == BODY
        assert await fetch(host.serve("/b", redirect(host.url(), status)), limits_for(host)) == BODY

    async def test_as_many_redirects_as_allowed_are_followed(self, host: Host) -> None:
        host.serve("/0", response("200 OK", BODY))
        for hop in range(1, 5):
            host.serve(f"/{hop}", redirect(f"/{hop - 1}"))
        assert await fetch(host.url("/3"), limits_for(host)) == BODY
        assert await rejected(host.url("/4") + SECRET, limits_for(host)) == "too_many_redirects"
        assert await rejected(host.url("/1"), limits_for(host, max_redirects=0)) == "too_many_redirects"

    async def test_a_loop_ends(self, host: Host) -> None:
        assert await rejected(host.serve("/a", redirect("/a")), limits_for(host)) == "too_many_redirects"
        assert len(host.requests) == 4

    @pytest.mark.parametrize(
        ("location", "reason"),
        [
            ("http://127.0.0.1:1/a", "address_not_allowed"),
            ("http://[::1]/a", "address_not_allowed"),
            ("http://[::ffff:127.0.0.1]/a", "address_not_allowed"),
            ("http://169.254.169.254/latest/meta-data", "address_not_allowed"),
            ("//10.0.0.1/a", "address_not_allowed"),
            ("http://2130706433/a", "url_not_allowed"),
            ("file:///etc/passwd", "url_not_allowed"),
            ("ftp://127.0.0.1/a", "url_not_allowed"),
            ("http://user:hunter2@127.0.0.1/a", "url_not_allowed"),
            ("http://[broken/a", "url_not_allowed"),
        ],
    )
    async def test_a_redirect_is_checked_like_the_first_url(
        self, host: Host, tmp_path: Path, location: str, reason: str
    ) -> None:
        limits = limits_for(host, schemes=("https", "http", "file"), file_root=tmp_path.anchor)
        assert await rejected(host.serve("/a", redirect(location)), limits) == reason

    async def test_a_redirect_to_a_scheme_that_is_not_allowed_is_refused(self, host: Host) -> None:
        assert (
            await rejected(host.serve("/a", redirect("https://127.0.0.1/a")), limits_for(host, schemes=("http",)))
            == "url_not_allowed"
        )

    async def test_a_redirect_to_nowhere_is_malformed(self, host: Host) -> None:
        assert await retryable(host.serve("/a", response("302 Found")), limits_for(host)) == "malformed_response"


class TestAddresses:
    @pytest.mark.parametrize(
        "place",
        [
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "10.0.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "[fd00:ec2::254]",
            "0.0.0.0",
            "100.64.0.1",
            "[fe80::1]",
            "[::127.0.0.1]",
            "224.0.0.1",
        ],
    )
    async def test_addresses_of_our_own_are_refused(self, place: str) -> None:
        assert await rejected(f"http://{place}/a{SECRET}", FetchLimits(schemes=("http",))) == "address_not_allowed"

    @pytest.mark.parametrize("place", ["127.0.0.1", "10.1.1.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
    async def test_a_name_is_judged_by_the_address_that_it_leads_to(self, place: str) -> None:
        names = Names(photos_example=[place])
        assert (
            await rejected(f"http://photos.example/a{SECRET}", FetchLimits(schemes=("http",)), names)
            == "address_not_allowed"
        )

    async def test_a_name_that_changes_its_address_is_refused_at_the_second_one(self) -> None:
        async with hosting("127.0.0.2") as outside:
            names = Names(rebinding_example=["127.0.0.2", "127.0.0.1"])
            uri = outside.serve("/a", response("200 OK", BODY, Connection="close")).replace(
                "127.0.0.2", "rebinding.example"
            )
            limits = limits_for(outside, allow_addresses=("127.0.0.2/32",))
            assert await fetch(uri, limits, names) == BODY
            assert await rejected(uri, limits, names) == "address_not_allowed"

    async def test_a_public_first_answer_is_no_pass_for_a_private_second_one(self, host: Host) -> None:
        names = Names(rebinding_example=["93.184.216.34", "127.0.0.1"])
        assert (await names.resolve("rebinding.example"))[0]["host"] == "93.184.216.34"
        limits = limits_for(host, allow_addresses=())
        assert await rejected(host.url("/photo.jpg", "rebinding.example"), limits, names) == "address_not_allowed"
        assert host.requests == []

    async def test_a_redirect_to_a_name_inside_is_refused(self, host: Host) -> None:
        names = Names(inside_example=["10.0.0.7"])
        assert (
            await rejected(host.serve("/a", redirect("http://inside.example/")), limits_for(host), names)
            == "address_not_allowed"
        )

    async def test_a_host_is_allowed_by_its_name_and_port(self, host: Host) -> None:
        host.serve("/a", response("200 OK", BODY))
        names = Names(minio_internal=["127.0.0.1"], other_internal=["127.0.0.1"])
        limits = limits_for(host, allow_addresses=(f"minio.internal:{host.port}",))
        assert await fetch(host.url("/a", "MINIO.internal"), limits, names) == BODY
        assert await rejected(host.url("/a", "other.internal"), limits, names) == "address_not_allowed"
        assert await rejected(host.url("/a"), limits, names) == "address_not_allowed"

    async def test_metadata_is_refused_though_everything_is_allowed(self) -> None:
        limits = FetchLimits(
            schemes=("http",), allow_addresses=("0.0.0.0/0", "169.254.169.254:80", "metadata.internal:80")
        )
        names = Names(metadata_internal=["169.254.169.254"])
        assert await rejected("http://169.254.169.254/latest", limits) == "address_not_allowed"
        assert await rejected("http://metadata.internal/latest", limits, names) == "address_not_allowed"

    @pytest.mark.parametrize(
        "uri",
        [
            "http://user@h/",
            "http://:hunter2@h/",
            "http://@h/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://127.1/",
            "http:///a",
            "https:a",
            "data:image/png;base64,AAAA",
            "gopher://h/",
            "//h/a",
            "/etc/passwd",
            "http://h\x00/",
            "http://h/a\r\nX: y",
            "http://h /",
            "s3://b/k",
            "http://h:99999/",
            "http://[::1/",
            "http://a..b/",
            "http://" + "a" * 300 + "/",
            "http://evil\\@h/",
            "",
            "http://�/",
        ],
    )
    async def test_a_uri_that_is_no_plain_url_is_refused(self, uri: str) -> None:
        names = Names(h=["93.184.216.34"])
        assert await rejected(uri, FetchLimits(schemes=("http", "https")), names) == "url_not_allowed"
        assert names.asked == []

    async def test_only_https_is_allowed_unless_told(self, host: Host) -> None:
        assert await rejected(host.url(), FetchLimits(allow_addresses=("127.0.0.0/8",))) == "url_not_allowed"

    def test_an_allowed_address_that_cannot_be_read_is_named_at_once(self) -> None:
        with pytest.raises(ValueError, match="'localhost'"):
            Fetcher(FetchLimits(allow_addresses=("localhost",)))


class TestFiles:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "photos"
        root.mkdir()
        (root / "a b.jpg").write_bytes(BODY)
        (tmp_path / "secret").write_bytes(b"hunter2")
        (tmp_path / "photos-too").mkdir()
        (tmp_path / "photos-too" / "a").write_bytes(b"hunter2")
        return root

    @staticmethod
    def limits(root: Path | None, **changes: object) -> FetchLimits:
        return FetchLimits(schemes=("file",), file_root=root, **changes)

    async def test_a_file_below_the_root_is_read(self, root: Path) -> None:
        assert await fetch(f"file://{root}/a%20b.jpg", self.limits(root)) == BODY
        assert await fetch(f"file://localhost{root}/x/../a%20b.jpg", self.limits(root)) == BODY

    async def test_a_link_inside_the_root_is_followed(self, root: Path) -> None:
        (root / "link").symlink_to(root / "a b.jpg")
        assert await fetch(f"file://{root}/link", self.limits(root)) == BODY

    @pytest.mark.parametrize(
        "path", ["/../secret", "/%2e%2e/secret", "/out", "/out-folder/secret", "-too/a", "", "/x\0y", "/%00"]
    )
    async def test_nothing_outside_the_root_is_read(self, root: Path, path: str) -> None:
        (root / "out").symlink_to(root.parent / "secret")
        (root / "out-folder").symlink_to(root.parent)
        assert await rejected(f"file://{root}{path}", self.limits(root)) == "url_not_allowed"

    @pytest.mark.parametrize("place", ["/etc/passwd", "/proc/self/environ", "/dev/zero"])
    async def test_system_files_are_not_read(self, root: Path, place: str) -> None:
        assert await rejected(f"file://{place}", self.limits(root)) == "url_not_allowed"

    async def test_without_a_root_or_the_scheme_no_file_is_read(self, root: Path) -> None:
        assert await rejected(f"file://{root}/a%20b.jpg", self.limits(None)) == "url_not_allowed"
        assert await rejected(f"file://{root}/a%20b.jpg", FetchLimits(file_root=root)) == "url_not_allowed"
        assert await rejected(f"file://host{root}/a%20b.jpg", self.limits(root)) == "url_not_allowed"

    async def test_only_regular_files_are_read(self, root: Path) -> None:
        os.mkfifo(root / "pipe")
        (root / "folder").mkdir()
        for name in ("pipe", "folder"):
            assert await rejected(f"file://{root}/{name}", self.limits(root)) == "url_not_allowed"

    async def test_a_missing_file_is_like_a_missing_page(self, root: Path) -> None:
        for name in ("none.jpg", "a%20b.jpg/none", "n" * 300):
            assert await rejected(f"file://{root}/{name}", self.limits(root)) == "http_4xx"

    async def test_the_bytes_of_a_file_are_bounded(self, root: Path) -> None:
        uri = f"file://{root}/a%20b.jpg"
        assert await fetch(uri, self.limits(root, max_bytes=len(BODY))) == BODY
        assert await rejected(uri, self.limits(root, max_bytes=len(BODY) - 1)) == "too_many_bytes"

    async def test_an_empty_file_is_an_empty_body(self, root: Path) -> None:
        (root / "empty").touch()
        assert await rejected(f"file://{root}/empty", self.limits(root)) == "empty_body"


async def test_one_fetcher_serves_many_photos_at_once(host: Host) -> None:
    bodies = {f"/{number}": BODY + str(number).encode() for number in range(50)}
    for path, body in bodies.items():
        host.serve(path, response("200 OK", body))
    async with Fetcher(limits_for(host)) as fetcher:
        photos = await asyncio.gather(*(fetcher.fetch(event(host.url(path))) for path in bodies))
    assert [photo.body for photo in photos] == list(bodies.values())
