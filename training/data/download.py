"""The one HTTP reader: whole bodies within bounds of size and time, from allowed places; `save` is polite and resumes.

`save` starts so many requests in so many seconds, retries with pauses, and goes on where a download broke off.
"""

import hashlib
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

#: Raises Unreadable for an address that must not be asked.
Allowed = Callable[[str], None]

_CHUNK: Final = 65_536
_SCHEMES: Final = frozenset({"http", "https"})
#: Answers after which asking again is no use: refused redirects among them; everything else may pass.
_FINAL: Final = frozenset({301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 410, 414, 451})
_RANGE_WRONG, _WHOLE, _PARTIAL = 416, 200, 206
_MOST_PAUSE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a download may take."""

    #: At most so many requests start within any `per_s`.
    requests: int = 5
    per_s: float = 5.0
    attempts: int = 5
    #: Pause before the second attempt, doubled before each further one; a server's Retry-After goes before it.
    pause_s: float = 1.0
    #: Of silence.
    timeout_s: float = 20.0
    #: Of one attempt, redirects, headers and body together.
    total_s: float = 300.0
    most_bytes: int = 64_000_000
    #: Downloads at a time.
    connections: int = 4


class Pace:
    """Lets at most `requests` through in any `per_s`, whichever threads ask."""

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
        with self._lock:  # while one waits, all do: the order of asking is kept
            if len(self._recent) == self._recent.maxlen:
                self._sleep(max(0.0, self._recent[0] + self._per_s - self._clock()))
            self._recent.append(self._clock())


@dataclass(frozen=True, slots=True)
class Saved:
    """How a download ended; `gone` is final, `failed` may be tried again."""

    status: Literal["done", "gone", "failed"]
    size_bytes: int = 0
    sha256: str = ""
    #: Where redirects led.
    final_url: str = ""
    reason: str = ""


class _Broken(Exception):
    """An attempt that failed and may be repeated after a pause."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class _TimedReader(io.RawIOBase):
    """What a socket receives; no wait lasts beyond the deadline, however slowly bytes drip."""

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


class _Bounded:
    """A handler of urllib whose answers, headers included, are read through `_TimedReader`."""

    def __init__(self, limits: Limits, deadline: float) -> None:
        super().__init__()
        self._limits, self._deadline = limits, deadline

    def do_open(self, http_class: Callable[..., HTTPConnection], req: request.Request, **options: Any) -> HTTPResponse:  # noqa: ANN401 - urllib's own
        def answer(sock: socket.socket, *args: Any, **named: Any) -> HTTPResponse:  # noqa: ANN401 - http.client's own
            made = HTTPResponse(sock, *args, **named)
            made.fp = io.BufferedReader(_TimedReader(made.fp.detach(), sock, self._limits, self._deadline))
            return made

        def connection(host: str, **named: Any) -> HTTPConnection:  # noqa: ANN401 - as above
            made = http_class(host, **named)
            made.response_class = answer  # type: ignore[assignment]  # a class is wanted, and only called
            return made

        done: HTTPResponse = super().do_open(connection, req, **options)  # type: ignore[misc]  # the handler's
        return done


class _Http(_Bounded, request.HTTPHandler):
    pass


class _Https(_Bounded, request.HTTPSHandler):
    pass


class _Redirects(request.HTTPRedirectHandler):
    """Follows only to http(s) addresses that are allowed."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed

    def redirect_request(  # noqa: PLR0917 - the library's own signature
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> request.Request | None:
        fp.close()  # urllib would read its body, however large
        _check(newurl, self._allowed)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def anywhere(_url: str) -> None:
    """Allows every address."""


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
        allowed: Is asked about the URL, and about each that a redirect leads to.

    Raises:
        Unreadable: No http(s), not allowed, no answer, an error, cut off, empty, too slow, or too large.
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
    """The answer to a request, whose body can be read.

    Raises:
        _Broken: A success without the body that was asked for.
    """
    _check(url, allowed)
    deadline = time.monotonic() + limits.total_s
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        _Http(limits, deadline),
        _Https(limits, deadline),
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
    """The body, bounded in size; `before` bytes of it are here already.

    Yields:
        Bytes.

    Raises:
        _Broken: The connection ended early, or there is no body.
        ValueError: More bytes than allowed.
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
    """Downloads to a file that appears whole or not at all.

    What came before a break is kept beside it and gone on with, also by a later process, if the server still has the
    same content (If-Range).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    for attempt in range(limits.attempts):
        pace.wait()
        try:
            return _attempt(url, path, limits)
        except HTTPError as error:
            error.close()
            if error.code in _FINAL:
                return Saved("gone", reason=f"status {error.code}")
            reason, pause_s = f"status {error.code}", _retry_after(error)
            if error.code == _RANGE_WRONG:
                _part(path).unlink(missing_ok=True)
        except ValueError as error:
            return Saved("gone", reason=str(error))
        except (OSError, HTTPException, _Broken) as error:
            reason, pause_s = f"{type(error).__name__.lstrip('_')}: {error}", 0.0
        if attempt + 1 < limits.attempts:
            sleep(min(_MOST_PAUSE_S, pause_s or limits.pause_s * 2**attempt))
    return Saved("failed", reason=reason)


def _retry_after(error: HTTPError) -> float:
    """Seconds that a server asks for; 0 where it does not, or gives a date."""
    value = error.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _attempt(url: str, path: Path, limits: Limits) -> Saved:
    """One request and what it brings.

    Raises:
        _Broken: It broke off, or the server sent another range than was asked for.
    """
    part, validator = _part(path), path.with_name(f".{path.name}.validator")
    known = validator.read_text() if validator.is_file() and part.is_file() else ""
    headers = {"Range": f"bytes={part.stat().st_size}-", "If-Range": known} if known else {}
    with _opened(url, headers, limits) as answer:
        goes_on = answer.status == _PARTIAL
        before = part.stat().st_size if goes_on else 0
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {before}-"):
            part.unlink()
            raise _Broken("a range that was not asked for")
        etag = answer.headers.get("ETag", "")
        strong = "" if etag.startswith("W/") else etag
        validator.write_text(strong or answer.headers.get("Last-Modified", ""))
        with part.open("ab" if goes_on else "wb") as stream:
            for chunk in _chunks(answer, limits, before):
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        final = answer.geturl()
    with part.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = part.stat().st_size
    part.rename(path)
    validator.unlink(missing_ok=True)
    return Saved("done", size, digest, final)
