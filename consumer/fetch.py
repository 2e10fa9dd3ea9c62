"""The photo's bytes, by the URI in the event: bounded in bytes, time and redirects, and only from where it is allowed.

The address is checked where the socket is made, for every connection and every redirect: a check of the name before
would be overtaken by the next answer of its DNS server, and a resolver hook is not asked for literal addresses.
"""

import asyncio
import hashlib
import os
import socket
import stat
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http_exceptions import PayloadEncodingError
from yarl import URL

from consumer.addresses import AllowList, host_fault, parse_allow_list, refusal
from consumer.errors import PhotoRejected, Retryable, TransientReason
from consumer.events import Photo, PhotoUploaded

_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "photo-tagger"}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BODIES: Final = frozenset({200, 203})
_EMPTY: Final = frozenset({204, 205})
#: Client errors that say "later": timeout, too early, too many requests.
_TRANSIENT: Final = frozenset({408, 425, 429})
#: Of those, the ones that other photos of the host would meet too.
_OF_THE_HOST: Final = frozenset({429})
_HTTP: Final = frozenset({"http", "https"})
#: Failures before an answer that say something of the host, not of the photo.
_HOST_REASONS: Final = frozenset({"dns_failed", "connect_failed", "fetch_timeout"})
_DELETE: Final = 0x7F
_MAX_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Where photos may come from, and how much of everything a fetch may take."""

    schemes: tuple[str, ...] = ("https",)
    file_root: Path | None = None
    allow_addresses: tuple[str, ...] = ()
    max_bytes: int = 20 * 1024 * 1024
    max_redirects: int = 3
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 3.0
    total_timeout_s: float = 10.0


@dataclass(slots=True)
class _Hop:
    """One request under way: what it was asked for, what was refused on its behalf, how far it came."""

    host: str
    refused: list[str] = field(default_factory=list)
    answered: bool = False


#: The request on whose behalf a socket is made; aiohttp connects in the task that asks, or in children of it.
_HOP: Final[ContextVar[_Hop]] = ContextVar("hop")


class Fetcher:
    """Fetches photos over one pool of connections; an async context manager.

    Raises:
        ValueError: an entry of `allow_addresses` cannot be read.
    """

    def __init__(self, limits: FetchLimits, *, resolver: AbstractResolver | None = None) -> None:
        self._limits = limits
        self._allowed: AllowList = parse_allow_list(limits.allow_addresses)
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        limits = self._limits
        self._session = aiohttp.ClientSession(
            # The pipeline bounds the photos in flight; a second bound here would eat into their time limit.
            connector=aiohttp.TCPConnector(limit=0, socket_factory=self._checked_socket, resolver=self._resolver),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=limits.connect_timeout_s, sock_read=limits.read_timeout_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, event: PhotoUploaded) -> Photo:
        """The photo that an event names, checked against its `content_sha256` where it has one.

        Raises:
            PhotoRejected: `url_not_allowed`, `address_not_allowed`, `too_many_redirects`, `http_4xx`, `too_many_bytes`,
                `content_encoding`, `content_mismatch` or `empty_body`; details hold no query and no credentials.
            Retryable: `dns_failed`, `connect_failed`, `fetch_timeout`, `short_body`, `malformed_response`, `http_5xx`.
        """
        limits = self._limits
        url = _parsed(event.uri)
        try:
            async with asyncio.timeout(limits.total_timeout_s):
                if url.scheme == "file":
                    body = await asyncio.to_thread(_read_file, event.uri, limits)
                else:
                    body = await self._follow(url)
        except TimeoutError:
            raise Retryable("fetch_timeout", f"{_shown(url)}: no photo in time") from None
        if not body:
            raise PhotoRejected("empty_body", f"{_shown(url)}: the photo has no bytes")
        if event.content_sha256 is not None:
            digest = await asyncio.to_thread(_sha256, body)
            if digest != event.content_sha256:
                raise PhotoRejected("content_mismatch", f"{len(body)} bytes with SHA-256 {digest}, not the event's")
        return Photo(event.photo_id, event.uri, body)

    async def _follow(self, url: URL) -> bytes:
        for _ in range(self._limits.max_redirects + 1):
            _check_url(url, self._limits)
            answer = await self._request(url)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise PhotoRejected("too_many_redirects", f"{_shown(url)}: more than {self._limits.max_redirects} redirects")

    async def _request(self, url: URL) -> bytes | URL:
        if self._session is None:
            raise RuntimeError("the fetcher is not open: use it as an async context manager")
        hop = _Hop(url.host or "")
        token = _HOP.set(hop)
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                hop.answered = True
                if response.status in _REDIRECTS:
                    return _target(url, response)
                _check_answer(url, response, self._limits.max_bytes)
                return await _read(url, response, self._limits.max_bytes)
        except aiohttp.ClientError as error:
            raise _mapped(error, url, hop) from None
        finally:
            _HOP.reset(token)

    def _checked_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        hop = _HOP.get()
        why = refusal(str(address[0]), hop.host, int(address[1]), self._allowed)
        if why is not None:
            hop.refused.append(f"{address[0]} port {address[1]} is {why}")
            raise PermissionError(f"{why} address")
        return socket.socket(family, kind, protocol)


def _parsed(uri: str) -> URL:
    # Quoting it anew would break signed URLs.
    if any(character <= " " or ord(character) == _DELETE for character in uri):
        raise PhotoRejected("url_not_allowed", "the URI holds spaces or control characters")
    try:
        url = URL(uri, encoded=uri.isascii())
        url.port  # noqa: B018 - yarl looks at the port when it is first asked for
    except ValueError:
        raise PhotoRejected("url_not_allowed", "the URI cannot be read as a URL") from None
    return url


def _check_url(url: URL, limits: FetchLimits) -> None:
    if url.scheme not in _HTTP or url.scheme not in limits.schemes:
        allowed = ", ".join(limits.schemes)
        raise PhotoRejected("url_not_allowed", f"scheme {url.scheme[:20]!r} is not among the allowed ones ({allowed})")
    if "@" in url.raw_authority:
        raise PhotoRejected("url_not_allowed", f"{_shown(url)}: credentials in a URL are not sent")
    if fault := host_fault(url.raw_host or ""):
        raise PhotoRejected("url_not_allowed", f"{_shown(url)}: {fault}")


def _target(url: URL, response: aiohttp.ClientResponse) -> URL:
    location = response.headers.get("Location")
    if not location:
        raise Retryable("malformed_response", f"{_shown(url)}: {_status(response)} without a Location")
    try:
        return url.join(_parsed(location)).with_fragment(None)
    except ValueError:
        raise PhotoRejected("url_not_allowed", f"{_shown(url)}: redirects to what is no URL") from None


def _check_answer(url: URL, response: aiohttp.ClientResponse, max_bytes: int) -> None:
    status, text = response.status, f"{_status(response)} from {_shown(url)}"
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        after = response.headers.get("Retry-After", "")
        after_s = float(after) if after.isdecimal() and len(after) < 7 else None  # noqa: PLR2004 - eleven days
        origin = _origin(url) if status in _OF_THE_HOST or status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
        detail = text if after_s is None else f"{text}, Retry-After {after}"
        raise Retryable("http_5xx", detail, origin=origin, retry_after_s=after_s)
    if status >= HTTPStatus.BAD_REQUEST:
        raise PhotoRejected("http_4xx", text)
    if status in _EMPTY:
        raise PhotoRejected("empty_body", text)
    if status not in _BODIES:
        raise Retryable("malformed_response", f"{text}, expected 200")
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise PhotoRejected("content_encoding", f"{_shown(url)}: encoded as {encoding[:40]!r} though not asked for")
    if response.content_length is not None and response.content_length > max_bytes:
        raise _too_many_bytes(url, f"{response.content_length} announced", max_bytes)


async def _read(url: URL, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    # A list and one join: growing a bytearray costs 2.4 times as much on 3 MB.
    chunks: list[bytes] = []
    received = 0
    async for chunk in response.content.iter_any():
        received += len(chunk)
        if received > max_bytes:
            raise _too_many_bytes(url, "the body goes on", max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _read_file(uri: str, limits: FetchLimits) -> bytes:
    path = _allowed_path(uri, limits)
    try:
        # Not blocking: opening a named pipe would wait for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise PhotoRejected("http_4xx", f"no such file: {path}") from None
    except OSError as error:
        raise PhotoRejected("http_4xx", f"cannot open {path}: {error.strerror}") from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise PhotoRejected("url_not_allowed", f"{path} is not a regular file")
        if facts.st_size > limits.max_bytes:
            raise PhotoRejected("too_many_bytes", f"{path}: {facts.st_size} bytes, {limits.max_bytes} are allowed")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(facts.st_size)
    except OSError as error:
        raise Retryable("short_body", f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(handle)


def _allowed_path(uri: str, limits: FetchLimits) -> str:
    if "file" not in limits.schemes or limits.file_root is None:
        raise PhotoRejected("url_not_allowed", "file: URIs are not allowed here, or no root folder is set for them")
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or "\0" in path:
        raise PhotoRejected("url_not_allowed", "a file: URI is file:///path, without a host")
    root, real = os.path.realpath(limits.file_root), os.path.realpath(path)
    if not Path(real).is_relative_to(root):
        raise PhotoRejected("url_not_allowed", f"{path[:_MAX_SHOWN]} is not below the root folder for file: URIs")
    return real


def _mapped(error: aiohttp.ClientError, url: URL, hop: _Hop) -> PhotoRejected | Retryable:
    """What a failure of the HTTP client means for the photo. Its own texts may hold the query, so none is passed on."""
    place = _shown(url)
    if hop.refused:
        return PhotoRejected("address_not_allowed", f"{place}: {hop.refused[0]}")
    if isinstance(error, aiohttp.InvalidURL):
        return PhotoRejected("url_not_allowed", f"{place}: the URL cannot be requested")
    reason, what = _transient(error, answered=hop.answered)
    origin = _origin(url) if reason in _HOST_REASONS and not hop.answered else None
    return Retryable(reason, f"{place}: {what}", origin=origin)


def _transient(error: aiohttp.ClientError, *, answered: bool) -> tuple[TransientReason, str]:
    match error:
        case TimeoutError():
            return "fetch_timeout", f"{'no more bytes' if answered else 'no answer'} in time"
        case aiohttp.ClientConnectorDNSError():
            return "dns_failed", "the name cannot be resolved"
        case aiohttp.ClientPayloadError() if isinstance(error.__cause__, PayloadEncodingError | None):
            return "short_body", "the body ends early"
        case OSError() | aiohttp.ServerDisconnectedError():
            cause = getattr(error, "strerror", None) or "the connection was closed"
            return "short_body" if answered else "connect_failed", cause
        case _:
            return "malformed_response", type(error).__name__


def _origin(url: URL) -> str:
    """The place that other photos share: `https://host:443`."""
    return f"{url.scheme}://{url.host_subcomponent}:{url.port}"


def _shown(url: URL) -> str:
    """The URL for a detail: no credentials, no query, which may hold a signature, and not endless."""
    port = "" if url.explicit_port is None else f":{url.explicit_port}"
    return f"{url.scheme}://{url.raw_host or ''}{port}{url.raw_path}"[:_MAX_SHOWN]


def _status(response: aiohttp.ClientResponse) -> str:
    """`404 Not Found`; the phrase is ours, because the server's is anybody's text."""
    try:
        return f"{response.status} {HTTPStatus(response.status).phrase}"
    except ValueError:
        return str(response.status)


def _too_many_bytes(url: URL, what: str, max_bytes: int) -> PhotoRejected:
    return PhotoRejected("too_many_bytes", f"{_shown(url)}: {what}, {max_bytes} bytes are allowed")


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
