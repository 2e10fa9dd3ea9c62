"""Bytes come whole, from allowed places, within their bounds, or not at all; a `file:` URI is read as what it names."""

import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from training.data.download import Limits, Pace, fetch, save
from training.data.read import path_of, read_bytes
from training.errors import Unreadable

BODY = b"pixels" * 1000
LENGTH = f"Content-Length: {len(BODY)}\r\n".encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n"
#: Well above what a busy machine takes to answer, well under what a drip would last.
QUICK = Limits(requests=1000, attempts=2, timeout_s=5.0, total_s=0.4, pause_s=0.0)
PATIENT = Limits(requests=1000, attempts=2, pause_s=0.0)


def head(status: str = "200 OK", *headers: bytes) -> bytes:
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + b"".join(headers) + b"\r\n"


def chunk(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


@contextmanager
def raw_host(*sent: bytes, drip: bytes = b"") -> Iterator[str]:
    """A server that sends these bytes for every request, then `drip` over and over until the client has gone."""
    done = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            try:
                for part in sent:
                    self.wfile.write(part)
                while drip and not done.wait(0.01):
                    self.wfile.write(drip)
            except OSError:
                pass  # the client has seen enough

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/photo"
        finally:
            done.set()
            server.shutdown()
            thread.join()


def saved(url: str, folder: Path, limits: Limits) -> str:
    return save(url, folder / "photo.jpg", limits, Pace(limits), sleep=lambda _s: None).reason


@pytest.mark.parametrize(
    "answer",
    [
        head("200 OK", LENGTH) + BODY,
        head("200 OK", CHUNKED) + chunk(BODY[:7]) + chunk(BODY[7:]) + b"0\r\n\r\n",
        head("200 OK", CHUNKED, b"Content-Length: 5\r\n") + chunk(BODY) + b"0\r\n\r\n",
        head() + BODY,
    ],
    ids=["length", "chunked", "chunked and a length", "until the end"],
)
def test_a_whole_body_is_read(answer: bytes, tmp_path: Path) -> None:
    with raw_host(answer) as url:
        assert fetch(url, PATIENT) == read_bytes(url) == BODY
        assert saved(url, tmp_path, PATIENT) == ""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (head("200 OK", LENGTH) + BODY[:-1], f"{len(BODY) - 1} of {len(BODY)} bytes"),
        (head("200 OK", CHUNKED) + chunk(BODY), "IncompleteRead"),
        (head("200 OK", CHUNKED) + chunk(BODY)[:-30], "IncompleteRead"),
        (head("200 OK", b"Content-Length: 0\r\n"), "empty body"),
        (head(), "empty body"),
        (head("204 No Content"), "status 204"),
        (head("206 Partial Content", LENGTH) + BODY, "status 206"),
        (head("304 Not Modified"), "304"),
        (head("302 Found"), "302"),
        (head("200 OK", b"Content-Length: many\r\n") + BODY, "many"),
        (b"", "closed connection"),
        (b"HTTP/1.1 200", "closed|Incomplete|empty|Reset"),
    ],
)
def test_what_is_no_whole_body_is_refused(answer: bytes, reason: str, tmp_path: Path) -> None:
    with raw_host(answer) as url:
        with pytest.raises(Unreadable, match=reason):
            read_bytes(url)
        assert saved(url, tmp_path, PATIENT)
    assert not (tmp_path / "photo.jpg").exists()


@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (head("100 Continue"), head("100 Continue")),
        (head("200 OK", LENGTH), b"x"),
        (head(), b"x"),
        (head("200 OK", CHUNKED), chunk(b"x")),
        (head("200 OK", CHUNKED), b"0"),
        (head("200 OK", CHUNKED) + chunk(BODY) + b"0\r\n", b"a: b\r\n"),
        (head("302 Found", b"Location: /photo\r\n"), b"x"),
    ],
    ids=["header", "interim", "length", "until the end", "chunks", "chunk size", "trailers", "redirects"],
)
def test_a_drip_ends_in_time(sent: bytes, drip: bytes, tmp_path: Path) -> None:
    started = time.monotonic()
    with raw_host(sent, drip=drip) as url:
        with pytest.raises(Unreadable):
            read_bytes(url, QUICK)
        assert saved(url, tmp_path, QUICK)
    assert time.monotonic() - started < 10 * QUICK.total_s


@pytest.mark.parametrize(
    "answer",
    [
        head("200 OK", LENGTH),  # refused before a byte of it comes
        head() + BODY,
        head("200 OK", CHUNKED) + chunk(BODY) + b"0\r\n\r\n",
    ],
    ids=["announced", "until the end", "chunked"],
)
def test_a_body_over_the_bound_is_refused(answer: bytes, tmp_path: Path) -> None:
    small = Limits(requests=1000, most_bytes=len(BODY) - 1, attempts=1)
    with raw_host(answer) as url:
        with pytest.raises(Unreadable, match="more than"):
            read_bytes(url, small)
        assert "more than" in saved(url, tmp_path, small)


