"""A span for each HTTP request of a fetch, redirects included.

No trace context is sent to photo hosts: anyone may name a host in an event.
"""

from types import SimpleNamespace

import aiohttp
from opentelemetry.trace import SpanKind
from yarl import URL

from consumer.fetch.urls import shown
from consumer.tracing import conventions as names
from consumer.tracing.spans import Attributes, Spans, fail, said

#: From here on, a status is an error.
_REFUSED = 400


def watcher(spans: Spans) -> aiohttp.TraceConfig:
    """What sees the requests of a session; a span ends with the headers of the answer, and the fetch with the body."""
    config = aiohttp.TraceConfig()

    async def begin(_: aiohttp.ClientSession, here: SimpleNamespace, seen: aiohttp.TraceRequestStartParams) -> None:
        here.span = spans.begin("GET", SpanKind.CLIENT, _about(seen.url))

    async def end(_: aiohttp.ClientSession, here: SimpleNamespace, seen: aiohttp.TraceRequestEndParams) -> None:
        status = seen.response.status
        here.span.set_attribute(names.HTTP_STATUS, status)
        if status >= _REFUSED:
            said(here.span, str(status))
        here.span.end()

    async def failed(
        _: aiohttp.ClientSession, here: SimpleNamespace, seen: aiohttp.TraceRequestExceptionParams
    ) -> None:
        fail(here.span, seen.exception)
        here.span.end()

    config.on_request_start.append(begin)
    config.on_request_end.append(end)
    config.on_request_exception.append(failed)
    return config


def _about(url: URL) -> Attributes:
    """What a request is for; its URL as in log lines, without the query, which may be a signature."""
    about: dict[str, str | int] = {names.HTTP_METHOD: "GET", names.URL_FULL: shown(url)}
    about[names.SERVER_ADDRESS] = url.raw_host or ""
    if url.port is not None:
        about[names.SERVER_PORT] = url.port
    return about
