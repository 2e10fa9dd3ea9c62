"""The log of releases on a real Kafka: its order is the brokers', and it goes on where it is damaged or gone."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

from confluent_kafka.admin import AdminClient

from consumer import events, releases
from consumer.kafka.topics import create_topics
from consumer.releases import Decision, Numbered, in_force
from consumer.service import release_log
from consumer.service.release_log import Follower
from tests.fakes import CONTRACT, MOMENT, tags
from tests.harness import World, eventually

RELEASE = releases.release_of(CONTRACT, reason="why", by="who", at=MOMENT)


def with_threshold(value: float) -> releases.Release:
    return replace(RELEASE, decision=Decision(0.5, value))


@contextmanager
def following(world: World) -> Iterator[list[Numbered]]:
    seen: list[Numbered] = []
    with Follower(world.settings.kafka, seen.append, lambda *_: None):
        yield seen


async def test_operators_at_the_same_time_get_numbers_of_their_own(world: World) -> None:
    kafka = world.settings.kafka
    asked = [asyncio.to_thread(release_log.append, kafka, with_threshold(number / 10)) for number in range(6)]
    numbers = [written.number for written in await asyncio.gather(*asked)]
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    log = release_log.history(kafka)
    assert [each.number for each in log] == [1, 2, 3, 4, 5, 6]
    assert {each.number: each.release for each in log} == {
        number: with_threshold(place / 10) for place, number in enumerate(numbers)
    }


async def test_what_is_no_release_is_passed_over_and_takes_a_number(world: World) -> None:
    kafka, odd = world.settings.kafka, []
    release_log.append(kafka, with_threshold(0.1))
    world.producer.produce(kafka.releases_topic, b"{", partition=0)
    world.producer.produce(kafka.releases_topic, None, b"key", partition=0)
    world.producer.flush(10)
    assert release_log.append(kafka, with_threshold(0.2)).number == 4
    log = release_log.history(kafka, lambda record, why: odd.append((record.offset, why)))
    assert [each.number for each in in_force(log)] == [1, 4]
    assert [offset for offset, _ in odd] == [1, 2]


async def test_a_release_is_seen_at_once_and_again_after_the_log_was_made_anew(world: World) -> None:
    kafka = world.settings.kafka
    version = "0000000000001.000007.0000000000000"
    for number in range(3):
        value = events.encode(tags(photo_id=f"p{number}", version=version))
        world.producer.produce(kafka.tags_topic, value, f"p{number}")
    world.producer.flush(10)
    first = release_log.append(kafka, with_threshold(0.1))
    assert first.number == 8, "it continues above what results were published under"
    with following(world) as seen:
        await eventually(lambda: [each.number for each in seen] == [8])
        began_s = monotonic()
        second = release_log.append(kafka, with_threshold(0.2))
        await eventually(lambda: seen[-1] == second)
        assert monotonic() - began_s < 10  # 2 s on a machine that does nothing else


async def test_a_log_that_is_gone_continues_above_the_results(world: World) -> None:
    kafka = world.settings.kafka
    release_log.append(kafka, with_threshold(0.1))
    release_log.append(kafka, with_threshold(0.2))
    result = tags(version="0000000000001.000002.0000000000000")
    world.producer.produce(kafka.tags_topic, events.encode(result), b"photo-1")
    world.producer.produce(kafka.tags_topic, b"no result", b"photo-2")
    world.producer.produce(kafka.tags_topic, None, b"photo-3")
    world.producer.flush(10)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([kafka.releases_topic])[kafka.releases_topic].result(10)
    await eventually(lambda: kafka.releases_topic in create_topics(kafka.bootstrap_servers, kafka.topics))
    again = release_log.append(kafka, with_threshold(0.1))
    assert again.number == 3
    (message,) = world.read(kafka.releases_topic)
    assert json.loads(message.value())["numbers_after"] == 2
