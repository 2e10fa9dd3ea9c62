"""Two writers of one photo on real servers, the older of which publishes last: the topic ends with the newer one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from consumer import events, telemetry
from consumer.events import Deletion, Record, Tags
from consumer.fetch.hosts import Hosts
from consumer.kafka import clients
from consumer.kafka.headers import Delivery
from consumer.kafka.publisher import Publisher
from consumer.operations import rebuild
from consumer.order_watch import OrderWatch
from consumer.pipeline import Pipeline
from consumer.redis.store import Store
from consumer.resilience import Dependencies, RetrySchedule, StuckRecords, retry_within_budget
from consumer.telemetry import Metrics
from tests import fakes
from tests.fakes import RecordingLog, deleted_json, record, uploaded_json
from tests.harness import World, headers_of


class HeldPublisher(Publisher):
    """Publishes results when the test lets it."""

    def __init__(self, world: World) -> None:
        connect = partial(clients.producer_client, world.kafka)
        super().__init__(connect, world.settings.kafka.topics, failed=pytest.fail, log=RecordingLog())
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def _hold(self) -> None:
        self.reached.set()
        await self.go_on.wait()

    async def result(self, decision: Tags | Deletion, delivery: Delivery) -> None:
        await self._hold()
        await super().result(decision, delivery)


@asynccontextmanager
async def writer(world: World) -> AsyncIterator[tuple[Pipeline, HeldPublisher]]:
    """A pipeline with a Redis and a Kafka connection of its own; photos and scores are made up."""
    log, metrics = RecordingLog(), Metrics()
    async with Store(**world.settings.redis.model_dump()) as store:
        with HeldPublisher(world) as publisher:
            steps = replace(fakes.World().steps(), store=store, publish=publisher)
            yield (
                Pipeline(
                    steps,
                    hosts=Hosts(steps.fetch, log, metrics),
                    dependencies=Dependencies(log, metrics),
                    retry=retry_within_budget(1, log, metrics),
                    schedule=RetrySchedule(0, (1.0,)),
                    log=log,
                    metrics=metrics,
                    stuck=StuckRecords(metrics),
                    order=OrderWatch(log, metrics),
                ),
                publisher,
            )


def upload(revision: int) -> Record:
    return record(uploaded_json(revision=revision), offset=revision)


def deletion(revision: int) -> Record:
    return record(deleted_json(revision=revision), kind="photo.deleted", offset=revision)


@pytest.mark.parametrize(
    ("older", "newer"), [(upload(1), upload(2)), (upload(1), deletion(1)), (deletion(1), upload(2))]
)
async def test_the_last_record_of_a_photo_has_its_highest_version_though_the_older_was_published_last(
    world: World, older: Record, newer: Record
) -> None:
    async with writer(world) as (frozen, held), writer(world) as (other, free):
        late = asyncio.create_task(frozen.handle(fakes.World().delivery(older)))
        await held.reached.wait()
        free.go_on.set()
        await other.handle(fakes.World().delivery(newer))
        held.go_on.set()
        await late
    versions = [
        events.decode_tags(message.value()).version if message.value() else headers_of(message)["version"]
        for message in world.tags()
    ]
    assert versions == [max(versions), min(versions), max(versions)]
    assert len(set(versions)) == 2
    log = telemetry.configure_logging("debug", "json", world.log)
    checked = await rebuild.check(world.settings, log, lambda *_: None, lambda *_: None)
    assert checked.outcomes == {"same": 3}
