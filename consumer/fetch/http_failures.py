"""What the failures of the HTTP client mean: which reason they have, and whose they are."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp.http_exceptions import PayloadEncodingError
from yarl import URL

from consumer.errors import PhotoHostDown, PhotoRejected, Retryable, TransientReason
from consumer.fetch.attempt import own_limit
from consumer.fetch.urls import origin, shown

#: Of one field of a response's headers.
MAX_FIELD_BYTES: Final = 32_768
MAX_FIELDS: Final = 128
#: How the texts of the HTTP client begin where the headers are beyond these.
_TOO_LARGE: Final = ("Got more than", "Too many headers")
_LIMITS: Final = f"the response headers are too large: {MAX_FIELD_BYTES} bytes a field and {MAX_FIELDS} fields are read"
#: With a proxy, all names and connections are the proxy's.
_NO_PROXY: Final = (
    aiohttp.ClientProxyConnectionError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientConnectorDNSError,
)


def failure_of(
    error: aiohttp.ClientError, url: URL, proxy: URL | None, *, refused: str | None, answered: bool
) -> PhotoRejected | Retryable | PhotoHostDown:
    """The error for a failure of the HTTP client. Its texts may contain the query, so none is passed on.

    `refused` is the reason where no address of the host may be connected.
    """
    if isinstance(error, OSError) and (own := own_limit(error)):
        return own
    place = shown(url)
    if refused is not None:
        return PhotoRejected("address_not_allowed", f"{place}: {refused}")
    if isinstance(error, aiohttp.InvalidURL):
        return PhotoRejected("url_not_allowed", f"{place}: the URL cannot be requested")
    if proxy is not None and isinstance(error, _NO_PROXY):
        return Retryable("connect_failed", f"{place}: the proxy does not answer", origin=origin(proxy))
    if proxy is not None and isinstance(error, aiohttp.ClientHttpProxyError):
        return _no_tunnel(error, url, proxy)
    reason, what = _transient(error, answered=answered)
    return Retryable(reason, f"{place}: {what}", origin=origin(url))


def _no_tunnel(error: aiohttp.ClientHttpProxyError, url: URL, proxy: URL) -> PhotoRejected | Retryable:
    if error.status == HTTPStatus.FORBIDDEN:
        return PhotoRejected("address_not_allowed", f"{shown(url)}: the proxy refuses to connect to it")
    if error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return refused_by_proxy(url, error.headers or {}, origin=origin(proxy))
    return Retryable("connect_failed", f"{shown(url)}: the proxy answers {error.status}", origin=origin(url))


def refused_by_proxy(url: URL, headers: Mapping[str, str], origin: str) -> PhotoRejected | Retryable:
    """The error for a 407: it asks for credentials or, without a challenge, refuses the address (smokescreen)."""
    if "Proxy-Authenticate" in headers:
        return Retryable("connect_failed", f"{shown(url)}: the proxy wants another password", origin=origin)
    return PhotoRejected("address_not_allowed", f"{shown(url)}: the proxy refuses to connect to it")


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
        case aiohttp.ClientResponseError():
            too_large = error.message.startswith(_TOO_LARGE)
            # What the client found; behind the colon it quotes the answer.
            what = f"the answer is no proper HTTP: {error.message.partition(':')[0]}"
            return "malformed_response", _LIMITS if too_large else what
        case _:
            return "malformed_response", type(error).__name__
