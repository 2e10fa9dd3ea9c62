"""Topics scanned, and records sent, on a real Kafka: holes, markers, deletions, silence, and an end that stays."""

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.errors import DependencyDown
from consumer.events import Source
from consumer.kafka import clients
from consumer.kafka.scan import Scan, TopicReader
from consumer.kafka.sender import NewRecord, Sender
from tests.harness import DEADLINE_S, read_topic

_ADMIN_TIMEOUT_S = 10
#: A client that has little in hand, so that what happens to the topic meanwhile is seen.
LITTLE_AHEAD = {"queued.min.messages": 1, "queued.max.messages.kbytes": 1, "max.partition.fetch.bytes": 10_000}


def frugal_client(bootstrap_servers: str, extra: clients.Properties) -> Consumer:
    return clients.consumer_client(bootstrap_servers, "frugal", extra, {**clients._READER, **LITTLE_AHEAD})


def admin_of(kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap_servers})


def new_topic(kafka: Kafka, partitions: int = 1, **config: str) -> str:
    name = f"test-{uuid.uuid4().hex}"
    admin = admin_of(kafka)
    made = NewTopic(name, partitions, 1, config={key.replace("_", "."): value for key, value in config.items()})
    admin.create_topics([made])[name].result(_ADMIN_TIMEOUT_S)
    return name


def fill(kafka: Kafka, topic: str, count: int, size: int = 10, **settings: Any) -> Producer:
    # Small batches: a broker sends at least a whole one, however little is asked for.
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "batch.num.messages": 10, **settings})
    if "transactional.id" in settings:
        producer.init_transactions(_ADMIN_TIMEOUT_S)
        producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, b"x" * size, str(number), partition=0)
    producer.flush(DEADLINE_S)
    return producer


def delete_before(kafka: Kafka, topic: str, offset: int) -> None:
    places = [TopicPartition(topic, 0, offset)]
    admin = admin_of(kafka)
    for answer in admin.delete_records(places).values():
        answer.result(_ADMIN_TIMEOUT_S)


def offsets(batches: Any) -> list[int]:
    return [record.offset for records in batches for record in records]


def end_of(kafka: Kafka, topic: str) -> int:
    with TopicReader(kafka.bootstrap_servers, {}, [topic]) as reader:
        return reader.ranges()[topic, 0].stop


@pytest.fixture
def topic(kafka: Kafka, topic: str) -> str:
    """The session's kind of topic, once the broker tells of it."""
    admin = admin_of(kafka)
    until(lambda: topic in admin.list_topics(timeout=_ADMIN_TIMEOUT_S).topics)
    return topic


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < end


def scan_of(kafka: Kafka, topic: str, **options: Any) -> Scan:
    return Scan(kafka.bootstrap_servers, {}, topic, **options)


def frugal_scan_of(kafka: Kafka, topic: str, **options: Any) -> Scan:
    with patch.object(clients, "reader_client", frugal_client):
        return scan_of(kafka, topic, **options)


def test_an_empty_topic_is_read_at_once(kafka: Kafka, topic: str) -> None:
    with scan_of(kafka, topic) as scan:
        assert (scan.finished, scan.total, list(scan)) == (True, 0, [])


def test_a_topic_that_is_missing_is_named(kafka: Kafka) -> None:
    with pytest.raises(DependencyDown, match="no topic no-such-topic; create it"):
        scan_of(kafka, "no-such-topic")


def test_no_group_is_joined_and_nothing_is_committed(kafka: Kafka, topic: str) -> None:
    fill(kafka, topic, 3)
    with scan_of(kafka, topic) as scan:
        assert offsets(scan) == [0, 1, 2]
        admin = admin_of(kafka)
        groups = admin.list_consumer_groups().result(_ADMIN_TIMEOUT_S).valid
    assert "photo-tagger-reader" not in {group.group_id for group in groups}


def test_the_end_is_the_one_at_the_start_though_records_keep_coming(kafka: Kafka, topic: str) -> None:
    fill(kafka, topic, 50)
    with frugal_scan_of(kafka, topic) as scan:
        seen: list[int] = []
        for records in scan:
            seen += [record.offset for record in records]
            fill(kafka, topic, 20)
    assert seen == list(range(50))


def test_a_reader_goes_on_past_the_end(kafka: Kafka, topic: str) -> None:
    fill(kafka, topic, 2)
    with TopicReader(kafka.bootstrap_servers, {}, [topic]) as reader:
        reader.start({partition: held.start for partition, held in reader.ranges().items()})
        seen: list[int] = []

        def read(count: int) -> bool:
            seen.extend(record.offset for record in reader.read(0.1))
            return len(seen) >= count

        until(lambda: read(2))
        fill(kafka, topic, 1)
        until(lambda: read(3))
    assert seen == [0, 1, 2]


