"""The pipeline over a world in memory, with spans."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
import structlog

from consumer.errors import DependencyDown, PhotoRejected, Reason, Retryable
from consumer.events import Headers, Record
from consumer.fetch.hosts import Hosts
from consumer.kafka.headers import retry_headers
from consumer.kafka.publisher import Traced
from consumer.order_watch import OrderWatch
from consumer.pipeline import Pipeline
from consumer.resilience import Dependencies, RetrySchedule, StuckRecords, retry_within_budget
from consumer.telemetry import Metrics, configure_logging
from consumer.topic_names import TopicNames
from consumer.tracing.collector import Collector as To
from consumer.tracing.tracing import Surroundings, Tracing
from tests.collector import Collector, Seen, collecting
from tests.fakes import World, deleted_json, record

TRACE, SENDER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = (("traceparent", f"00-{TRACE}-{SENDER}-01".encode()),)
AROUND = Surroundings(
    "triton:8001",
    "redis://me:canary@redis:6380/3?x=1",
    cluster=False,
    topics=TopicNames(),
    groups={"photo-uploads": "g"},
)


class Publishing:
    """The publisher of a world; of results it notes the trace."""

    def __init__(self, world: World) -> None:
        own = world.steps().publish
        self.retry, self.dead_letter = own.retry, own.dead_letter
        self.traces: list[Headers] = []

    async def result(self, _: object, given: Traced) -> None:
        self.traces.append(given.trace)


class Bench:
    """A pipeline with traces, and the collector that gets them."""

    def __init__(self, world: World, traces: Tracing, collector: Collector, rounds: int = 1) -> None:
        self.world, self.traces, self.collector = world, traces, collector
        self.log, metrics = StringIO(), Metrics()
        log = configure_logging("debug", "json", self.log)
        self.published = Publishing(world)
        publisher: Any = self.published
        self.steps = traces.steps(world.steps(), publisher)
        self.handle = traces.handle(
            Pipeline(
                self.steps,
                hosts=Hosts(self.steps.fetch, log, metrics),
                dependencies=Dependencies(log, metrics),
                retry=retry_within_budget(1, log, metrics),
                schedule=RetrySchedule(rounds, (1.0,)),
                log=log,
                metrics=metrics,
                stuck=StuckRecords(metrics),
                order=OrderWatch(log, metrics),
            ).handle
        )

    async def spans(self, *records: Record) -> list[Seen]:
        """Handles records, ends the traces and gives their spans."""
        for one in records:
            await self.handle(self.world.delivery(one))
        await self.traces.__aexit__()
        return self.collector.spans


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with collecting() as collector:
        traces = Tracing(To(collector.url), AROUND, configure_logging("error", "json"), Metrics())
        yield Bench(World(), traces, collector)
        await traces.__aexit__()
    structlog.reset_defaults()


def failing(world: World, at: str, failure: Exception) -> None:
    async def fault(verb: str) -> None:
        if verb == at:
            raise failure

    world.fault = fault


def named(spans: list[Seen], name: str) -> Seen:
    (found,) = (span for span in spans if span.name == name)
    return found


async def test_where_redis_is_is_said_and_nothing_of_its_password(bench: Bench) -> None:
    spans = await bench.spans(record(headers=SENT))
    assert named(spans, "EVALSHA").attributes == {
        "db.system.name": "redis",
        "db.namespace": "3",
        "db.operation.name": "EVALSHA",
        "db.stored_procedure.name": "write_tags.lua",
        "server.address": "redis",
        "server.port": 6380,
        "photo_tagger.write.outcome": "written",
    }
    assert b"canary" not in b"".join(bench.collector.bodies)
    assert {span.trace for span in spans} == {TRACE}
    assert named(spans, "process photo-uploads").attributes["photo_tagger.outcome"] == "tagged"
    sent = named(spans, "send photo-tags").span
    assert bench.published.traces == [(("traceparent", f"00-{TRACE}-{sent}-01".encode()),)]


async def test_a_deletion_is_one_trace_too(bench: Bench) -> None:
    spans = await bench.spans(record(deleted_json(), kind="photo.deleted", headers=SENT))
    process = named(spans, "process photo-uploads")
    assert process.attributes["photo_tagger.outcome"] == "deleted"
    assert {span.name: span.parent for span in spans if span is not process} == dict.fromkeys(
        ("EVALSHA", "HMGET", "send photo-tags"), process.span
    )


@pytest.mark.parametrize(
    ("at", "failure", "name", "kind"),
    [
        ("fetch", PhotoRejected("http_4xx", "404 from https://p/a.jpg"), "fetch", "http_4xx"),
        ("prepare", PhotoRejected("corrupt_image", "no"), "decode", "corrupt_image"),
        ("infer", PhotoRejected("inference_rejected", "no"), "infer", "inference_rejected"),
        ("infer", RuntimeError("https://p/?sig=canary"), "infer", "RuntimeError"),
    ],
)
async def test_a_step_that_fails_says_why(
    bench: Bench, at: str, failure: Exception, name: str, kind: Reason | str
) -> None:
    failing(bench.world, at, failure)
    spans = await bench.spans(record(headers=SENT))
    step, process = named(spans, name), named(spans, "process photo-uploads")
    assert (step.failed, step.attributes["error.type"]) == (True, kind)
    assert process.failed
    assert named(spans, "send photo-uploads.dead").parent == process.span
    assert b"canary" not in b"".join(bench.collector.bodies)
    assert bench.world.dead[0].record.headers == SENT
    assert f'"trace_id":"{TRACE}"' in bench.log.getvalue()


async def test_a_failure_that_quotes_what_is_not_unicode_costs_no_spans(bench: Bench) -> None:
    failing(bench.world, "fetch", PhotoRejected("corrupt_image", "a\udcff.jpg"))
    spans = await bench.spans(record(headers=SENT))
    assert named(spans, "fetch").message == "corrupt_image: a\\udcff.jpg"


async def test_rounds_of_a_retry_are_linked(bench: Bench) -> None:
    one = record(headers=SENT)
    failing(bench.world, "fetch", Retryable("http_5xx", "503"))
    await bench.handle(bench.world.delivery(one))
    deferral = bench.world.deferred[0][1]
    assert deferral.by.startswith(f"00-{TRACE}-")
    failing(bench.world, "", RuntimeError())
    spans = await bench.spans(replace(one, topic="photo-uploads.retry", headers=retry_headers(one.headers, deferral)))
    send, second = named(spans, "send photo-uploads.retry"), named(spans, "process photo-uploads.retry")
    assert (second.parent, second.links) == (SENDER, frozenset({send.span}))
    first = named(spans, "process photo-uploads")
    assert (first.failed, first.attributes["photo_tagger.outcome"]) == (False, "deferred")


async def test_an_outage_shows_every_attempt(bench: Bench) -> None:
    left = [DependencyDown("redis", "away")]

    async def fault(verb: str) -> None:
        if verb == "write" and left:
            raise left.pop()

    bench.world.fault = fault
    spans = [span for span in await bench.spans(record(headers=SENT)) if span.name == "EVALSHA"]
    assert sorted(span.failed for span in spans) == [False, True]


async def test_a_photo_that_is_given_up_ends_its_spans(bench: Bench) -> None:
    reached = asyncio.Event()

    async def fault(verb: str) -> None:
        if verb == "infer":
            reached.set()
            await asyncio.Event().wait()

    bench.world.fault = fault
    task = asyncio.ensure_future(bench.handle(bench.world.delivery(record(headers=SENT))))
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    spans = await bench.spans()
    assert {named(spans, name).attributes["error.type"] for name in ("infer", "process photo-uploads")} == {
        "CancelledError"
    }


async def test_the_judgement_stays_the_same_while_the_release_does(bench: Bench) -> None:
    assert bench.steps.judgement() is bench.steps.judgement()


async def test_log_lines_of_other_records_have_other_ids(bench: Bench) -> None:
    await bench.spans(record(headers=SENT), record(offset=1))
    assert structlog.contextvars.get_contextvars() == {}
    lines = [line for line in bench.log.getvalue().splitlines() if '"photo.tagged"' in line]
    assert [TRACE in line for line in lines] == [True, False]
    assert '"trace_id":"' in lines[1]
