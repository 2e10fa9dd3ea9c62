"""Fetches the photo of an event: bounded in bytes, time and redirects, and only from allowed places."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Self

from aiohttp import TraceConfig
from aiohttp.abc import AbstractResolver
from yarl import URL

from consumer.budget import Budget
from consumer.errors import PhotoRejected, Reason, Retryable, TaggerError, forget_frames
from consumer.events import Photo, PhotoUploaded, is_under_way
from consumer.fetch.addresses import STORE_ENDPOINTS
from consumer.fetch.attempt import OPEN_WAIT_S, Attempt, NoRoom, NotFound
from consumer.fetch.files import Files
from consumer.fetch.http import Web
from consumer.fetch.limits import FetchLimits
from consumer.fetch.stores import Stores
from consumer.fetch.urls import parsed, shown

_UNBOUNDED: Final = 2**62
#: Up to this size, hashing costs less than a switch of threads.
_INLINE_BYTES: Final = 64 * 1024
#: Reasons that a photo whose upload is under way may have: its bytes are missing, unfinished, or those before it.
UNFINISHED: Final[frozenset[Reason]] = frozenset(
    {"empty_body", "content_mismatch", "corrupt_image", "unsupported_format"}
)


class Fetcher:
    """Fetches photos over one pool of connections; an async context manager.

    The bytes of a photo count against `budget`, if given, from before they are read until the photo is dropped.
    `watchers` see each request over HTTP.

    Raises:
        ValueError: an entry of `allow_addresses`, or `proxy`, cannot be read.
    """

    def __init__(
        self,
        limits: FetchLimits,
        budget: Budget | None = None,
        *,
        resolver: AbstractResolver | None = None,
        open_wait_s: float = OPEN_WAIT_S,
        watchers: Sequence[TraceConfig] = (),
    ) -> None:
        self._limits = limits
        self._open_wait_s = open_wait_s
        self._budget = budget or Budget(_UNBOUNDED)
        self._web = Web(limits, resolver=resolver, watchers=watchers)
        self._stores = Stores(limits)
        self._files = Files(limits.file_root, limits.total_timeout_s)

    async def __aenter__(self) -> Self:
        await self._web.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._web.__aexit__()

    async def fetch(self, event: PhotoUploaded) -> Photo:
        """The photo that an event names, checked against its `content_sha256` where it has one.

        Its upload may be under way: for `not_found_grace_s` a photo that is missing, empty or not the one that was
        announced is a transient failure.

        Raises:
            PhotoRejected: `url_not_allowed`, `address_not_allowed`, `too_many_redirects`, `http_4xx`, `too_many_bytes`,
                `content_encoding`, `content_mismatch` or `empty_body`; details hold no query and no credentials.
            Retryable: `dns_failed`, `connect_failed`, `fetch_timeout`, `short_body`, `malformed_response`, `http_5xx`,
                or `http_4xx`, `empty_body` and `content_mismatch` within the grace.
            PhotoHostDown: this machine is at a limit of its own.
        """
        url = parsed(event.uri)
        attempt = Attempt(self._budget, self._limits.max_bytes, open_wait_s=self._open_wait_s)
        attempt.place = shown(url)
        try:
            body = await self._body(url, attempt)
            attempt.keep(len(body))
            await _check(body, event.content_sha256, attempt.place)
        except NotFound as missing:
            attempt.release()
            raise self._verdict(event, PhotoRejected("http_4xx", str(missing)), may_appear=True) from None
        except PhotoRejected as rejected:
            attempt.release()
            body = b""  # this frame stays with the failure
            forget_frames(rejected)
            raise self._verdict(event, rejected, may_appear=rejected.reason in UNFINISHED) from None
        except BaseException as failure:
            attempt.release()
            if isinstance(failure, TaggerError):
                body = b""  # as above
                forget_frames(failure)
            raise
        return Photo(event.photo_id, event.uri, body, attempt.release)

    def is_under_way(self, event: PhotoUploaded) -> bool:
        """Whether the upload of a photo may not be complete yet."""
        return is_under_way(event, datetime.now(UTC), self._limits.not_found_grace_s)

    def _verdict(self, event: PhotoUploaded, final: PhotoRejected, *, may_appear: bool) -> PhotoRejected | Retryable:
        if not may_appear or not self.is_under_way(event):
            return final
        return Retryable(final.reason, f"{final.detail}; its upload may be under way")

    async def _body(self, url: URL, attempt: Attempt) -> bytes:
        while True:
            try:
                async with attempt.within(self._limits.total_timeout_s):
                    return await self._read(url, attempt)
            except NoRoom:
                await attempt.queued()
            except TimeoutError:
                what = f"{attempt.place}: no photo in time"
                raise Retryable("fetch_timeout", what, origin=attempt.asking) from None

    async def _read(self, url: URL, attempt: Attempt) -> bytes:
        if url.scheme in STORE_ENDPOINTS:
            return await self._stores.read(url, attempt)
        if url.scheme == "file" and "file" in self._limits.schemes:
            return await self._files.read(url, attempt)
        return await self._web.read(url, attempt)


async def _check(body: bytes, sha256: str | None, place: str) -> None:
    if not body:
        raise PhotoRejected("empty_body", f"{place}: the photo has no bytes")
    if sha256 is not None:
        inline = len(body) <= _INLINE_BYTES
        digest = _sha256(body) if inline else await asyncio.to_thread(_sha256, body)
        if digest != sha256:
            raise PhotoRejected("content_mismatch", f"{len(body)} bytes with SHA-256 {digest}, not the event's")


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