def test_a_scan_may_begin_at_a_time(kafka: Kafka, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number in range(6):
        producer.produce(topic, b"", partition=number % 2, timestamp=1_700_000_000_000 + number)
    producer.flush(DEADLINE_S)
    with scan_of(kafka, topic, since=datetime.fromtimestamp(1_700_000_000.003, UTC)) as scan:
        found = sorted((record.partition, record.offset) for records in scan for record in records)
    assert found == [(0, 2), (1, 1), (1, 2)]


@pytest.mark.parametrize("commits", [True, False])
def test_a_topic_that_ends_with_a_transaction_is_read_to_its_end(kafka: Kafka, topic: str, commits: bool) -> None:
    fill(kafka, topic, 2)
    producer = fill(kafka, topic, 3, **{"transactional.id": uuid.uuid4().hex})
    (producer.commit_transaction if commits else producer.abort_transaction)(_ADMIN_TIMEOUT_S)
    # The marker is written after the coordinator's answer.
    until(lambda: end_of(kafka, topic) == 6)
    with scan_of(kafka, topic) as scan:
        assert offsets(scan) == list(range(5 if commits else 2))
        assert (scan.total, scan.done) == (6, 6)


def test_a_compacted_topic_is_read_over_its_holes(kafka: Kafka) -> None:
    topic = new_topic(kafka, cleanup_policy="compact", segment_ms="50", min_cleanable_dirty_ratio="0.001")
    produced = 0

    def has_holes() -> bool:
        nonlocal produced
        produced += 5
        fill(kafka, topic, 5)
        return len(read_topic(kafka.bootstrap_servers, topic)) < produced - 10

    until(has_holes)

    def left() -> set[int]:
        return {message.offset() for message in read_topic(kafka.bootstrap_servers, topic)}

    before = left()
    with scan_of(kafka, topic) as scan:
        found = offsets(scan)
        # The cleaner goes on meanwhile.
        assert left() <= set(found) <= before
        assert found == sorted(found)
        assert (scan.total, scan.done) == (produced, produced)


def test_records_that_are_deleted_during_a_scan_are_passed_over(kafka: Kafka, topic: str) -> None:
    fill(kafka, topic, 1000, size=1000)
    with frugal_scan_of(kafka, topic) as scan:
        seen: list[int] = []
        until(lambda: bool(seen.extend(record.offset for record in scan.read()) or seen))
        delete_before(kafka, topic, 990)
        rest = offsets(scan)
        assert scan.done == scan.total == 1000
    assert rest[-10:] == list(range(990, 1000))
    assert len(seen + rest) < 900
    assert seen + rest == sorted(set(seen + rest))


def test_a_scan_ends_though_everything_up_to_its_end_was_deleted(kafka: Kafka, topic: str) -> None:
    fill(kafka, topic, 1000, size=1000)
    with frugal_scan_of(kafka, topic) as scan:
        fill(kafka, topic, 5)
        delete_before(kafka, topic, OFFSET_END)
        assert len(offsets(scan)) < 900
        assert scan.done == scan.total == 1000


def test_a_topic_that_is_deleted_during_a_scan_ends_it(kafka: Kafka) -> None:
    topic = new_topic(kafka)
    fill(kafka, topic, 1000, size=1000)
    with frugal_scan_of(kafka, topic, silence_s=1.0) as scan:
        admin = admin_of(kafka)
        admin.delete_topics([topic])[topic].result(_ADMIN_TIMEOUT_S)
        with pytest.raises(DependencyDown, match=rf"{topic}\[0\]"):
            list(scan)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A Kafka that a test may silence."""
    with Servers(tmp_path / "logs") as owner:
        yield owner.start_kafka("real")


def test_a_broker_that_falls_silent_is_told_of_and_one_that_is_back_is_read_on(own_kafka: Kafka) -> None:
    topic = new_topic(own_kafka)
    fill(own_kafka, topic, 1000, size=1000)
    with frugal_scan_of(own_kafka, topic, silence_s=1.0) as scan:
        seen = [record.offset for record in scan.read()]
        sender = Sender(own_kafka.bootstrap_servers, {}, [topic])
        own_kafka.pause()
        with pytest.raises(DependencyDown, match=rf"{topic}\[0\]@\d+: no record for 1 s before the end at 1000"):
            seen.extend(record.offset for records in scan for record in records)
        with pytest.raises(DependencyDown, match=r"no acknowledgement within 1 s \(2 of 2 records"):
            sender.send([NewRecord(topic, b"k", b"v")] * 2, timeout_s=1)
        own_kafka.resume()
        seen += offsets(scan)
    assert seen == list(range(1000))
    own_kafka.pause()
    with pytest.raises(DependencyDown):
        scan_of(own_kafka, topic)


def test_records_are_sent_and_their_places_returned(kafka: Kafka, topic: str) -> None:
    sender = Sender(kafka.bootstrap_servers, {}, [topic])
    keys = [str(number).encode() for number in range(40)]
    stored = sender.send(NewRecord(topic, key, b"v", (("a", b"1"), ("a", None)), 1_700_000_000_000) for key in keys)
    messages = read_topic(kafka.bootstrap_servers, topic)
    by_place = {Source(topic, message.partition(), message.offset()): message for message in messages}
    assert [by_place[place].key() for place in stored] == keys
    assert {message.timestamp()[1] for message in messages} == {1_700_000_000_000}
    assert messages[0].headers() == [("a", b"1"), ("a", None)]


def test_a_record_that_the_broker_refuses_is_told_of_with_its_reason(kafka: Kafka) -> None:
    topic = new_topic(kafka, max_message_bytes="1000")
    sender = Sender(kafka.bootstrap_servers, {"compression.type": "none"}, [topic])
    with pytest.raises(DependencyDown, match=r"MSG_SIZE_TOO_LARGE.*\(1 of 1 records"):
        sender.send([NewRecord(topic, b"k", b"x" * 10_000)])
    assert sender.send([NewRecord(topic, b"k", b"small")]) == [Source(topic, 0, 0)]