def test_every_redirect_is_asked_about_before_it_is_followed() -> None:
    asked: list[str] = []

    def allowed(url: str) -> None:
        asked.append(url)
        if url.endswith("/secret"):
            raise Unreadable("not allowed")

    with raw_host(head("200 OK", LENGTH) + BODY) as far:
        secret = far.replace("/photo", "/secret")
        with raw_host(head("302 Found", f"Location: {far}\r\n".encode())) as near:
            assert fetch(near, PATIENT, allowed) == BODY
        with (
            raw_host(head("307 Temporary Redirect", f"Location: {secret}\r\n".encode())) as nearer,
            pytest.raises(Unreadable, match="not allowed"),
        ):
            fetch(nearer, PATIENT, allowed)
        with pytest.raises(Unreadable, match="not allowed"):
            fetch(secret, PATIENT, allowed)
    assert asked == [near, far, nearer, secret, secret]


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "http://a@127.0.0.1/"])
def test_no_redirect_leaves_http(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refuse_all: Callable[[str], None]
) -> None:
    with raw_host(head("200 OK", LENGTH) + BODY) as proxy:
        for name in ("file_proxy", "ftp_proxy", "data_proxy"):
            monkeypatch.setenv(name, proxy)
        with raw_host(head("302 Found", f"Location: {target}\r\n".encode())) as url:
            with pytest.raises(Unreadable):
                fetch(url, PATIENT)
            assert saved(url, tmp_path, PATIENT)
    with pytest.raises(Unreadable):
        fetch(target, PATIENT, refuse_all)


@pytest.fixture
def refuse_all() -> Callable[[str], None]:
    def refuse(_url: str) -> None:
        raise AssertionError("asked about what is never fetched")

    return refuse


def test_a_redirects_own_body_is_not_read() -> None:
    with (
        raw_host(head("200 OK", LENGTH) + BODY) as far,
        raw_host(head("302 Found", f"Location: {far}\r\n".encode()), drip=b"x" * 65_536) as url,
    ):
        assert fetch(url, PATIENT) == BODY


def test_a_signature_in_a_url_is_not_repeated_in_the_reason() -> None:
    with raw_host(head("404 Not Found")) as url, pytest.raises(Unreadable) as raised:
        fetch(f"{url}?signature=abc", PATIENT)
    assert "signature" not in str(raised.value)
    assert url in str(raised.value)


@pytest.mark.parametrize(
    "name", ["plain.jpg", "a b.jpg", "what?.jpg", "no#1.jpg", "100%.jpg", "%41.jpg", "é.jpg", "a?b#c%20d.jpg"]
)
def test_a_file_is_read_by_its_path_and_by_its_uri(name: str, tmp_path: Path) -> None:
    (tmp_path / "what").write_bytes(b"another")
    (tmp_path / "no").write_bytes(b"another")
    path = tmp_path / name
    path.write_bytes(BODY)
    uri = path.as_uri()
    for text in (str(path), uri, uri.replace("file://", "file://localhost"), uri.replace("file://", "file:")):
        assert read_bytes(text) == BODY
    assert path_of(uri) == path_of(str(path)) == path


def test_a_name_that_is_not_utf_8_is_percent_encoded_and_leads_to_no_other(tmp_path: Path) -> None:
    (tmp_path / "caf\ufffd.jpg").write_bytes(b"another")
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    path.write_bytes(BODY)
    assert path.as_uri().endswith("/caf%E9.jpg")
    assert read_bytes(path.as_uri()) == BODY


@pytest.mark.parametrize("mark", ["?", "#"])
def test_a_file_uri_has_no_query_and_no_fragment(mark: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"another")
    (tmp_path / f"a{mark}b.jpg").write_bytes(BODY)
    assert read_bytes(f"file://{tmp_path}/a{mark}b.jpg") == BODY


def test_a_file_of_another_machine_an_empty_one_a_large_one_and_what_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(BODY)
    os.mkfifo(tmp_path / "pipe")
    for uri, reason in (
        (f"file://elsewhere{tmp_path}/large", "without the host elsewhere"),
        (f"{tmp_path}/empty", "empty"),
        (f"{tmp_path}/large", "more than"),
        (f"{tmp_path}/missing", "FileNotFoundError"),
        (f"{tmp_path}/pipe", "not a file"),
        (str(tmp_path), "not a file"),
        (f"{tmp_path}/a\0b", "ValueError"),
        (f"file://{tmp_path}/a%00b", "ValueError"),
    ):
        with pytest.raises(Unreadable, match=reason):
            read_bytes(uri, Limits(most_bytes=len(BODY) - 1))
