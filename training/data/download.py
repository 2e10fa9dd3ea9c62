"""Polite downloads: so many requests in so many seconds, retried with pauses, resumed where they broke off."""

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Final, Literal
from urllib import request
from urllib.error import HTTPError

from training.errors import Unreadable

_CHUNK: Final = 65_536
#: Answers after which asking again is no use; everything else from 400 may pass.
_FINAL: Final = frozenset({400, 401, 403, 404, 405, 406, 410, 414, 451})
_TOO_MANY, _RANGE_WRONG, _PARTIAL = 429, 416, 206
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
    #: Of one attempt.
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


def _opener() -> request.OpenerDirector:
    """HTTP and HTTPS alone, redirects among them included."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPRedirectHandler(),
        request.HTTPErrorProcessor(),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def fetch(url: str, limits: Limits) -> bytes:
    """The body behind a URL, in one attempt.

    Raises:
        Unreadable: No http(s), no answer, an error, too slow, or too large.
    """
    try:
        with _opened(url, {}, limits) as answer:
            parts = bytearray()
            for chunk in _chunks(answer, limits, 0):
                parts += chunk
    except (OSError, HTTPException, ValueError, _Broken) as error:
        raise Unreadable(f"{url}: {error}") from None
    return bytes(parts)


def _opened(url: str, headers: Mapping[str, str], limits: Limits) -> HTTPResponse:
    if not url.startswith(("http://", "https://")):
        raise ValueError("only http: and https: are fetched")
    asked = request.Request(url, headers={"User-Agent": "photo-trainer", **headers})  # noqa: S310 - checked above
    answer: HTTPResponse = _opener().open(asked, timeout=limits.timeout_s)
    return answer


def _chunks(answer: HTTPResponse, limits: Limits, before: int) -> Iterator[bytes]:
    """The body, bounded in size and time.

    Yields:
        Bytes.

    Raises:
        _Broken: The connection ended early, or the time is up.
        ValueError: More bytes than allowed.
    """
    deadline, size = time.monotonic() + limits.total_s, before
    announced = answer.headers.get("Content-Length")
    whole = before + int(announced) if announced is not None else None
    if whole is not None and whole > limits.most_bytes:
        raise ValueError(f"{whole} bytes are more than {limits.most_bytes}")
    while chunk := answer.read1(_CHUNK):
        size += len(chunk)
        if size > limits.most_bytes:
            raise ValueError(f"more than {limits.most_bytes} bytes")
        yield chunk
        if time.monotonic() > deadline:
            raise _Broken(f"not done after {limits.total_s:g} s")
    if whole is not None and size != whole:
        raise _Broken(f"{size} of {whole} bytes")


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
