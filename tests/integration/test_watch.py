"""`watch` on a real Kafka: every change once it is there, from where the caller was, whatever becomes of the topic."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from confluent_kafka.cimpl import NewTopic

from consumer import events
from consumer.embedded.kafka import Kafka
from consumer.reader import AsyncWatch, Change, Deleted, Restarted, TagReader, Tags, Watch, WatchError
from tests.fakes import tags
from tests.harness import eventually

ADMIN_S = 15
#: However short: all that was in the topic comes first.
IDLE_S = 0.01


def publish(kafka: Kafka, topic: str, records: Sequence[tuple[Any, Any, Any]], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for key, value, headers in records:
        producer.produce(topic, key=key, value=value, headers=headers, partition=partition)
    assert producer.flush(ADMIN_S) == 0


def tagged(photo_id: str) -> tuple[str, bytes, None]:
    return photo_id, events.encode(tags(photo_id=photo_id)), None


def ids(changes: Sequence[Change]) -> list[str]:
    return [type(each).__name__ if isinstance(each, Restarted) else each.photo_id for each in changes]


def admin(kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap_servers})


def test_tags_and_deletions_come_typed_and_what_nobody_can_read_is_counted(kafka: Kafka, topic: str) -> None:
    version = "0000000000009.999999.9999999999999"
    headers = [("version", version), ("deleted_at", "2026-11-21T10:15:00Z"), ("source", "photo-uploads/0/1")]
    records = [tagged("a"), (None, b"x", None), ("b", b"{", None), ("c", None, headers), ("d", None, None), tagged("e")]
    publish(kafka, topic, records)
    said: list[str] = []
    with Watch(kafka.bootstrap_servers, topic=topic, idle_s=IDLE_S, unreadable=said.append) as watch:
        found = list(watch)
    assert ids(found) == ["a", "c", "d", "e"]
    assert [type(each) for each in found] == [Tags, Deleted, Deleted, Tags]
    assert found[0] == tags(photo_id="a")
    assert [each.version for each in found[1:3]] == [version, None]
    assert watch.skipped == 2
    assert [line.partition(": ")[0] for line in said] == [f"{topic}/0/1", f"{topic}/0/2"]


def test_a_position_continues_behind_the_last_change_that_was_returned(kafka: Kafka, topic: str) -> None:
    publish(kafka, topic, [tagged(f"photo-{number}") for number in range(5)])
    publish(kafka, topic, [tagged("elsewhere")], partition=2)
    reader = TagReader("redis://127.0.0.1:1/0")
    seen: list[str] = []
    with reader.watch(kafka.bootstrap_servers, topic=topic) as watch:
        seen += ids([next(watch), next(watch)])
        position = watch.position
    with reader.watch(kafka.bootstrap_servers, topic=topic, position=position, idle_s=IDLE_S) as watch:
        assert watch.position == position
        seen += ids(list(watch))
        position = watch.position
    assert sorted(seen) == sorted([*(f"photo-{number}" for number in range(5)), "elsewhere"])
    publish(kafka, topic, [tagged("later")])
    with reader.watch(kafka.bootstrap_servers, topic=topic, position=position, idle_s=IDLE_S) as watch:
        assert ids(list(watch)) == ["later"]
    reader.close()


async def test_a_watch_is_stopped_from_another_thread(kafka: Kafka, topic: str) -> None:
    seen: list[Change] = []
    with Watch(kafka.bootstrap_servers, topic=topic) as watch:
        thread = threading.Thread(target=lambda: seen.extend(watch))
        thread.start()
        publish(kafka, topic, [tagged("a")])
        await eventually(lambda: ids(seen) == ["a"])
        watch.stop()
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()


async def test_partitions_that_are_added_are_read_too(kafka: Kafka, topic: str) -> None:
    with Watch(kafka.bootstrap_servers, topic=topic, idle_s=30) as watch:
        publish(kafka, topic, [tagged("a")])
        assert ids([next(watch)]) == ["a"]
        client = admin(kafka)
        client.create_partitions([NewPartitions(topic, 6)])[topic].result(ADMIN_S)
        await eventually(lambda: len(client.list_topics(topic).topics[topic].partitions) == 6)
        publish(kafka, topic, [tagged("b")], partition=5)
        assert ids([next(watch)]) == ["b"]


async def make_anew(kafka: Kafka, topic: str) -> None:
    client = admin(kafka)
    client.delete_topics([topic])[topic].result(ADMIN_S)
    await eventually(lambda: topic not in client.list_topics(timeout=ADMIN_S).topics)
    client.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])[topic].result(ADMIN_S)


async def test_a_topic_that_was_made_anew_is_told_and_read_from_its_beginning(kafka: Kafka, topic: str) -> None:
    publish(kafka, topic, [tagged("old")] * 5)
    with Watch(kafka.bootstrap_servers, topic=topic, idle_s=IDLE_S) as before:
        list(before)
    with Watch(kafka.bootstrap_servers, topic=topic, position=before.position, idle_s=60) as watch:
        publish(kafka, topic, [tagged("now")])
        assert ids([next(watch)]) == ["now"]
        await make_anew(kafka, topic)
        publish(kafka, topic, [tagged("new")] * 9)
        found: list[Change] = []
        while "Restarted" not in ids(found):
            found.append(next(watch))
        assert ids([next(watch) for _ in range(9)]) == ["new"] * 9
    with Watch(kafka.bootstrap_servers, topic=topic, position=before.position, idle_s=IDLE_S) as late:
        first, *others = list(late)
    assert isinstance(first, Restarted)
    assert "made anew" in first.reason
    assert ids(others) == ["new"] * 9


async def test_the_asynchronous_watch_gives_the_same_and_a_cancelled_wait_loses_nothing(
    kafka: Kafka, topic: str
) -> None:
    seen: list[Change] = []
    async with AsyncWatch(kafka.bootstrap_servers, topic=topic, idle_s=30) as watch:
        waiting = asyncio.ensure_future(anext(watch))
        done, _ = await asyncio.wait([waiting], timeout=1.0)
        assert not done
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.to_thread(publish, kafka, topic, [tagged("a"), (None, b"", None), tagged("b"), tagged("c")])
        async for change in watch:
            seen.append(change)
            if len(seen) == 2:
                break
        position = watch.position
        assert watch.skipped == 1
    assert ids(seen) == ["a", "b"]
    async with AsyncWatch(kafka.bootstrap_servers, topic=topic, position=position, idle_s=IDLE_S) as watch:
        assert ids([each async for each in watch]) == ["c"]
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


def test_what_cannot_be_watched_is_said_at_once(kafka: Kafka, topic: str) -> None:
    with (
        Watch(kafka.bootstrap_servers, topic=f"{topic}-x") as watch,
        pytest.raises(WatchError, match=f"topic {topic}-x"),
    ):
        next(watch)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        with Watch(nobody, topic=topic) as watch, pytest.raises(WatchError, match=nobody):
            next(watch)
    with pytest.raises(WatchError, match="no\\.such"):
        Watch(kafka.bootstrap_servers, topic=topic, properties={"no.such": 1})
    with pytest.raises(ValueError, match="no position"):
        Watch(kafka.bootstrap_servers, topic=topic, position="7")


def test_a_record_whose_headers_cannot_be_read_is_a_deletion_all_the_same(kafka: Kafka, topic: str) -> None:
    publish(kafka, topic, [("a", None, [("\udcff".encode(errors="surrogateescape").decode("latin-1"), b"x")])])
    with Watch(kafka.bootstrap_servers, topic=topic, idle_s=IDLE_S) as watch:
        (found,) = list(watch)
    assert isinstance(found, Deleted)
    assert replace(found, deleted_at=found.deleted_at).version is None
