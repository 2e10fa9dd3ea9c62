"""Photos from object stores: `s3://`, `gs://` and `az://`, from the buckets that are named in the settings.

A configured bucket is trusted: the operator gave its endpoint and credentials, so its address is not checked as that of
a URL in an event is; a bucket that is not configured is not requested. The client follows redirects of a store by
itself. It makes no retries: the service does.
"""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from yarl import URL

from consumer.errors import PhotoRejected, Retryable
from consumer.fetch.addresses import STORE_ENDPOINTS
from consumer.fetch.attempt import OPEN_WAIT_S, Attempt, NotFound, busy
from consumer.fetch.encodings import is_compressed
from consumer.fetch.limits import FetchLimits
from consumer.fetch.trail import Trail, trail
from consumer.fetch.urls import origin, shown

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import AzureStore, GCSStore, S3Store

#: The client has one error for most failures; the start of its text, before any text of the server, says which.
_STATUS: Final = re.compile(r"Server returned non-2xx status code: (\d{3})")
_KIND: Final = re.compile(r"HttpError \{\s+kind: (\w+)")
_NOT_ASKABLE: Final = (
    "the client cannot ask for a key with an empty, '.' or '..' part between slashes, or with control characters"
)


class Stores:
    """Fetches from object stores, with one client for each bucket, created when it is first needed."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._clients: dict[str, S3Store | GCSStore | AzureStore] = {}

    async def read(self, url: URL, attempt: Attempt) -> bytes:
        """The bytes of an object. Passes on what `Attempt.make_room` raises.

        Raises:
            PhotoRejected: `url_not_allowed`, `http_4xx`, `too_many_bytes` or `content_encoding`.
            NotFound: there is no such object.
            Retryable: `dns_failed`, `connect_failed`, `fetch_timeout`, `short_body`, `malformed_response`, `http_5xx`.
        """
        bucket, key = _bucket_and_key(url)
        client = self._client(bucket)
        # Imported late, here and below: an optional package, 15 MB, that most installations do not need.
        from obstore import get_async  # noqa: PLC0415
        from obstore.exceptions import BaseError  # noqa: PLC0415

        way = trail()
        await way.asks(bucket, _before(bucket, self._limits))
        attempt.asking = bucket
        try:
            answer = await get_async(client, key)
            way.reached = True
            body = await _body(url, answer, attempt, way)
        except FileNotFoundError:
            way.answers()
            raise NotFound(f"no such object: {shown(url)}") from None
        except ValueError:
            raise PhotoRejected("url_not_allowed", f"{shown(url)}: {_NOT_ASKABLE}") from None
        except BaseError as error:
            if way.reached:
                way.breaks()
            failure = _mapped(error, shown(url), bucket, answered=way.reached)
            if isinstance(failure, PhotoRejected):
                way.answers()
            raise failure from None
        attempt.asking = None
        way.answers()
        return body

    def _client(self, bucket: str) -> "S3Store | GCSStore | AzureStore":
        if bucket not in self._limits.stores:
            raise PhotoRejected("url_not_allowed", f"{bucket} is not among the buckets of fetch.stores")
        if bucket not in self._clients:
            self._clients[bucket] = _new_client(bucket, self._limits)
        return self._clients[bucket]


def _bucket_and_key(url: URL) -> tuple[str, str]:
    if "@" in url.raw_authority or url.explicit_port is not None:
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: an object is scheme://bucket/key")
    try:
        key = unquote(url.raw_path.removeprefix("/"), errors="strict")
    except UnicodeDecodeError:
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: a key is UTF-8, percent-encoded") from None
    # The client leaves out a slash at either end and would ask for another object.
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise PhotoRejected("url_not_allowed", f"{shown(url)}: {_NOT_ASKABLE}")
    return origin(url), key


async def _body(url: URL, answer: "GetResult", attempt: Attempt, way: Trail) -> bytes:
    encoding = str(answer.attributes.get("Content-Encoding", ""))
    if is_compressed(encoding):
        way.answers()
        raise PhotoRejected("content_encoding", f"{shown(url)}: stored encoded as {encoding[:40]!r}")
    await way.pauses(min(answer.meta["size"], attempt.max_bytes))
    try:
        await attempt.make_room(shown(url), answer.meta["size"])
        way.reads()
    except PhotoRejected:
        way.answers()
        raise
    # The client reads no byte beyond the announced length.
    return (await answer.bytes_async()).to_bytes()


def _before(bucket: str, limits: FetchLimits) -> tuple[str, ...]:
    """What stands before a bucket: the egress proxy and a configured endpoint, which other buckets may share."""
    endpoint = limits.stores[bucket].get(STORE_ENDPOINTS[bucket[:2]])
    return tuple(origin(URL(place)) for place in (limits.proxy, endpoint) if place is not None)


def _new_client(bucket: str, limits: FetchLimits) -> "S3Store | GCSStore | AzureStore":
    scheme, _, name = bucket.partition("://")
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415
        from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415
    except ImportError:
        raise PhotoRejected(
            "url_not_allowed", f"{scheme}:// needs the package obstore, which the extra 's3' brings"
        ) from None
    options = dict(limits.stores[bucket])
    client: dict[str, Any] = {
        "allow_http": options.get(STORE_ENDPOINTS[scheme], "").startswith("http://"),
        "connect_timeout": timedelta(seconds=limits.connect_timeout_s),
        "read_timeout": timedelta(seconds=limits.read_timeout_s),
        # Our own time limit is shorter, but does not count the wait for room.
        "timeout": timedelta(seconds=limits.total_timeout_s + OPEN_WAIT_S),
        "user_agent": "photo-tagger",
    }
    if limits.proxy is not None:
        client["proxy_url"] = limits.proxy
    made: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
    try:
        store: S3Store | GCSStore | AzureStore = made(
            name, config=options, client_options=client, retry_config={"max_retries": 0}
        )
    except (BaseError, ValueError) as error:
        what = f"{type(error).__name__}: the options of its client in fetch.stores do not fit"
        raise PhotoRejected("url_not_allowed", f"{bucket}: {what}") from None
    return store


def _mapped(error: Exception, place: str, bucket: str, *, answered: bool) -> PhotoRejected | Retryable:
    """The error for a failure of the client. Its texts contain the server's, so none is passed on."""
    text = str(error)
    status = _STATUS.search(text)
    if status is not None:
        detail = f"{status[1]} from {place}"
        return busy(int(status[1]), detail, bucket) or PhotoRejected("http_4xx", detail)
    kind = _KIND.search(text)
    if kind is None:
        # No request failed: the answer has no length, or there are no credentials.
        return Retryable("malformed_response", f"{place}: {type(error).__name__}", origin=bucket)
    if kind[1] == "Timeout":
        what = "no more bytes" if answered else "no answer"
        return Retryable("fetch_timeout", f"{place}: {what} in time", origin=bucket)
    if answered:
        return Retryable("short_body", f"{place}: the body ends early", origin=bucket)
    if "dns error" in text:
        return Retryable("dns_failed", f"{place}: the name of the endpoint cannot be resolved", origin=bucket)
    return Retryable("connect_failed", f"{place}: the endpoint does not answer", origin=bucket)
