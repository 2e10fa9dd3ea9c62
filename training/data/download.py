"""HTTP downloads: whole bodies within limits of size and time, from allowed URLs.

`fetch` returns a body after one attempt. `save` writes a file: with a limited request rate, retries with back-off, and
resumption of partial downloads.
"""

import io
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any, Final, Literal
from urllib import request
from urllib.error import HTTPError
from urllib.parse import urlsplit

from training.errors import Unreadable
from training.serving.files import sha256

#: Raises Unreadable for a URL that must not be requested.
Allowed = Callable[[str], None]

_CHUNK: Final = 65_536
_SCHEMES: Final = frozenset({"http", "https"})
#: Status codes that are not retried, refused redirects among them; every other failure may be transient.
_FINAL: Final = frozenset({301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 410, 414, 451})
_RANGE_WRONG, _WHOLE, _PARTIAL = 416, 200, 206
_MOST_PAUSE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a download."""

    #: Requests that may start within any window of `per_s` seconds.
    requests: int = 5
    per_s: float = 5.0
    attempts: int = 5
    #: Pause before the second attempt, doubled for each further one; a server's Retry-After takes precedence.
    pause_s: float = 1.0
    #: Longest wait for the next bytes.
    timeout_s: float = 20.0
    #: Deadline of one attempt: redirects, headers and body together.
    total_s: float = 300.0
    most_bytes: int = 64_000_000
    #: Concurrent downloads.
    connections: int = 4


class Pace:
    """Rate limiter, shared by threads: at most `requests` start within any `per_s`."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._per_s, self._clock, self._sleep = limits.per_s, clock, sleep
        self._recent: deque[float] = deque(maxlen=limits.requests)
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Returns when the next request may start."""
        with self._lock:  # held while waiting, so that requests start in the order of their calls
            if len(self._recent) == self._recent.maxlen:
                self._sleep(max(0.0, self._recent[0] + self._per_s - self._clock()))
            self._recent.append(self._clock())


@dataclass(frozen=True, slots=True)
class Saved:
    """The outcome of a download; `gone` is final, `failed` may be retried."""

    status: Literal["done", "gone", "failed"]
    size_bytes: int = 0
    sha256: str = ""
    #: The URL after redirects.
    final_url: str = ""
    reason: str = ""


class _Broken(Exception):
    """A transient failure of an attempt."""


class _TimedReader(io.RawIOBase):
    """Reads from a socket until the deadline, however slowly bytes arrive."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, limits: Limits, deadline: float) -> None:
        self._raw, self._sock, self._limits, self._deadline = raw, sock, limits, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - a writable buffer
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not done after {self._limits.total_s:g} s")
        self._sock.settimeout(min(self._limits.timeout_s, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Bounded(request.HTTPSHandler, request.HTTPHandler):
    """urllib's handler of http and https whose responses, headers included, are read through `_TimedReader`."""

    def __init__(self, limits: Limits, deadline: float) -> None:
        super().__init__()
        self._limits, self._deadline = limits, deadline

    def do_open(self, http_class: Callable[..., HTTPConnection], req: request.Request, **options: Any) -> HTTPResponse:  # noqa: ANN401 - urllib's own
        def response(sock: socket.socket, *args: Any, **named: Any) -> HTTPResponse:  # noqa: ANN401 - http.client's own
            made = HTTPResponse(sock, *args, **named)
            made.fp = io.BufferedReader(_TimedReader(made.fp.detach(), sock, self._limits, self._deadline))
            return made

        def connection(host: str, **named: Any) -> HTTPConnection:  # noqa: ANN401 - as above
            made = http_class(host, **named)
            made.response_class = response  # type: ignore[assignment]  # a class is wanted, and only called
            return made

        return super().do_open(connection, req, **options)


class _Redirects(request.HTTPRedirectHandler):
    """Follows redirects only to allowed http(s) URLs."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed

    def redirect_request(  # noqa: PLR0917 - the library's own signature
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> request.Request | None:
        fp.close()  # urllib would read its body, however large
        _check(newurl, self._allowed)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def anywhere(_url: str) -> None:
    """Allows every URL."""


def _check(url: str, allowed: Allowed) -> None:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError("only http: and https: are fetched")
    if "@" in parts.netloc:
        raise ValueError("a URL with a user name is not fetched")
    allowed(url)


def fetch(url: str, limits: Limits, allowed: Allowed = anywhere) -> bytes:
    """The whole body behind a URL, in one attempt.

    Args:
        url: http or https.
        limits: Bounds of size and time.
        allowed: Called with the URL and with the target of each redirect.

    Raises:
        Unreadable: Not http(s), not allowed, no response, an error status, an incomplete or empty body, too slow, or
            too large.
    """
    try:
        with _opened(url, {}, limits, allowed) as answer:
            return b"".join(_chunks(answer, limits, 0))
    except (OSError, HTTPException, ValueError, _Broken) as error:
        if isinstance(error, HTTPError):
            error.close()
        # without the query: it may hold a signature
        raise Unreadable(f"{url.partition('?')[0]}: {error}") from None


def _opened(url: str, headers: Mapping[str, str], limits: Limits, allowed: Allowed = anywhere) -> HTTPResponse:
    """The response to a request, its body still to be read.

    Raises:
        _Broken: A success status other than 200, or 206 for a range.
    """
    _check(url, allowed)
    deadline = time.monotonic() + limits.total_s
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        _Bounded(limits, deadline),
        request.HTTPDefaultErrorHandler(),
        _Redirects(allowed),
        request.HTTPErrorProcessor(),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    asked = request.Request(url, headers={"User-Agent": "photo-trainer", **headers})  # noqa: S310 - checked above
    answer: HTTPResponse = opener.open(asked, timeout=min(limits.timeout_s, limits.total_s))
    if answer.status != _WHOLE and not (answer.status == _PARTIAL and "Range" in headers):
        answer.close()
        raise _Broken(f"status {answer.status}")
    return answer


def _chunks(answer: HTTPResponse, limits: Limits, before: int) -> Iterator[bytes]:
    """The body in chunks; `before` bytes of it were received earlier.

    Yields:
        Bytes.

    Raises:
        _Broken: The body is incomplete or empty.
        ValueError: It is too large.
    """
    size = before
    announced = None if answer.chunked else answer.headers.get("Content-Length")
    whole = before + int(announced) if announced is not None else None
    if whole is not None and whole > limits.most_bytes:
        raise ValueError(f"{whole} bytes are more than {limits.most_bytes}")
    while chunk := answer.read1(_CHUNK):
        size += len(chunk)
        if size > limits.most_bytes:
            raise ValueError(f"more than {limits.most_bytes} bytes")
        yield chunk
    if whole is not None and size != whole:
        raise _Broken(f"{size} of {whole} bytes")
    if not size:
        raise _Broken("empty body")


def save(url: str, path: Path, limits: Limits, pace: Pace, sleep: Callable[[float], None] = time.sleep) -> Saved:
    """Downloads to a file, which is replaced atomically.

    A partial download is kept beside it and resumed, also by a later process, if the content is unchanged (If-Range).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, reason = path.with_name(f".{path.name}.part"), ""
    for attempt in range(limits.attempts):
        pace.wait()
        try:
            return _attempt(url, path, part, limits)
        except HTTPError as error:
            error.close()
            if error.code in _FINAL:
                return Saved("gone", reason=f"status {error.code}")
            pause = error.headers.get("Retry-After", "")  # seconds; a date is ignored
            reason, pause_s = f"status {error.code}", float(pause) if pause.isdigit() else 0.0
            if error.code == _RANGE_WRONG:
                part.unlink(missing_ok=True)
        except ValueError as error:
            return Saved("gone", reason=str(error))
        except (OSError, HTTPException, _Broken) as error:
            reason, pause_s = f"{type(error).__name__.lstrip('_')}: {error}", 0.0
        if attempt + 1 < limits.attempts:
            sleep(min(_MOST_PAUSE_S, pause_s or limits.pause_s * 2**attempt))
    return Saved("failed", reason=reason)


def _attempt(url: str, path: Path, part: Path, limits: Limits) -> Saved:
    """One attempt of `save`.

    Raises:
        _Broken: The body is incomplete, or of another range than was requested.
    """
    validator = path.with_name(f".{path.name}.validator")
    known = validator.read_text() if validator.is_file() and part.is_file() else ""
    headers = {"Range": f"bytes={part.stat().st_size}-", "If-Range": known} if known else {}
    with _opened(url, headers, limits) as answer:
        resumed = answer.status == _PARTIAL
        before = part.stat().st_size if resumed else 0
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {before}-"):
            part.unlink()
            raise _Broken("another range than was requested")
        etag = answer.headers.get("ETag", "")
        strong = "" if etag.startswith("W/") else etag
        validator.write_text(strong or answer.headers.get("Last-Modified", ""))
        with part.open("ab" if resumed else "wb") as stream:
            for chunk in _chunks(answer, limits, before):
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        final = answer.geturl()
    size, digest = part.stat().st_size, sha256(part)
    part.rename(path)
    validator.unlink(missing_ok=True)
    return Saved("done", size, digest, final)
