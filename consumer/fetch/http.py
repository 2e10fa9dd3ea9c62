"""Photos over HTTP: one pool of connections, redirects followed here, every address checked when it is connected.

The check is in the socket factory, for every connection and every redirect: an earlier check of the name could get
another answer from its DNS server, and a resolver hook is not called for literal addresses. With an egress proxy, the
proxy checks the addresses of names; literal ones are still checked here.
"""

import socket
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from consumer.errors import PhotoRejected, Retryable
from consumer.fetch.addresses import check_proxy, literal, parse_allow_list, refusal
from consumer.fetch.attempt import Attempt, NotFound, busy
from consumer.fetch.dns import Lookup
from consumer.fetch.encodings import is_compressed
from consumer.fetch.http_failures import MAX_FIELD_BYTES, MAX_FIELDS, failure_of, refused_by_proxy
from consumer.fetch.limits import FetchLimits
from consumer.fetch.trail import Trail, trail
from consumer.fetch.urls import check_web, host_of, origin, redirected, shown

_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "photo-tagger"}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BODIES: Final = frozenset({200, 203})
_EMPTY: Final = frozenset({204, 205})
#: Answers to http requests that a proxy may have given itself.
_OF_A_PROXY: Final = frozenset({502, 503, 504})
#: Of one connection. A 16th of it is also the most chunks of a body that are parsed in one turn of the event loop.
_BUFFER_BYTES: Final = 65_536
#: A chunk costs 2 us to parse, however small; a body in many chunks must be worth it.
_FREE_CHUNKS: Final = 1_000
_LEAST_CHUNK_BYTES: Final = 256
#: A longer Retry-After is cut to this.
_LONGEST_ASKED_S: Final = 3600.0


@dataclass(slots=True)
class _Hop:
    """One request in progress, the addresses that were refused for it, and whether one was not."""

    host: str
    refused: list[str] = field(default_factory=list)
    tried: bool = False
    answered: bool = False


#: The request for which a socket is made; aiohttp connects in the task of the request, or in children of it.
_HOP: Final[ContextVar[_Hop]] = ContextVar("hop")


