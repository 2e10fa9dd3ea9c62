import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import quote, unquote

import pytest
from aiohttp import web

from consumer.errors import PhotoRejected, Retryable
from consumer.events import PhotoUploaded
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.limits import FetchLimits
from consumer.fetch.trail import Trail, following
from tests.photo_host import BODY, event, hosting, response, without_ipv6

HEADERS = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "ETag": '"x"'}
SECRET = "aHVudGVyMg=="
#: What the host answers to a key, by the key.
WHOLE: dict[str, tuple[bytes, dict[str, str]]] = {
    "photo.jpg": (BODY, {}),
    "a b+c%.jpg": (BODY, {}),
    "empty": (b"", {}),
    "encoded": (BODY, {"Content-Encoding": "aws-chunked,gzip"}),
    "chunked": (BODY, {"Content-Encoding": "aws-chunked"}),
}
PARTS = {
    "huge": {"Content-Length": str(10**12)},
    "short": {"Content-Length": "5000"},
    "stalled": {"Content-Length": "5000"},
    "endless": {},
}
STATUSES = {"403": 403, "401": 401, "400": 400, "408": 408, "429": 429, "500": 500, "503": 503}


class ObjectHost:
    """Speaks as much of S3, Google Cloud Storage and Azure Blob Storage as getting an object takes."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str]] = []
        self.asked, self.released = asyncio.Event(), asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.raw_path, request.headers.get("Authorization", "")))
        self.asked.set()
        key = request.path.rpartition("/")[2]
        if key in WHOLE:
            body, headers = WHOLE[key]
            return web.Response(body=body, headers=HEADERS | headers)
        if key in PARTS:
            return await self._part(request, key)
        if key == "silent":
            await self.released.wait()
        return web.Response(status=STATUSES.get(key, 404), text="<Error><Message>hunter2</Message></Error>")

    async def _part(self, request: web.Request, key: str) -> web.StreamResponse:
        response = web.StreamResponse(headers=HEADERS | PARTS[key])
        await response.prepare(request)
        await response.write(b"x" * 500)
        if key != "short":
            await self.released.wait()
        if request.transport is not None:
            request.transport.close()
        return response


@pytest.fixture
async def objects() -> AsyncIterator[ObjectHost]:
    host = ObjectHost()
    application = web.Application()
    application.router.add_get("/{path:.*}", host.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield host
    host.released.set()
    await runner.cleanup()


def limits_for(host: ObjectHost, **changes: object) -> FetchLimits:
    stores = {
        "s3://uploads": {"endpoint": host.url, "region": "eu-1", "access_key_id": "me", "secret_access_key": SECRET},
        "gs://uploads": {"base_url": host.url, "skip_signature": "true"},
        "az://uploads": {"endpoint": f"{host.url}/me", "account_name": "me", "account_key": SECRET},
    }
    return FetchLimits(**({"stores": stores} | changes))


async def fetch(uri: str, limits: FetchLimits) -> bytes:
    async with Fetcher(limits) as fetcher:
        return (await fetcher.fetch(event(uri))).body


async def failure(uri: str, limits: FetchLimits) -> PhotoRejected | Retryable:
    with pytest.raises((PhotoRejected, Retryable)) as caught:
        await fetch(uri, limits)
    assert SECRET not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("store", ["s3", "gs", "az"])
async def test_an_object_is_fetched_from_each_kind_of_store(objects: ObjectHost, store: str) -> None:
    assert await fetch(f"{store}://uploads/2026/photo.jpg", limits_for(objects)) == BODY
    assert await fetch(f"{store}://uploads/a%20b+c%25.jpg", limits_for(objects)) == BODY


@pytest.mark.parametrize("store", ["s3", "gs", "az"])
@pytest.mark.parametrize(("key", "answers"), [("photo.jpg", True), ("gone", True), ("400", True), ("503", False)])
async def test_a_bucket_and_what_stands_before_it_have_names_of_their_own(
    objects: ObjectHost, store: str, key: str, *, answers: bool
) -> None:
    way = Trail()
    async with Fetcher(limits_for(objects)) as fetcher:
        with following(way), contextlib.suppress(PhotoRejected, Retryable):
            await fetcher.fetch(event(f"{store}://uploads/{key}"))
    assert way.ways == {f"{store}://uploads": (objects.url,)}
    assert way.answered == ([objects.url, f"{store}://uploads"] if answers else [])


KEYS = [
    *("a/b.jpg", "a+b", "a%2Fb", "a%25b", "100%.jpg", "50%ab", "a?b", "a#b", "a b", " a ", "a\\b", "a~b*c'(d)!$&=;:@,"),
    *("caf\u00e9", "cafe\u0301", "\U0001f600/\u3000", "\ufeffa\u200b", '{[<"a">]}^|`', "...", ".a/..b", "a" * 1024),
]


@pytest.mark.parametrize("store", ["s3", "gs", "az"])
async def test_exactly_the_object_is_asked_for_that_a_uri_names(objects: ObjectHost, store: str) -> None:
    asked = []
    async with Fetcher(limits_for(objects)) as fetcher:
        for key in KEYS:
            raw = key.replace("%", "%25").replace("?", "%3F").replace("#", "%23").replace(" ", "%20")
            for spelled in (quote(key), raw, "".join(f"%{byte:02x}" for byte in key.encode())):
                objects.requests.clear()
                with contextlib.suppress(PhotoRejected):
                    await fetcher.fetch(event(f"{store}://uploads/{spelled}"))
                asked.append([unquote(path, errors="strict") for path, _ in objects.requests])
    prefix = "/me/uploads/" if store == "az" else "/uploads/"
    assert asked == [[prefix + key] for key in KEYS for _ in range(3)]


@pytest.mark.parametrize("store", ["s3", "gs", "az"])
@pytest.mark.parametrize(
    ("key", "words"),
    [
        *((key, "empty, '.' or '..' part") for key in ("/a.jpg", "a/", "a//b", "a/./b", "./a", "a/..", "%2Fa", "a%2F")),
        *((key, "empty, '.' or '..' part") for key in ("", "/", ".", "%2e%2E/a", "\u00fc/../a")),
        *((key, "control characters") for key in ("a%0Ab", "%09a", "a%7F", "%00")),
        *((key, "UTF-8") for key in ("caf%E9", "%ff", "%C3", "%ED%A0%BD")),
        *((key, "? is written %3F and # is written %23") for key in ("a?b", "a#b", "a?", "a#")),
    ],
)
async def test_a_key_that_cannot_be_asked_for_is_refused_with_words(
    objects: ObjectHost, store: str, key: str, words: str
) -> None:
    error = await failure(f"{store}://uploads/{key}", limits_for(objects))
    assert (error.reason, objects.requests) == ("url_not_allowed", [])
    assert words in error.detail


async def test_what_names_no_compression_says_nothing_of_an_object(objects: ObjectHost) -> None:
    assert await fetch("s3://uploads/chunked", limits_for(objects)) == BODY


@pytest.mark.skipif(without_ipv6(), reason="no IPv6 here")
async def test_an_endpoint_may_be_an_ipv6_address() -> None:
    async with hosting("::1") as host:
        host.serve("/uploads/a", response("200 OK", BODY, Last_Modified=HEADERS["Last-Modified"], ETag='"x"'))
        stores = {"gs://uploads": {"base_url": f"http://[::1]:{host.port}", "skip_signature": "true"}}
        assert await fetch("gs://uploads/a", FetchLimits(stores=stores)) == BODY


async def test_requests_to_s3_are_signed_with_the_configured_key(objects: ObjectHost) -> None:
    await fetch("s3://uploads/photo.jpg", limits_for(objects))
    ((path, authorization),) = objects.requests
    assert path == "/uploads/photo.jpg"
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=me/")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://others/photo.jpg",
        "gs://uploads-too/photo.jpg",
        "s3://UPLOADS.example/photo.jpg",
        "s3://uploads",
        "s3://uploads/",
        "s3://uploads:9000/photo.jpg",
        "s3://me:hunter2@uploads/photo.jpg",
        "s3://uploads/photo.jpg?versionId=1",
        "s3://uploads/../others/photo.jpg",
        "s3://uploads/%2e%2e/others/photo.jpg",
        "s3://uploads/a//b",
        "s3://uploads/%00",
        "s3:///uploads/photo.jpg",
        "s3:uploads/photo.jpg",
    ],
)
async def test_only_keys_of_buckets_that_are_named_are_asked_for(objects: ObjectHost, uri: str) -> None:
    error = await failure(uri, limits_for(objects))
    assert isinstance(error, PhotoRejected)
    assert error.reason in {"url_not_allowed", "http_4xx"}
    assert all(path.startswith("/uploads/") for path, _ in objects.requests)


async def test_without_named_buckets_no_store_is_asked(objects: ObjectHost) -> None:
    assert (await failure("s3://uploads/photo.jpg", FetchLimits())).reason == "url_not_allowed"
    assert objects.requests == []


@pytest.mark.parametrize("store", ["s3", "gs", "az"])
@pytest.mark.parametrize("key", ["401", "403", "none"])
async def test_what_is_refused_or_missing_is_final(objects: ObjectHost, store: str, key: str) -> None:
    error = await failure(f"{store}://uploads/{key}", limits_for(objects))
    assert isinstance(error, PhotoRejected)
    assert error.reason == "http_4xx"


async def test_an_object_that_was_just_uploaded_may_appear_yet(objects: ObjectHost) -> None:
    upload = PhotoUploaded("p1", "s3://uploads/none", datetime.now(UTC))
    async with Fetcher(limits_for(objects)) as fetcher:
        with pytest.raises(Retryable, match="http_4xx"):
            await fetcher.fetch(upload)


@pytest.mark.parametrize("store", ["s3", "gs", "az"])
@pytest.mark.parametrize("key", ["429", "500", "503"])
async def test_a_busy_store_is_retried_and_named(objects: ObjectHost, store: str, key: str) -> None:
    error = await failure(f"{store}://uploads/{key}", limits_for(objects))
    assert isinstance(error, Retryable)
    assert (error.reason, error.origin) == ("http_5xx", f"{store}://uploads")
    assert len(objects.requests) == 1


@pytest.mark.parametrize(
    ("key", "reason", "transient", "origin"),
    [
        ("400", "http_4xx", False, None),
        ("408", "http_5xx", True, None),
        ("empty", "empty_body", False, None),
        ("encoded", "content_encoding", False, None),
        ("huge", "too_many_bytes", False, None),
        ("short", "short_body", True, "s3://uploads"),
        ("endless", "malformed_response", True, "s3://uploads"),
        ("stalled", "fetch_timeout", True, "s3://uploads"),
        ("silent", "fetch_timeout", True, "s3://uploads"),
    ],
)
async def test_every_answer_ends_as_over_http(
    objects: ObjectHost, key: str, reason: str, transient: bool, origin: str | None
) -> None:
    error = await failure(f"s3://uploads/{key}", limits_for(objects, read_timeout_s=0.3))
    assert error.reason == reason
    assert isinstance(error, Retryable if transient else PhotoRejected)
    assert getattr(error, "origin", None) == origin


async def test_the_whole_time_of_a_fetch_is_bounded(objects: ObjectHost) -> None:
    limits = limits_for(objects, read_timeout_s=30.0, total_timeout_s=0.3)
    assert (await failure("s3://uploads/silent", limits)).reason == "fetch_timeout"
    assert (await failure("s3://uploads/stalled", limits)).reason == "fetch_timeout"


async def test_an_endpoint_that_is_down_or_has_no_name_is_retried(objects: ObjectHost) -> None:
    for endpoint, reason in (("http://127.0.0.1:1", "connect_failed"), ("http://nowhere.invalid", "dns_failed")):
        stores = {"s3://uploads": {"endpoint": endpoint, "region": "r", "access_key_id": "a", "secret_access_key": "s"}}
        error = await failure("s3://uploads/photo.jpg", limits_for(objects, stores=stores))
        assert isinstance(error, Retryable)
        assert (error.reason, error.origin) == (reason, "s3://uploads")


async def test_options_that_the_client_does_not_know_are_named_without_their_values(objects: ObjectHost) -> None:
    stores = {"s3://uploads": {"endpoint": objects.url, "secret_acess_key": SECRET}}
    error = await failure("s3://uploads/photo.jpg", limits_for(objects, stores=stores))
    assert error.reason == "url_not_allowed"
    assert "fetch.stores" in error.detail


async def test_without_the_package_the_reason_names_what_brings_it(
    objects: ObjectHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    error = await failure("s3://uploads/photo.jpg", limits_for(objects))
    assert error.reason == "url_not_allowed"
    assert "extra 's3'" in error.detail


async def test_a_fetch_that_is_cancelled_leaves_the_store_usable(objects: ObjectHost) -> None:
    async with Fetcher(limits_for(objects)) as fetcher:
        task = asyncio.create_task(fetcher.fetch(event("s3://uploads/silent")))
        await objects.asked.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await fetcher.fetch(event("s3://uploads/photo.jpg"))).body == BODY
