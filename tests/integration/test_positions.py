"""Positions of a group on a real Kafka: first starts, topics made anew or cut, refusals, transactions, late answers.

With sources alone: what they deliver is done at once, unless a test holds it back.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from consumer.embedded.kafka import Kafka
from consumer.kafka import clients, offset_map
from consumer.kafka.ends import Ends
from consumer.kafka.headers import Delivery, delivery_of
from consumer.kafka.plans import Subscription
from consumer.kafka.scan import Scan
from consumer.kafka.source import Source
from consumer.kafka.topic_ids import TopicIds
from consumer.telemetry import Metrics
from consumer.topic_names import TopicNames
from tests.fakes import RecordingLog
from tests.harness import DEADLINE_S, committed_offsets
from tests.mock_cluster import OFFSET_COMMIT, OFFSET_FETCH, MockCluster, mock_cluster

if TYPE_CHECKING:
    from consumer.errors import SourceFailed

# Metadata as often as the service asks for them.
QUICK = {"heartbeat.interval.ms": 500}


def eventually(check: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not check():
        assert time.monotonic() < end, f"did not happen within {deadline_s} s"
        time.sleep(0.02)


class Member:
    """A source of one topic in a group; `read` holds the values of what was delivered, in order."""

    def __init__(
        self,
        kafka: str,
        topic: str,
        group: str,
        first_position: str = "earliest",
        protocol: str = "classic",
        **extra: Any,
    ) -> None:
        self.read: list[bytes] = []
        self.holding = False
        self.held: list[Delivery] = []
        self.failures: list[SourceFailed] = []
        self.log, self.metrics = RecordingLog(), Metrics()
        quick = QUICK if protocol == "classic" else {}
        self.source = Source(
            Subscription(topic, first_position, group_protocol=protocol),
            connect=partial(clients.consumer_client, kafka, group, {**quick, **extra}),
            topic_ids=TopicIds(partial(clients.admin_client, kafka, {})),
            ends=Ends(partial(clients.admin_client, kafka, {})),
            max_in_flight=1_000,
            suspended=threading.Event(),
            read=delivery_of,
            deliver=self.deliver,
            failed=self.failures.append,
            log=self.log,
            metrics=self.metrics,
        )

    def deliver(self, deliveries: Any) -> None:
        for delivery in deliveries:
            self.read.append(delivery.record.value)
            if self.holding:
                self.held.append(delivery)
            else:
                delivery.done()

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


class Topic:
    """A topic of a test, with its group."""

    def __init__(self, kafka: str, partitions: int = 2) -> None:
        self.kafka, self.name, self.group = kafka, f"positions-{uuid.uuid4().hex}", f"group-{uuid.uuid4().hex}"
        self.admin = AdminClient({"bootstrap.servers": kafka})
        if partitions:
            self.create(partitions)

    def create(self, partitions: int = 2) -> None:
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.admin.create_topics([NewTopic(self.name, partitions, 1)])[self.name].result(10)
            except KafkaException:
                assert time.monotonic() < end
            else:
                return

    def make_anew(self, partitions: int = 2) -> None:
        self.admin.delete_topics([self.name])[self.name].result(10)
        self.create(partitions)

    def send(self, what: str, count: int, partition: int = 0, **settings: Any) -> list[bytes]:
        # A producer that knew the old topic would send to that.
        producer = Producer({"bootstrap.servers": self.kafka, **settings})
        values = [f"{what}{number}".encode() for number in range(count)]
        if settings:
            producer.init_transactions(DEADLINE_S)
            producer.begin_transaction()
        for value in values:
            producer.produce(self.name, value, partition=partition)
        producer.flush(10)
        if settings:
            producer.abort_transaction(DEADLINE_S)
        return values

    def delete_before(self, offset: int, partition: int = 0) -> None:
        for answer in self.admin.delete_records([TopicPartition(self.name, partition, offset)]).values():
            answer.result(10)

    @contextmanager
    def consumer(self) -> Iterator[Consumer]:
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": self.group})
        try:
            yield consumer
        finally:
            consumer.close()

    def committed(self, partition: int = 0) -> TopicPartition:
        with self.consumer() as consumer:
            return committed_offsets(consumer, [TopicPartition(self.name, partition)])[0]

    def commit(self, offset: int, metadata: str | None = None, partition: int = 0) -> None:
        with self.consumer() as consumer:
            consumer.commit(offsets=[TopicPartition(self.name, partition, offset, metadata or "")], asynchronous=False)

    @contextmanager
    def member(self, *, killed: bool = False, **options: Any) -> Iterator[Member]:
        """A member that has its partitions; `killed` leaves without a last commit."""
        member = Member(self.kafka, self.name, self.group, **options)
        member.source.start()
        try:
            eventually(lambda: member.source.ready)
            yield member
        finally:
            if killed:
                member.source._commits.store = lambda _: None  # type: ignore[method-assign]
            member.source.close(10)
        assert member.failures == []


@pytest.fixture
def uploads(kafka: Kafka) -> Topic:
    return Topic(kafka.bootstrap_servers)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("first_position", ["earliest", "latest"])
def test_idle_partitions_get_a_position_at_once_and_a_restart_skips_nothing(
    uploads: Topic, first_position: str, protocol: str
) -> None:
    uploads.send("old", 3, partition=1)
    with uploads.member(first_position=first_position, protocol=protocol) as member:
        eventually(lambda: [uploads.committed(number).offset for number in (0, 1)] == [0, 3])
    assert (member.read == []) == (first_position == "latest")
    values = uploads.send("meanwhile", 1) + uploads.send("there", 1, partition=1)
    with uploads.member(first_position=first_position, protocol=protocol) as member:
        eventually(lambda: len(member.read) >= 2)
    assert sorted(member.read) == sorted(values)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_without_a_partition_stand_by_ready(kafka: Kafka, protocol: str) -> None:
    topic = Topic(kafka.bootstrap_servers, partitions=1)
    with topic.member(protocol=protocol) as first, topic.member(protocol=protocol) as second:
        values = topic.send("a", 5)
        eventually(lambda: sorted([*first.read, *second.read]) == sorted(values))
        # Between being taken from one and given to the other, nobody has it.
        eventually(lambda: sorted(each.value("tagger_assigned_partitions") for each in (first, second)) == [0, 1])
        assert first.source.ready
        assert second.source.ready


def test_a_partition_that_is_added_later_is_read_from_its_beginning(uploads: Topic) -> None:
    uploads.send("old", 3)
    with uploads.member(first_position="latest") as member:
        eventually(lambda: uploads.committed(1).offset == 0)
        uploads.admin.create_partitions([NewPartitions(uploads.name, 4)])[uploads.name].result(10)
        values = uploads.send("new", 5, partition=3)
        eventually(lambda: len(member.read) >= 5)
        assert member.read == values


def test_partitions_of_a_first_start_that_come_to_another_member_are_not_skipped(uploads: Topic) -> None:
    with uploads.member(first_position="latest", killed=True):
        eventually(lambda: uploads.committed(1).offset == 0)
    values = uploads.send("meanwhile", 2) + uploads.send("there", 2, partition=1)
    with uploads.member(first_position="latest") as one, uploads.member(first_position="latest") as two:
        eventually(lambda: len(one.read + two.read) >= 4)
    assert sorted(set(one.read + two.read)) == sorted(values)


@pytest.mark.parametrize("refresh_ms", [200, 300_000])
@pytest.mark.parametrize("count", [10, 60])
def test_a_topic_that_is_made_anew_while_it_is_read_loses_nothing_and_says_so(
    uploads: Topic, count: int, refresh_ms: int
) -> None:
    # With a quick refresh the group notices a deletion first, and gives the partitions up.
    with uploads.member(**{"topic.metadata.refresh.interval.ms": refresh_ms}) as member:
        uploads.send("old", 50)
        eventually(lambda: uploads.committed().offset == 50)
        uploads.make_anew()
        values = uploads.send("new", count)
        eventually(lambda: set(values) <= set(member.read))
        eventually(lambda: uploads.committed().offset == count)
        eventually(lambda: member.log.named("offsets.reset"))
    with uploads.member() as member:
        values = uploads.send("later", 1)
        eventually(lambda: member.read)
        assert member.read == values


@pytest.mark.parametrize("count", [10, 50, 60])
def test_a_topic_that_was_made_anew_while_nobody_read_is_told_by_its_id(uploads: Topic, count: int) -> None:
    with uploads.member() as member:
        uploads.send("old", 50)
        eventually(lambda: offset_map.topic_of(50, uploads.committed().metadata))
        eventually(lambda: uploads.committed().offset == 50)
    old = uploads.committed()
    uploads.make_anew()
    values = uploads.send("new", count)
    # A member that was killed in time may have committed this to the new topic.
    uploads.commit(old.offset, old.metadata)
    with uploads.member(killed=True) as member:
        eventually(lambda: set(values) <= set(member.read))
        assert member.log.named("offsets.reset")
        eventually(lambda: uploads.committed().offset == count)
    assert offset_map.topic_of(count, uploads.committed().metadata) not in {"", offset_map.topic_of(50, old.metadata)}


def test_a_position_that_somebody_else_committed_is_taken_as_it_is(uploads: Topic) -> None:
    values = uploads.send("old", 10)
    uploads.commit(4, "by hand")
    with uploads.member() as member:
        eventually(lambda: member.read == values[4:])
        eventually(lambda: offset_map.topic_of(10, uploads.committed().metadata))
        assert member.log.named("offsets.reset") == []


def test_records_that_were_deleted_unread_are_counted_and_the_position_moves_at_once(uploads: Topic) -> None:
    values = uploads.send("old", 20)
    uploads.commit(4)
    uploads.delete_before(15)
    with uploads.member() as member:
        eventually(lambda: member.read == values[15:])
        (line,) = member.log.named("offsets.reset")
        assert (line["lost"], member.value("tagger_records_lost_total", topic=uploads.name)) == (11, 11)


def test_a_position_behind_the_log_is_brought_back_and_survives_a_kill(uploads: Topic) -> None:
    values = uploads.send("old", 20)
    uploads.commit(500)
    with uploads.member(killed=True) as member:
        eventually(lambda: uploads.committed().offset in {0, 20})
    with uploads.member() as again:
        eventually(lambda: uploads.committed().offset == 20)
    assert set(member.read + again.read) == set(values)


@pytest.mark.parametrize("before", [0, 3])
def test_the_position_reaches_the_end_behind_aborted_records(uploads: Topic, before: int) -> None:
    uploads.send("good", before)
    with uploads.member() as member:
        uploads.send("aborted", 5, **{"transactional.id": uploads.name})
        eventually(lambda: uploads.committed().offset == before + 6)
        eventually(lambda: member.value("tagger_consumer_lag_records", topic=uploads.name, partition="0") == 0)
        assert len(member.read) == before


def test_the_position_waits_for_the_unfinished_however_far_the_log_was_read(uploads: Topic) -> None:
    with uploads.member() as member:
        member.holding = True
        uploads.send("held", 2)
        uploads.send("aborted", 3, **{"transactional.id": uploads.name})
        eventually(lambda: len(member.held) == 2)
        oldest = member.source.oldest
        assert oldest is not None
        assert (oldest.partition, oldest.offset, oldest.waits_for) == (0, 0, "its turn")
        member.held[1].done()
        eventually(lambda: offset_map.decode(0, uploads.committed().metadata) == {1})
        assert uploads.committed().offset == 0
        member.held[0].done()
        eventually(lambda: uploads.committed().offset == 6)
        eventually(lambda: member.source.oldest is None)


def test_a_topic_that_is_deleted_is_named_until_it_is_there_again(uploads: Topic) -> None:
    uploads.send("old", 5)
    with uploads.member() as member:
        eventually(lambda: len(member.read) == 5)
        uploads.admin.delete_topics([uploads.name])[uploads.name].result(10)
        eventually(lambda: member.source.complaint == f"no topic {uploads.name}")
        assert uploads.name in member.log.named("kafka.errored")[-1]["detail"]
        uploads.create(3)
        values = uploads.send("new", 5, partition=2)
        eventually(lambda: member.read[5:] == values)
        eventually(lambda: member.source.complaint is None)


@pytest.mark.parametrize("kind", ["open", "aborted"])
def test_a_transaction_that_stays_open_is_seen_to_hold_the_records_behind_it(uploads: Topic, kind: str) -> None:
    with uploads.member() as member:
        uploads.send("before", 2)
        eventually(lambda: uploads.committed().offset == 2)
        producer = Producer({"bootstrap.servers": uploads.kafka, "transactional.id": uploads.name})
        producer.init_transactions(DEADLINE_S)
        producer.begin_transaction()
        for _ in range(3):
            producer.produce(uploads.name, b"never", partition=0)
        producer.flush(10)
        after = uploads.send("after", 2)
        if kind == "open":
            eventually(lambda: member.source.oldest is not None)
            oldest = member.source.oldest
            assert oldest is not None
            assert (oldest.topic, oldest.partition, oldest.offset) == (uploads.name, 0, 2)
            assert "transaction" in oldest.waits_for
            lag = partial(member.value, "tagger_consumer_lag_records", topic=uploads.name, partition="0")
            eventually(lambda: lag() == 5)
        producer.abort_transaction(DEADLINE_S)
        eventually(lambda: member.read[2:] == after)
        eventually(lambda: uploads.committed().offset == 8)
        eventually(lambda: member.source.oldest is None)


def test_a_topic_that_is_made_anew_forgets_what_was_in_flight_of_the_old_one(uploads: Topic) -> None:
    with uploads.member() as member:
        member.holding = True
        uploads.send("old", 5)
        eventually(lambda: len(member.held) == 5)
        member.holding = False
        uploads.make_anew()
        values = uploads.send("new", 2)
        eventually(lambda: set(values) <= set(member.read))
        eventually(lambda: uploads.committed().offset == 2)
        eventually(lambda: member.source.oldest is None)
        for delivery in member.held:
            delivery.done()
        eventually(lambda: member.value("tagger_late_completions_total") == 5)
        assert uploads.committed().offset == 2


def test_metadata_that_the_cluster_refuses_does_not_hold_the_positions(uploads: Topic, monkeypatch: Any) -> None:
    # As if the cluster's `offset.metadata.max.bytes` were small: one broker of the tests serves all.
    encode = offset_map.encode
    monkeypatch.setattr(
        offset_map, "encode", lambda position, done, topic_id="": encode(position, done, topic_id).ljust(5_000, "=")
    )
    with uploads.member() as member:
        uploads.send("good", 5)
        eventually(lambda: member.log.named("commit.refused"))
        monkeypatch.undo()
        eventually(lambda: uploads.committed().offset == 5)
        assert member.value("tagger_commits_refused_total", reason="OFFSET_METADATA_TOO_LARGE") > 0


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with mock_cluster() as brokers:
        yield brokers


@pytest.fixture
def elsewhere(cluster: MockCluster) -> Topic:
    """A topic on brokers that fail as a test wants, its group coordinated by the first of them."""
    topic = Topic(cluster.bootstrap_servers, partitions=0)
    cluster.create_topics("", TopicNames(topic.name, "tags", "dead", "retry"))
    cluster.set_coordinator(topic.group, 1)
    return topic


@pytest.mark.parametrize(
    ("code", "name"),
    [
        *((25, "UNKNOWN_MEMBER_ID"), (16, "NOT_COORDINATOR"), (-1, "UNKNOWN")),
        *((29, "TOPIC_AUTHORIZATION_FAILED"), (30, "GROUP_AUTHORIZATION_FAILED")),
    ],
)
def test_commits_that_the_coordinator_refuses_are_seen_and_made_later(
    elsewhere: Topic, cluster: MockCluster, code: int, name: str
) -> None:
    with elsewhere.member() as member:
        eventually(lambda: elsewhere.committed().offset == 0)
        cluster.fail_next(1, OFFSET_COMMIT, [code] * 3)
        elsewhere.send("good", 5)
        eventually(lambda: len(member.read) == 5)
        if code != 16:  # for which librdkafka looks for the coordinator and sends it again by itself
            eventually(lambda: member.value("tagger_commits_refused_total", reason=name) > 0)
            assert name in member.log.named("commit.refused")[0]["detail"]
        if code != 25:  # after which the mock lets nobody join for the session's timeout
            eventually(lambda: elsewhere.committed().offset == 5)


def test_a_position_that_the_coordinator_does_not_tell_is_waited_for(elsewhere: Topic, cluster: MockCluster) -> None:
    values = elsewhere.send("old", 5)
    elsewhere.commit(3)
    cluster.fail_next(1, OFFSET_FETCH, [-1] * 2)
    with elsewhere.member(first_position="latest") as member:
        eventually(lambda: member.read == values[3:])
        assert member.log.named("kafka.errored")


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_that_the_client_cannot_open_costs_its_own_records_alone(elsewhere: Topic, count: int) -> None:
    """120 MB are more than librdkafka decompresses; in the topic they are a few kilobytes."""
    large = {"compression.type": "zstd", "message.max.bytes": 200_000_000, "queue.buffering.max.kbytes": 500_000}
    producer = Producer({"bootstrap.servers": elsewhere.kafka, **large, "linger.ms": 20_000, "batch.size": 200_000_000})
    before = elsewhere.send("before", 3)
    for _ in range(count):
        producer.produce(elsewhere.name, bytes(120_000_000 // count), partition=0)
    assert producer.flush(60) == 0
    after = elsewhere.send("after", 3)
    with elsewhere.member() as member:
        eventually(lambda: member.read[-1:] == after[-1:])
        assert member.read == [*before, *[None] * count, *after]
        eventually(lambda: elsewhere.committed().offset == 6 + count)
        eventually(lambda: member.source.oldest is None)
    with Scan(elsewhere.kafka, {}, elsewhere.name) as scan:
        scanned = [record for records in scan for record in records]
    assert [record.value for record in scanned] == member.read
    assert [bool(record.unreadable) for record in scanned] == [value is None for value in member.read]


def test_brokers_that_answer_slowly_are_back_as_soon_as_they_answer(elsewhere: Topic, cluster: MockCluster) -> None:
    with elsewhere.member() as member:
        cluster.set_round_trip(120)
        member.source._brokers.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        assert not member.source.ready
        eventually(lambda: member.source.ready)
        assert member.value("tagger_dependency_up", dependency="kafka") == 1
