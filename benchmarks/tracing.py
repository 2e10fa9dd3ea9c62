"""What traces cost a photo in this process: `.venv/bin/python -m benchmarks.tracing`.

The real pipeline, over steps that do nothing, handles photos one after the other: without traces, with traces that are
not recorded, and with recorded ones, whose spans are encoded in the exporter's thread and handed to a collector that
costs nothing. Prints the CPU time for one photo, the least of the rounds, and the calls of Python functions.
"""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np
import requests

from consumer import tagging
from consumer.contract import Geometry, ModelContract, Views
from consumer.events import Deletion, Photo, PhotoUploaded, Record, Scores, Source, Tags, encode, source_of
from consumer.fetch.hosts import Hosts
from consumer.kafka.headers import Delivery
from consumer.order_watch import OrderWatch
from consumer.pipeline import Pipeline
from consumer.redis.store import Written
from consumer.resilience import Dependencies, RetrySchedule, StuckRecords, retry_within_budget
from consumer.steps import Judgement, Steps
from consumer.telemetry import Metrics, configure_logging
from consumer.topic_names import TopicNames
from consumer.tracing import collector, tracing

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
CONTRACT = ModelContract("q", "1", Geometry(8, 8), 0.5, "b", "1", Geometry(8, 8), 0.6, ("one", "no_logo"))


class Nothing:
    """Every edge of the path: it takes everything and does nothing."""

    def __init__(self) -> None:
        self.unread: dict[tuple[str, int], Any] = {}

    async def fetch(self, event: PhotoUploaded) -> Photo:
        """A photo without bytes."""
        return Photo(event.photo_id, event.uri, b"")

    async def prepare(self, _: object) -> Views:
        """One pixel."""
        return {Geometry(8, 8): np.zeros(1, np.uint8)}

    async def infer(self, _: object) -> Scores:
        """The same scores for all."""
        return Scores(0.5, np.zeros(2, np.float32), CONTRACT.models)

    async def write(self, decision: Tags | Deletion) -> Written:
        """It is written."""
        return Written("written", decision)

    async def newer(self, _: object) -> None:
        """There is nothing newer."""

    async def result(self, _: object, __: object) -> None:
        """It is published."""

    def done(self, _: object) -> None:
        """It is done."""

    def tag(self, event: PhotoUploaded, scores: Scores, origin: Source) -> Tags:
        """The tags, as the service decides them."""
        return tagging.decide(event, scores, origin, CONTRACT, release=1, top_k=5, tagged_at=datetime.now(UTC))


class Free(requests.adapters.BaseAdapter):
    """A collector that takes everything at once."""

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        """It is taken."""
        answer = requests.Response()
        answer.status_code, answer.request, answer._content = 200, request, b""  # noqa: SLF001 - as adapters do
        return answer

    def close(self) -> None:
        """Nothing is open."""


def path(traces: tracing.Tracing | None, metrics: Metrics) -> Callable[[Delivery], Awaitable[Any]]:
    """What handles a record."""
    edge: Any = Nothing()
    judgement = Judgement(edge.prepare, edge.infer, edge.tag)
    steps = Steps(edge.fetch, lambda: judgement, edge.tag, edge, edge)
    if traces is not None:
        steps = traces.steps(steps, edge)
    log = configure_logging("warning", "json")
    handle = Pipeline(
        steps,
        hosts=Hosts(steps.fetch, log, metrics),
        dependencies=Dependencies(log, metrics),
        retry=retry_within_budget(1, log, metrics),
        schedule=RetrySchedule(0, (1.0,)),
        log=log,
        metrics=metrics,
        stuck=StuckRecords(metrics),
        order=OrderWatch(log, metrics),
    ).handle
    return handle if traces is None else traces.handle(handle)


async def handled(handle: Callable[[Delivery], Awaitable[Any]], photos: int, flags: bytes) -> float:
    """CPU seconds of this process for so many photos."""
    value = encode(PhotoUploaded("p", "https://photos.example/a.jpg", datetime.now(UTC)))
    owner: Any = Nothing()
    began = time.process_time()
    for number in range(photos):
        record = Record("photo-uploads", 0, number, b"p", value, (("traceparent", TRACEPARENT + flags),))
        await handle(Delivery(record, owner, source_of(record), record.headers))
    return time.process_time() - began


async def calls(handle: Callable[[Delivery], Awaitable[Any]], flags: bytes) -> int:
    """The calls of Python functions for one photo."""
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event == "call"

    await handled(handle, 1, flags)
    sys.setprofile(note)
    try:
        await handled(handle, 1, flags)
    finally:
        sys.setprofile(None)
    return count


async def main(photos: int, rounds: int) -> None:
    logging.getLogger("opentelemetry").propagate = False
    session = collector.Session()
    session.mount("http://", Free())
    collector.Session = lambda: session  # type: ignore[assignment,misc]  # the collector that costs nothing
    around = tracing.Surroundings("triton:8001", "redis://redis:6379/0", cluster=False, topics=TopicNames(), groups={})
    to = collector.Collector("http://collector:4318")
    async with tracing.Tracing(to, around, configure_logging("warning", "json"), metrics := Metrics()) as traces:
        ways = {
            "without traces": (path(None, Metrics()), b"01"),
            "not recorded": (path(traces, Metrics()), b"00"),
            "recorded": (path(traces, Metrics()), b"01"),
        }
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (handle, flags) in ways.items():
                costs[name].append(await handled(handle, photos, flags) / photos)
                await asyncio.sleep(0.2)  # the thread sends what is left
        for name, (handle, flags) in ways.items():
            least, middle = min(costs[name]) * 1e6, median(costs[name]) * 1e6
            print(f"{name:15} {least:6.0f} us least, {middle:6.0f} us median, {await calls(handle, flags):5} calls")
        lost = sum(entry.value for entry in next(iter(metrics.spans_lost.collect())).samples)
        print(f"spans without room in the queue: {lost:.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    asyncio.run(main(options.photos, options.rounds))
