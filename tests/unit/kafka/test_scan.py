"""A scan of a simulated topic, whose records, ends and errors the tests decide."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import DependencyDown
from consumer.events import Record
from consumer.kafka import clients
from consumer.kafka.clients import record_of
from consumer.kafka.scan import Scan, TopicReader

TOPIC = "photo-tags"
DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FakeMessage:
    number: int | None
    at: int | None
    fault: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.fault

    def topic(self) -> str | None:
        return None if self.number is None else TOPIC

    def partition(self) -> int | None:
        return self.number

    def offset(self) -> int | None:
        return self.at

    def key(self) -> bytes:
        return b"key"

    def value(self) -> None:
        return None

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [("a", b"1"), ("b", None)]

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at or 0


@dataclass
class Log:
    """One partition: the offsets that hold records, each written at that many milliseconds, its end and its start."""

    held: list[int]
    end: int
    start: int = 0


@dataclass
class FakeConsumer:
    """Delivers what its logs hold, partition by partition, with the event at each end; `instead` comes before that."""

    logs: dict[int, Log]
    instead: list[FakeMessage] = field(default_factory=list)
    before_poll: Callable[[], object] = lambda: None
    refusal: KafkaError | None = None
    #: How often the offsets are asked for before their leader is elected.
    electing: int = 0
    election: int = KafkaError.NOT_LEADER_FOR_PARTITION
    topic_error: KafkaError | None = None
    time_error: KafkaError | None = None
    closed: bool = False
    positions: dict[int, int] = field(default_factory=dict)
    at_end: dict[int, int] = field(default_factory=dict)

    def list_topics(self, timeout: float) -> Any:
        assert timeout > 0
        return SimpleNamespace(topics={TOPIC: SimpleNamespace(partitions=self.logs, error=self.topic_error)})

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        assert timeout > 0
        if self.electing:
            self.electing -= 1
            raise KafkaException(KafkaError(self.election))
        if self.refusal is not None:
            raise KafkaException(self.refusal)
        log = self.logs[partition.partition]
        return log.start, log.end

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[Any]:
        assert timeout > 0
        answers = []
        for one in asked:
            assert one.offset >= 0, "Kafka takes negative times for other questions"
            later = [offset for offset in self.logs[one.partition].held if offset >= one.offset]
            place = {"topic": one.topic, "partition": one.partition, "offset": min(later, default=-1)}
            answers.append(SimpleNamespace(**place, error=self.time_error))
        return answers

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.positions.update({entry.partition: entry.offset for entry in partitions})

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for entry in partitions:
            del self.positions[entry.partition]
            self.at_end.pop(entry.partition, None)

    def poll(self, wait_s: float) -> FakeMessage | None:
        assert wait_s > 0
        self.before_poll()
        return self._next()

    def consume(self, count: int, wait_s: float) -> list[FakeMessage]:
        assert wait_s == 0
        return [message for _ in range(count) if (message := self._next()) is not None]

    def close(self) -> None:
        self.closed = True

    def _next(self) -> FakeMessage | None:
        if self.instead:
            return self.instead.pop(0)
        for number, position in self.positions.items():
            log = self.logs[number]
            ahead = [offset for offset in log.held if offset >= max(position, log.start)]
            if ahead:
                self.positions[number] = ahead[0] + 1
                return FakeMessage(number, ahead[0])
            if self.at_end.get(number) != log.end:
                self.at_end[number] = self.positions[number] = log.end
                return FakeMessage(number, log.end, KafkaError(KafkaError._PARTITION_EOF))
        return None


def full(count: int) -> Log:
    return Log(list(range(count)), count)


def scan_of(consumer: FakeConsumer, **options: Any) -> Scan:
    with connected_to(consumer):
        return Scan("nowhere:9092", {}, TOPIC, **options)


def reader_of(consumer: FakeConsumer, topic: str = TOPIC) -> TopicReader:
    with connected_to(consumer):
        return TopicReader("nowhere:9092", {}, [topic])


def connected_to(consumer: FakeConsumer) -> AbstractContextManager[object]:
    return patch.object(clients, "reader_client", lambda *_: consumer)


def places(scan: Scan) -> list[tuple[int, int]]:
    return sorted((record.partition, record.offset) for records in scan for record in records)


def test_every_record_before_the_end_is_read_and_no_later_one() -> None:
    consumer = FakeConsumer({0: full(3), 1: full(0), 2: full(2)})
    scan = scan_of(consumer)
    for log in consumer.logs.values():
        log.held.append(log.end)
        log.end += 1
    assert places(scan) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]
    assert (scan.done, scan.total) == (5, 5)


def test_a_record_is_handed_over_whole() -> None:
    ((record,),) = scan_of(FakeConsumer({1: full(1)}))
    assert record == Record(TOPIC, 1, 0, b"key", None, (("a", b"1"), ("b", None)), 0)


def test_an_empty_topic_is_finished_before_anything_is_asked() -> None:
    scan = scan_of(FakeConsumer({0: full(0), 1: Log([], 7, 7)}))
    assert (scan.finished, scan.done, scan.total, list(scan)) == (True, 0, 0, [])


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 30)), st.integers(0, 31), st.integers(0, 31), st.sets(st.integers(31, 35))),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_compaction_and_retention_took_the_scan_ends_with_what_is_left(
    partitions: list[tuple[set[int], int, int, set[int]]],
) -> None:
    logs = {number: Log(sorted(held), 31) for number, (held, *_) in enumerate(partitions)}
    for log, (_, start, _, _) in zip(logs.values(), partitions, strict=True):
        log.start = start
        log.held = [offset for offset in log.held if offset >= start]
    scan = scan_of(FakeConsumer(logs))
    assert scan.total == sum(31 - log.start for log in logs.values())
    for log, (_, _, moved, later) in zip(logs.values(), partitions, strict=True):
        log.held = sorted({offset for offset in log.held if offset >= moved} | later)
        log.start, log.end = max(log.start, moved), 36
    seen, done = [], [scan.done]
    for records in scan:
        seen += [(record.partition, record.offset) for record in records]
        done.append(scan.done)
    assert sorted(seen) == [(n, offset) for n, log in logs.items() for offset in log.held if offset < 31]
    assert done == sorted(done)
    assert done[-1] == scan.total


def test_a_scan_may_begin_at_a_time() -> None:
    consumer = FakeConsumer({0: full(10), 1: full(3)})
    scan = scan_of(consumer, since=EPOCH + timedelta(milliseconds=7))
    assert scan.total == 3
    assert places(scan) == [(0, 7), (0, 8), (0, 9)]


def test_a_time_becomes_the_offset_of_the_first_record_that_was_not_written_before() -> None:
    reader = reader_of(FakeConsumer({0: full(10), 1: full(3)}))
    assert reader.ranges(EPOCH + timedelta(milliseconds=2)) == {(TOPIC, 0): range(2, 10), (TOPIC, 1): range(2, 3)}


@pytest.mark.parametrize("since", [EPOCH - timedelta(milliseconds=1), datetime.min.replace(tzinfo=UTC)])
def test_a_time_before_1970_is_none_of_kafkas_special_ones(since: datetime) -> None:
    reader = reader_of(FakeConsumer({0: full(10)}))
    assert reader.ranges(since) == {(TOPIC, 0): range(10)}


def test_a_time_after_the_end_is_the_end_though_records_have_come_since() -> None:
    reader = reader_of(FakeConsumer({0: Log(list(range(12)), 10)}))
    (empty,) = reader.ranges(EPOCH + timedelta(milliseconds=11)).values()
    assert (empty.start, empty.stop) == (10, 10)


def test_a_time_whose_offset_is_unknown_is_no_offset() -> None:
    consumer = FakeConsumer({0: full(1)}, time_error=KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    with pytest.raises(DependencyDown, match="LEADER_NOT_AVAILABLE"):
        scan_of(consumer, since=EPOCH)


def test_a_partition_is_let_go_of_at_its_end() -> None:
    consumer = FakeConsumer({0: full(1), 1: Log([0], 5)}, at_end={1: 5})
    scan_of(consumer).read()
    assert consumer.positions.keys() == {1}


def test_a_topic_that_begins_anew_takes_no_progress_back() -> None:
    consumer = FakeConsumer({0: full(4)})
    scan = scan_of(consumer)
    consumer.logs[0] = full(2)
    scan.read()
    consumer.positions[0] = 0
    consumer.logs[0] = full(1)
    assert [record.offset for record in scan.read()] == [0]
    assert scan.done == 2


def test_the_epoch_of_an_assignment_stands_in_its_records() -> None:
    message: Any = FakeMessage(1, 7)
    assert (record_of(message, 3).epoch, record_of(message).epoch) == (3, 0)


def test_an_end_that_has_gone_back_is_not_taken_for_the_one_at_the_start() -> None:
    consumer = FakeConsumer({0: full(4)})
    scan = scan_of(consumer)
    consumer.logs[0] = full(2)  # as a new leader tells it at first
    assert [record.offset for record in scan.read()] == [0, 1]
    assert not scan.finished
    consumer.logs[0] = full(4)
    assert places(scan) == [(0, 2), (0, 3)]


@pytest.mark.parametrize(
    "code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._UNKNOWN_PARTITION]
)
def test_a_leader_that_is_being_elected_or_not_known_yet_is_waited_for(code: int) -> None:
    consumer = FakeConsumer({0: full(2)}, electing=1, election=code)
    assert places(scan_of(consumer)) == [(0, 0), (0, 1)]
    assert consumer.electing == 0


def test_what_the_client_recovers_from_is_waited_out() -> None:
    errors = (DOWN, KafkaError(KafkaError._TRANSPORT), KafkaError(KafkaError.REQUEST_TIMED_OUT))
    messages = [FakeMessage(None, None, error) for error in errors]
    assert places(scan_of(FakeConsumer({0: full(2)}, messages))) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_what_stays_refused_ends_the_scan_at_once(code: int) -> None:
    scan = scan_of(FakeConsumer({0: full(2)}, [FakeMessage(0, 0, KafkaError(code))]))
    with pytest.raises(DependencyDown, match=rf"{TOPIC}\[0\]: {KafkaError(code).name()}"):
        scan.read()


def test_silence_before_the_end_is_told_with_its_place_and_the_last_error() -> None:
    consumer = FakeConsumer({3: Log([0, 1], 5)}, at_end={3: 5})
    scan = scan_of(consumer, silence_s=0.0)
    assert [record.offset for record in scan.read()] == [0, 1]
    # What comes is an error each time: that is no sign of life.
    consumer.instead = [FakeMessage(None, None, DOWN)]
    with pytest.raises(DependencyDown, match=rf"{TOPIC}\[3\]@2: no record .* end at 5; last error: _ALL_BROKERS_DOWN"):
        scan.read()


def test_only_waiting_inside_the_scan_counts_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("consumer.kafka.scan.monotonic", lambda: now[0])
    consumer = FakeConsumer({0: Log([], 5)}, at_end={0: 5})
    scan = scan_of(consumer, silence_s=10.0)

    def wait() -> None:
        now[0] += 4

    consumer.before_poll = wait
    now[0] += 1000  # the caller waits for Redis
    assert scan.read() == []
    now[0] += 1000
    assert scan.read() == []
    with pytest.raises(DependencyDown):
        scan.read()


def test_a_scan_that_cannot_begin_closes_its_client() -> None:
    consumer = FakeConsumer({0: full(1)}, refusal=KafkaError(KafkaError._TIMED_OUT))
    with pytest.raises(DependencyDown, match="_TIMED_OUT"):
        scan_of(consumer)
    assert consumer.closed


def test_a_missing_topic_is_named_with_what_creates_it() -> None:
    consumer = FakeConsumer({0: full(1)})
    with pytest.raises(
        DependencyDown, match=r"nowhere:9092: no topic other; create it with `photo-tagger topics`, or let"
    ):
        reader_of(consumer, "other")
    assert consumer.closed


def test_a_topic_that_cannot_be_described_is_not_taken_for_an_empty_one() -> None:
    consumer = FakeConsumer({}, topic_error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(DependencyDown, match=f"topic {TOPIC}: TOPIC_AUTHORIZATION_FAILED"):
        scan_of(consumer)


def test_a_reader_goes_on_past_the_end() -> None:
    consumer = FakeConsumer({0: full(1)})
    reader = reader_of(consumer)
    reader.start({(TOPIC, 0): 0})
    assert [record.offset for record in reader.read(1)] == [0]
    consumer.logs[0] = full(3)
    assert [record.offset for record in reader.read(1)] == [1, 2]


@given(st.sets(st.integers(0, 120)), st.lists(st.integers(-5, 130)), st.integers(0, 60), st.sampled_from([0, 1, 2]))
def test_the_records_at_some_offsets_are_those_that_are_there(
    held: set[int], asked: list[int], start: int, number: int
) -> None:
    kept = sorted(offset for offset in held if offset >= start)
    consumer = FakeConsumer({0: Log([1, 2], end=3), 1: Log(kept, end=121, start=start)})
    with reader_of(consumer) as reader:
        found = reader.records_at((TOPIC, number), asked)
        expected = {0: {1, 2}, 1: set(kept), 2: set()}[number] & set(asked)
        assert [(record.partition, record.offset) for record in found] == [(number, each) for each in sorted(expected)]
        assert consumer.positions == {}, "no partition is left assigned"


def test_neighbours_are_read_in_one_run() -> None:
    consumer = FakeConsumer({0: Log(list(range(1000)), end=1000)})
    with reader_of(consumer) as reader, patch.object(reader, "start", wraps=reader.start) as started:
        assert len(reader.records_at((TOPIC, 0), [*range(0, 500, 2), *range(900, 1000)])) == 350
        assert started.call_count == 2
