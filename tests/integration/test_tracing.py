"""One trace from the sender to the result, on real servers; and nothing is lost for a collector that is away."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from consumer import events
from consumer.kafka.headers import DEFERRED_BY
from consumer.settings import Settings
from tests.collector import Collector, Seen, collecting
from tests.harness import BLUE, RED, World, eventually, headers_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{SENDER}-01".encode(), "tracestate": b"vendor=1"}
INTERNAL, CLIENT, PRODUCER, CONSUMER = 1, 3, 4, 5
REQUEST = "inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with collecting() as running:
        yield running


def traced(settings: Settings, endpoint: str, **more: object) -> Settings:
    own = settings.tracing.model_copy(update={"endpoint": endpoint, **more})
    return settings.model_copy(update={"tracing": own})


def send(world: World, photo: str, headers: dict[str, bytes] | None = None, uri: str | None = None) -> None:
    event = events.PhotoUploaded(photo, uri or f"{world.photos.url}/{photo}", datetime.now(UTC))
    world.send(photo, events.encode(event), events.UPLOADED, headers=headers)


def lines_of(spans: list[Seen]) -> set[tuple[str, str, int]]:
    """Each span by its name, that of its parent, and its kind."""
    names = {span.span: span.name for span in spans} | {SENDER: "sender", "": "none"}
    return {(span.name, names[span.parent], span.kind) for span in spans}


async def test_one_trace_leads_from_the_sender_to_the_result(world: World, collector: Collector) -> None:
    world.photos.answers["red"] = RED
    topics = world.settings.kafka.topics
    send(world, "red", SENT, f"{world.photos.url}/red?sig=canary")
    async with world.service(traced(world.settings, collector.url, service_name="tags")) as service:
        await eventually(lambda: service.outcomes() == {"tagged": 1})
    process = f"process {topics.uploads}"
    assert {span.trace for span in collector.spans} == {TRACE}
    assert lines_of(collector.spans) == {
        (process, "sender", CONSUMER),
        ("fetch", process, INTERNAL),
        ("GET", "fetch", CLIENT),
        ("decode", process, INTERNAL),
        ("infer", process, INTERNAL),
        (REQUEST, "infer", CLIENT),
        ("EVALSHA", process, CLIENT),
        (f"send {topics.tags}", process, PRODUCER),
        ("HMGET", process, CLIENT),
    }
    assert len(collector.named(REQUEST)) == 2
    (result,) = world.tags()
    said = headers_of(result)
    assert said["traceparent"] == f"00-{TRACE}-{collector.one(f'send {topics.tags}').span}-01"
    assert said["tracestate"] == "vendor=1"
    record, get = collector.one(process), collector.one("GET")
    (sent,) = world.read(topics.uploads)
    assert record.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topics.uploads,
        "messaging.destination.partition.id": str(sent.partition()),
        "messaging.kafka.offset": 0,
        "messaging.kafka.message.key": "red",
        "messaging.message.body.size": len(sent.value()),
        "messaging.consumer.group.name": world.settings.kafka.group_id,
        "photo_tagger.outcome": "tagged",
        "photo_tagger.scores": "judged",
    }
    host, _, port = world.photos.address.partition(":")
    assert get.attributes == {
        "http.request.method": "GET",
        "url.full": f"{world.photos.url}/red",
        "server.address": host,
        "server.port": int(port),
        "http.response.status_code": 200,
    }
    infer = collector.named(REQUEST)[0].attributes
    assert (infer["rpc.system.name"], infer["rpc.method"], infer["rpc.response.status_code"]) == ("grpc", REQUEST, "OK")
    written = collector.one("EVALSHA").attributes
    assert (written["db.system.name"], written["db.operation.name"]) == ("redis", "EVALSHA")
    assert written["photo_tagger.write.outcome"] == "written"
    assert record.resource["service.name"] == "tags"
    assert record.schema == "https://opentelemetry.io/schemas/1.44.0"
    assert not any(span.failed for span in collector.spans)
    assert not any(b"canary" in body for body in collector.bodies)
    (line,) = world.events_logged("photo.tagged")
    assert (line["trace_id"], line["span_id"]) == (TRACE, record.span)
    assert "trace_id" not in world.events_logged("service.started")[0]


@pytest.mark.parametrize("sent", [SENT, {}])
async def test_every_round_of_a_retry_is_in_the_same_trace(
    world: World, collector: Collector, sent: dict[str, bytes]
) -> None:
    world.photos.answers["late"] = 503
    topics = world.settings.kafka.topics
    send(world, "late", sent)
    async with world.service(traced(world.settings, collector.url)) as service:
        await eventually(lambda: service.outcomes() == {"deferred": 1})
        world.photos.answers["late"] = RED
        await eventually(lambda: service.outcomes() == {"deferred": 1, "tagged": 1})
    first, second = collector.one(f"process {topics.uploads}"), collector.one(f"process {topics.retry}")
    deferral = collector.one(f"send {topics.retry}")
    assert {span.trace for span in collector.spans} == {first.trace}
    assert (deferral.parent, first.attributes["photo_tagger.outcome"]) == (first.span, "deferred")
    assert second.attributes["photo_tagger.retry.round"] == 1
    assert second.attributes["messaging.consumer.group.name"] == f"{world.settings.kafka.group_id}.retry"
    if sent:
        assert (first.parent, second.parent) == (SENDER, SENDER)
        assert (first.links, second.links) == (frozenset(), frozenset({deferral.span}))
    else:
        assert (first.parent, second.parent, second.links) == ("", deferral.span, frozenset())
    assert [span.failed for span in collector.named("fetch")].count(True) == 2
    refused = [span for span in collector.named("GET") if span.failed]
    assert {(span.attributes["http.response.status_code"], span.attributes["error.type"]) for span in refused} == {
        (503, "503")
    }
    (waited,) = world.waiting()
    assert [name for name, _ in waited.headers()][: 1 + len(sent)] == ["ce_type", *sent]
    assert headers_of(waited)[DEFERRED_BY][:52] == f"00-{first.trace}-{deferral.span}"
    assert headers_of(waited).get("traceparent", "") == sent.get("traceparent", b"").decode()


async def test_a_dead_letter_keeps_its_senders_context_and_its_span_says_why(
    world: World, collector: Collector
) -> None:
    world.photos.answers["none"] = 403
    topics = world.settings.kafka.topics
    send(world, "none", SENT, f"{world.photos.url}/none?sig=canary")
    async with world.service(traced(world.settings, collector.url)) as service:
        await eventually(lambda: service.outcomes() == {"dead_lettered": 1})
    record = collector.one(f"process {topics.uploads}")
    assert record.failed
    assert (record.attributes["error.type"], record.attributes["photo_tagger.outcome"]) == ("http_4xx", "dead_lettered")
    assert collector.one(f"send {topics.dead}").parent == record.span
    assert collector.one("fetch").message == f"http_4xx: 403 Forbidden from {world.photos.url}/none"
    (letter,) = world.dead()
    (sent,) = world.read(topics.uploads)
    assert letter.headers()[:3] == sent.headers()
    assert DEFERRED_BY not in headers_of(letter)
    assert not any(b"canary" in body for body in collector.bodies)


HOSTILE: list[list[tuple[str, bytes | None]]] = [
    [("traceparent", b"\xff\xfe")],
    [("traceparent", None)],
    [("traceparent", b"0" * 100_000)],
    [("traceparent", SENT["traceparent"])] * 3,
    [("traceparent", b"ff" + SENT["traceparent"][2:])],
    [("traceparent", b"00-" + b"0" * 32 + b"-" + SENDER.encode() + b"-01")],
    [("traceparent", b"00-" + TRACE.encode() + b"-" + b"0" * 16 + b"-01")],
    [("traceparent", SENT["traceparent"].upper())],
    [("tracestate", b"a=1")] * 1_000,
]


async def test_hostile_contexts_begin_a_trace_of_their_own(world: World, collector: Collector) -> None:
    world.photos.answers["red"] = RED
    for number, headers in enumerate(HOSTILE):
        photo = f"red/{number}"
        value = events.encode(events.PhotoUploaded(photo, f"{world.photos.url}/{photo}", datetime.now(UTC)))
        world.producer.produce(world.settings.kafka.uploads_topic, value, photo, headers=headers)
    world.producer.flush(10)
    async with world.service(traced(world.settings, collector.url)) as service:
        await eventually(lambda: service.outcomes() == {"tagged": len(HOSTILE)})
    records = collector.named(f"process {world.settings.kafka.uploads_topic}")
    assert [span.parent for span in records] == [""] * len(HOSTILE)
    assert len({span.trace for span in records} - {TRACE}) == len(HOSTILE)
    results = {headers_of(result)["traceparent"][3:35] for result in world.tags()}
    assert results == {span.trace for span in records}


async def test_a_sender_that_does_not_record_is_followed_and_nothing_is_sent(
    world: World, collector: Collector
) -> None:
    world.photos.answers["red"] = RED
    send(world, "red", {"traceparent": f"00-{TRACE}-{SENDER}-00".encode()})
    async with world.service(traced(world.settings, collector.url)) as service:
        await eventually(lambda: service.outcomes() == {"tagged": 1})
    assert collector.spans == []
    (result,) = world.tags()
    said = headers_of(result)["traceparent"]
    assert said[:36] == f"00-{TRACE}-"
    assert said[-3:] == "-00"
    assert world.events_logged("photo.tagged")[0]["trace_id"] == TRACE


async def test_the_sample_ratio_counts_for_traces_that_begin_here(world: World, collector: Collector) -> None:
    world.photos.answers.update({"red": RED, "blue": BLUE})
    send(world, "red")
    send(world, "blue", SENT)
    async with world.service(traced(world.settings, collector.url, sample_ratio=0.0)) as service:
        await eventually(lambda: service.outcomes() == {"tagged": 2})
    assert {span.trace for span in collector.spans} == {TRACE}


def lost(service: object, reason: str) -> float:
    value = service.metrics.registry.get_sample_value(  # type: ignore[attr-defined]
        "tagger_spans_lost_total", {"reason": reason}
    )
    return value or 0.0


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(
    world: World, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    world.photos.answers["red"] = RED
    collector.status = 400
    for number in range(4):
        send(world, f"red/{number}")
    async with world.service(traced(world.settings, collector.url)) as service:
        await eventually(lambda: service.outcomes() == {"tagged": 4})
        await eventually(lambda: lost(service, "not_delivered") >= 4 * 8)
        collector.status = 200
        send(world, "red/last")
        await eventually(lambda: world.events_logged("collector.recovered"))
    assert world.events_logged("collector.lost")[0]["detail"] == "HTTP 400"
    assert len(world.events_logged("collector.lost")) == 1
    assert collector.named(f"process {world.settings.kafka.uploads_topic}")


async def test_a_collector_that_hangs_fills_no_memory_and_does_not_hold_the_end(
    world: World, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    world.photos.answers["red"] = RED
    collector.hold.clear()
    async with world.service(traced(world.settings, collector.url)) as service:
        for number in range(12):
            send(world, f"red/{number}")
        await eventually(lambda: service.outcomes() == {"tagged": 12})
        assert len(world.tags()) == 12
        # All but those in the queue and those under way.
        assert lost(service, "queue_full") >= 12 * 8 - 2 * 10
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert await asyncio.to_thread(lost, service, "not_delivered") >= 10
