"""The traces of one service: what its parts are given, and their end."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from aiohttp import TraceConfig
from opentelemetry.sdk.trace import TracerProvider

from consumer import __version__
from consumer.kafka.publisher import Publisher
from consumer.redis.urls import DEFAULT_PORT
from consumer.steps import Steps
from consumer.telemetry import Log, Metrics
from consumer.topic_names import TopicNames
from consumer.tracing import collector
from consumer.tracing import conventions as names
from consumer.tracing.collector import Collector
from consumer.tracing.ends import TracedPublisher, TracedStore
from consumer.tracing.http_requests import watcher
from consumer.tracing.inference_requests import InferenceRequests
from consumer.tracing.outlet import CLOSE_S, Outlet
from consumer.tracing.path import Handle, Path
from consumer.tracing.spans import Attributes, Spans
from consumer.triton.inference import Around


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What spans say of the servers. `groups` are those that read, by topic."""

    triton: str
    redis: str
    #: The URL names one node of several, and which one a key is on is not known here.
    cluster: bool
    topics: TopicNames
    groups: Mapping[str, str]


class Tracing(AbstractAsyncContextManager["Tracing"]):
    """The traces of one service; an async context manager, whose end waits a little for the last spans."""

    def __init__(self, to: Collector, around: Surroundings, log: Log, metrics: Metrics) -> None:
        session = collector.Session()
        self._outlet = Outlet(
            collector.exporter_to(to, session),
            collector.limits_of(),
            lost=lambda why, spans: metrics.spans_lost.labels(why).inc(spans),
            why=lambda: session.last,
            log=log,
        )
        # Not the global one: two services in one process have each their own.
        provider = TracerProvider(collector.sampler_of(to), collector.resource_of(to), shutdown_on_exit=False)
        provider.add_span_processor(self._outlet)
        self._spans = Spans(provider.get_tracer("photo-tagger", __version__, schema_url=names.SCHEMA))
        self._around = around
        self._requests = InferenceRequests(self._spans, _server(f"//{around.triton}"))
        self._path = Path(self._spans, self._requests, around.groups)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._outlet.close, CLOSE_S)

    @property
    def around_inference(self) -> Around:
        """What requests to Triton are made within."""
        return self._requests.around

    @property
    def watchers(self) -> tuple[TraceConfig, ...]:
        """What sees the requests of fetches."""
        return (watcher(self._spans),)

    def steps(self, steps: Steps, publisher: Publisher) -> Steps:
        """The steps of the live path with spans; `publisher` publishes what they send."""
        store = TracedStore(steps.store, self._spans, _redis(self._around.redis, cluster=self._around.cluster))
        publish = TracedPublisher(publisher, self._spans, self._around.topics)
        return self._path.steps(replace(steps, store=store, publish=publish))

    def handle(self, handle: Handle) -> Handle:
        """What handles a record, within a span."""
        return self._path.handle(handle)


def _redis(url: str, *, cluster: bool) -> Attributes:
    """The server and the number of the database; of a user and a password nothing."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return {names.DB_SYSTEM: "redis", names.SERVER_ADDRESS: parts.path}
    number = parts.path.strip("/") or "0"
    server = {} if cluster else _server(url, DEFAULT_PORT)
    return {names.DB_SYSTEM: "redis", names.DB_NAMESPACE: number, **server}


def _server(url: str, port: int | None = None) -> Attributes:
    """Host and port of a URL; of an address that is none, as gRPC has some, nothing."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or port
    except ValueError:
        return {}
    if not host:
        return {}
    return {names.SERVER_ADDRESS: host} | ({} if port is None else {names.SERVER_PORT: port})
