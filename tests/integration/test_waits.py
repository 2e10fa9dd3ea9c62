"""Every wait can be seen: the oldest unfinished record is named, and one that is stuck makes the service not ready."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from consumer import events
from consumer.events import PhotoUploaded, Source
from consumer.kafka.headers import retry_headers
from consumer.resilience import Deferral
from consumer.settings import Settings
from tests.harness import BLUE, World, eventually, set_topic


def impatient(settings: Settings) -> Settings:
    fetch = settings.fetch.model_copy(update={"read_timeout_s": 60.0, "total_timeout_s": 60.0})
    service = settings.service.model_copy(update={"stuck_after_s": 1.0})
    return settings.model_copy(update={"fetch": fetch, "service": service})


@pytest.mark.parametrize("retried", [False, True])
async def test_a_stuck_record_makes_the_service_not_ready_and_is_named_until_it_has_its_outcome(
    world: World, *, retried: bool
) -> None:
    awake = asyncio.Event()

    async def hang() -> web.Response:
        await awake.wait()
        return web.Response(body=BLUE)

    world.photos.answers.update({"hangs": hang, "fine": BLUE})
    kafka = world.settings.kafka
    topic = kafka.retry_topic if retried else kafka.uploads_topic
    event = PhotoUploaded("hangs", f"{world.photos.url}/hangs", datetime.now(UTC))
    waited = Deferral("http_5xx", "busy", 2, 1, datetime.now(UTC), Source(kafka.uploads_topic, 0, 0))
    sent = (("ce_type", events.UPLOADED.encode()),)
    async with world.service(impatient(world.settings)) as service:
        await eventually(lambda: service.readiness().waiting_for == [])
        headers = list(retry_headers(sent, waited) if retried else sent)
        world.producer.produce(topic, events.encode(event), "hangs", partition=2, headers=headers)
        for number in range(5):
            world.upload(f"fine{number}", "fine")
        await eventually(lambda: service.outcomes() == {"tagged": 5})
        await eventually(lambda: service.readiness().waiting_for)
        (reason,) = service.readiness().waiting_for
        assert reason.startswith(f"stuck: {topic}[2] offset ")
        oldest = service.readiness().oldest
        assert oldest is not None
        assert (oldest["topic"], oldest["partition"]) == (topic, 2)
        assert reason.endswith(f"waits for {oldest['waits_for']}")
        assert service.live()
        labels = {"topic": topic, "partition": "2"}
        seconds = "tagger_oldest_unfinished_seconds"
        await eventually(lambda: (service.metrics.registry.get_sample_value(seconds, labels) or 0.0) > 1.0)
        awake.set()
        await eventually(lambda: service.readiness().waiting_for == [])
        await eventually(lambda: service.metrics.registry.get_sample_value(seconds, labels) is None)
    (line,) = world.events_logged("record.waiting")
    assert (line["level"], line["topic"], line["partition"]) == ("warning", topic, 2)


async def test_a_record_that_waits_for_its_time_is_not_stuck(world: World) -> None:
    world.photos.answers["busy"] = 503
    later = world.settings.retry.model_copy(update={"delays_s": (30.0,)})
    async with world.service(impatient(world.settings.model_copy(update={"retry": later}))) as service:
        world.upload("busy")
        await eventually(lambda: (service.readiness().oldest or {}).get("topic") == world.settings.kafka.retry_topic)
        began = datetime.now(UTC)
        while datetime.now(UTC) - began < timedelta(seconds=1.5):
            assert service.readiness().waiting_for == []
            await asyncio.sleep(0.1)
        oldest = service.readiness().oldest
    assert oldest is not None
    assert oldest["age_s"] == 0.0
    assert str(oldest["waits_for"]).startswith("its time, ")
    assert world.events_logged("record.waiting") == []


async def test_a_record_that_no_dead_letter_topic_takes_makes_the_service_not_ready_in_words(world: World) -> None:
    kafka, fine = world.settings.kafka, 3
    set_topic(world, kafka.dead_topic, max_message_bytes="100")
    world.photos.answers["fine"] = BLUE
    async with world.service() as service:
        await eventually(lambda: service.not_ready() == [])
        world.send("bad", b"no event", events.UPLOADED, partition=1)
        for number in range(fine):
            world.upload(f"fine{number}", "fine", partition=1)
        await eventually(lambda: service.outcomes() == {"tagged": fine})
        await eventually(service.not_ready)
        (reason,) = service.not_ready()
        assert reason.startswith("stuck: a record has no place in the dead-letter topic")
        assert f"{kafka.uploads_topic}[1] offset 0: RecordRefused" in reason
        assert service.live()
    assert service.stuck.complaint is None
    assert world.committed()[1] in {0, -1001}