class Web:
    """Fetches over HTTP; an async context manager. `watchers` see each request.

    Raises:
        ValueError: an entry of `allow_addresses`, or `proxy`, cannot be read.
    """

    def __init__(
        self,
        limits: FetchLimits,
        *,
        resolver: AbstractResolver | None = None,
        watchers: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        self._limits = limits
        self._watchers = watchers
        self._allowed = parse_allow_list(limits.allow_addresses)
        self._proxy = None
        if limits.proxy is not None:
            check_proxy(limits.proxy)
            self._proxy = URL(limits.proxy)
        #: What stands before every host.
        self._through = () if self._proxy is None else (origin(self._proxy),)
        self._resolver = resolver or Lookup()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        limits = self._limits
        self._session = aiohttp.ClientSession(
            # The pipeline bounds the photos in flight; waiting for a second bound here would count as fetch time.
            connector=aiohttp.TCPConnector(limit=0, socket_factory=self._checked_socket, resolver=self._resolver),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=limits.connect_timeout_s, sock_read=limits.read_timeout_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            read_bufsize=_BUFFER_BYTES,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
            auto_decompress=False,
            trust_env=False,
            trace_configs=list(self._watchers),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        await self._resolver.close()

    async def read(self, url: URL, attempt: Attempt) -> bytes:
        """The body behind a URL, after its redirects. Passes on what `Attempt.make_room` raises.

        Raises:
            PhotoRejected: `url_not_allowed`, `address_not_allowed`, `too_many_redirects`, `http_4xx`, `too_many_bytes`,
                `content_encoding` or `empty_body`.
            NotFound: 404.
            Retryable: `dns_failed`, `connect_failed`, `fetch_timeout`, `short_body`, `malformed_response`, `http_5xx`.
        """
        for _ in range(self._limits.max_redirects + 1):
            attempt.place = shown(url)
            check_web(url, self._limits.schemes)
            answer = await self._request(url, attempt)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise PhotoRejected("too_many_redirects", f"{shown(url)}: more than {self._limits.max_redirects} redirects")

    async def _request(self, url: URL, attempt: Attempt) -> bytes | URL:
        if self._session is None:
            raise RuntimeError("not open: use it as an async context manager")
        if self._proxy is not None:
            self._check_literal(url)
        hop, way = _Hop(host_of(url)), trail()
        await way.asks(origin(url), self._through)
        attempt.asking = origin(url)
        token = _HOP.set(hop)
        try:
            async with self._session.get(url, allow_redirects=False, proxy=self._proxy) as response:
                hop.answered = way.reached = True
                if self._proxy is not None:
                    _check_relayed(url, response, way)
                taken = await _taken(url, response, attempt, way)
        except aiohttp.ClientError as error:
            way.reached = way.reached or not isinstance(error, aiohttp.ClientConnectorError)
            if hop.answered:
                way.breaks()
            # Where another address was tried, its failure is the cause and may pass.
            refused = None if hop.tried or not hop.refused else hop.refused[0]
            raise failure_of(error, url, self._proxy, refused=refused, answered=hop.answered) from None
        except ValueError:
            if hop.answered:
                raise
            # The codecs of the resolver and of TLS know more rules for host names than we do.
            raise PhotoRejected("url_not_allowed", f"{shown(url)}: the URL cannot be requested") from None
        finally:
            _HOP.reset(token)
        attempt.asking = None
        return taken

    def _checked_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        # With a proxy every connection leads to it, and it is allowed by being configured.
        if self._proxy is None:
            hop = _HOP.get()
            why = refusal(str(address[0]), hop.host, int(address[1]), self._allowed)
            if why is not None:
                hop.refused.append(f"{address[0]} port {address[1]} is {why}")
                raise PermissionError(f"{why} address")
            hop.tried = True
        return socket.socket(family, kind, protocol)

    def _check_literal(self, url: URL) -> None:
        host, port = host_of(url), url.port or 0
        if literal(host) is None:
            return
        why = refusal(host, host, port, self._allowed)
        if why is not None:
            raise PhotoRejected("address_not_allowed", f"{shown(url)}: {host} port {port} is {why}")


def _check_relayed(url: URL, response: aiohttp.ClientResponse, way: Trail) -> None:
    """Notes that the proxy works, unless this answer may be its own; a tunnel is transparent, so only with http.

    Raises:
        refused_by_proxy: a 407.
    """
    if url.scheme == "http":
        if response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise refused_by_proxy(url, response.headers, origin=origin(url))
        if response.status in _OF_A_PROXY:
            return
    way.relayed()


async def _taken(url: URL, response: aiohttp.ClientResponse, attempt: Attempt, way: Trail) -> bytes | URL:
    """The body, or where a redirect leads.

    Raises:
        PhotoRejected: as `Web.read`.
        NotFound: 404.
    """
    try:
        if response.status in _REDIRECTS:
            taken: bytes | URL = _target(url, response)
        else:
            _check_answer(url, response)
            await way.pauses(min(response.content_length or attempt.max_bytes, attempt.max_bytes))
            await attempt.make_room(shown(url), response.content_length)
            way.reads()
            taken = await _body(url, response, attempt)
    except (PhotoRejected, NotFound):
        way.answers()
        raise
    way.answers()
    return taken


def _target(url: URL, response: aiohttp.ClientResponse) -> URL:
    location = response.headers.get("Location")
    if not location:
        detail = f"{shown(url)}: {_status(response)} without a Location"
        raise Retryable("malformed_response", detail, origin=origin(url))
    try:
        return redirected(url, location)
    except PhotoRejected as refused:
        raise PhotoRejected(refused.reason, f"{shown(url)} redirects: {refused.detail}") from None


def _check_answer(url: URL, response: aiohttp.ClientResponse) -> None:
    if response.status not in _BODIES:
        raise _refused(url, response)
    # A compression of the transfer is not undone either.
    names = ("Content-Encoding", "Transfer-Encoding")
    encoding = ", ".join(value for name in names for value in response.headers.getall(name, ()))
    if is_compressed(encoding):
        raise PhotoRejected("content_encoding", f"{shown(url)}: encoded as {encoding[:40]!r} though not asked for")


def _refused(url: URL, response: aiohttp.ClientResponse) -> PhotoRejected | Retryable | NotFound:
    status, text = response.status, f"{_status(response)} from {shown(url)}"
    after_s = retry_after_s(response.headers.get("Retry-After", ""), datetime.now(UTC))
    asked = "" if after_s is None else f", Retry-After {after_s:.0f}"
    if failure := busy(status, text + asked, origin(url), after_s):
        return failure
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(text)
    if status >= HTTPStatus.BAD_REQUEST:
        return PhotoRejected("http_4xx", text)
    if status in _EMPTY:
        return PhotoRejected("empty_body", text)
    return Retryable("malformed_response", f"{text}, expected 200", origin=origin(url))


def retry_after_s(header: str, now: datetime) -> float | None:
    """The seconds of a Retry-After header, given as seconds or as an HTTP date, at most an hour; None if unreadable.

    Its digits may be any number, so that dates and zones overflow.
    """
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), _LONGEST_ASKED_S)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max((moment - now).total_seconds(), 0.0), _LONGEST_ASKED_S)
    except (ValueError, OverflowError):
        return None


async def _body(url: URL, response: aiohttp.ClientResponse, attempt: Attempt) -> bytes:
    if response.content_length is not None:
        # The length was checked, and the parser reads no byte beyond it: a fifth cheaper than counting chunks.
        return await response.read()
    # A list and one join: growing a bytearray costs 2.4 times as much on 3 MB.
    chunks: list[bytes] = []
    received = ended = 0
    async for chunk, ends in response.content.iter_chunks():
        received += len(chunk)
        if received > attempt.max_bytes:
            raise attempt.too_many(shown(url), "the body goes on")
        chunks.append(chunk)
        ended += ends
        if ended > _FREE_CHUNKS and received < ended * _LEAST_CHUNK_BYTES:
            what = f"{shown(url)}: a body in chunks of {received // ended} bytes"
            raise Retryable("malformed_response", what, origin=origin(url))
    return b"".join(chunks)


def _status(response: aiohttp.ClientResponse) -> str:
    """`404 Not Found`; with the standard phrase, because the server's is untrusted text."""
    try:
        return f"{response.status} {HTTPStatus(response.status).phrase}"
    except ValueError:
        return str(response.status)
