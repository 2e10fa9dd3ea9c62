"""What the owner thread does, called step by step in this thread, with a consumer that is passed in."""

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.events import Record
from consumer.kafka import clients, offset_map, plans
from consumer.kafka.ends import Ends
from consumer.kafka.headers import Unread, delivery_of
from consumer.kafka.plans import FixedRanges, Plan, Subscription
from consumer.kafka.source import Source
from consumer.kafka.topic_ids import Answer, TopicIds
from consumer.kafka.unfinished import Unfinished
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog

if TYPE_CHECKING:
    from consumer.errors import SettingsError, SourceFailed

TOPIC = "photo-uploads"
WINDOW = 4


@dataclass(frozen=True, slots=True)
class FakeMessage:
    """A message, or the error that takes its place."""

    at: int
    number: int = 0
    fault: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.fault

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return b"value"

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [("a", b"1"), ("b", None)]

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


class FakeConsumer:
    """Notes every call in order; `messages` are delivered one after the other."""

    def __init__(self, *messages: FakeMessage) -> None:
        self.messages = list(messages)
        self.calls: list[tuple[str, list[tuple[str, int, int]]]] = []
        self.stored: dict[int, int] = {}
        self.committed_by_hand: list[tuple[int, int, str | None]] = []
        self.subscribed: dict[str, object] = {}
        self.on_assign = self.on_revoke = self.on_lost = lambda _consumer, _partitions: None
        self.offsets: dict[int, int] | None = {}
        self.refuses_positions = False
        self.bounds: tuple[int, int] | None = (0, 100)

    def poll(self, _: float) -> FakeMessage | None:
        return self.messages.pop(0) if self.messages else None

    def consume(self, count: int, timeout: float) -> list[FakeMessage]:
        assert (count > 0, timeout) == (True, 0)
        taken, self.messages = self.messages[:count], self.messages[count:]
        return taken

    def store_offsets(self, offsets: list[TopicPartition]) -> None:
        if self.refuses_positions:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.stored.update({entry.partition: entry.offset for entry in offsets})

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous, "a commit that waits for the coordinator would stop the polling"
        self.committed_by_hand += [(entry.partition, entry.offset, entry.metadata) for entry in offsets]

    def note(self, name: str, partitions: list[TopicPartition]) -> None:
        self.calls.append((name, [(entry.topic, entry.partition, entry.offset) for entry in partitions]))

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.note("pause", partitions)

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.note("resume", partitions)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.note("assign", partitions)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        self.note("unassign", partitions)

    def get_watermark_offsets(self, _: TopicPartition, **__: object) -> tuple[int, int]:
        if self.bounds is None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return self.bounds

    def committed(self, partitions: list[TopicPartition], **_: object) -> list[TopicPartition]:
        if self.offsets is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        unset = -1001
        return [
            TopicPartition(entry.topic, entry.partition, self.offsets.get(entry.partition, unset))
            for entry in partitions
        ]

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        return [TopicPartition(entry.topic, entry.partition, 0) for entry in asked]

    def subscribe(self, topics: list[str], **callbacks: object) -> None:
        self.subscribed = {"topics": topics}
        for name, callback in callbacks.items():
            setattr(self, name, callback)

    def seek(self, partition: TopicPartition) -> None:
        if self.refuses_positions:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.note("seek", [partition])

    def close(self) -> None:
        self.note("close", [])

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class FakeIds(TopicIds):
    """Answers at once with the ids that a test decides."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.answers = True
        self.missing: frozenset[str] = frozenset()
        self.asked: list[float] = []

    @property
    def asking(self) -> bool:
        return bool(self.asked)

    def ask(self, topics: Iterable[str]) -> None:
        assert list(topics) == [TOPIC]
        self.asked.append(monotonic())

    def take(self) -> Answer | None:
        return Answer(dict(self.ids), self.asked.pop(), self.answers, self.missing) if self.asked else None


class FakeEnds(Ends):
    """Tells what a test decides of the partitions that were asked for."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int], int] = {}
        self.asked: list[tuple[str, int]] = []

    def ask(self, partitions: Iterable[tuple[str, int]]) -> None:
        self.asked = list(partitions)

    def take(self) -> dict[tuple[str, int], int]:
        return {partition: end for partition, end in self.ends.items() if partition in self.asked}

    def forget(self) -> None:
        self.asked = []


class Bench:
    """A source whose thread never starts."""

    def __init__(
        self,
        *messages: FakeMessage,
        assigned: Sequence[int] = (0,),
        window: int = WINDOW,
        plan: Plan | None = None,
    ) -> None:
        self.records: list[Record] = []
        self.failures: list[SourceFailed | SettingsError] = []
        self.log, self.metrics = RecordingLog(), Metrics()
        self.consumer, self.suspended = FakeConsumer(*messages), threading.Event()
        self.ids, self.ends = FakeIds(), FakeEnds()
        self.source = Source(
            plan or Subscription(TOPIC, "earliest"),
            connect=partial(clients.consumer_client, "127.0.0.1:1", "g", {}),
            topic_ids=self.ids,
            ends=self.ends,
            max_in_flight=window,
            suspended=self.suspended,
            read=delivery_of,
            deliver=lambda deliveries: self.records.extend(each.record for each in deliveries),
            failed=self.failures.append,
            log=self.log,
            metrics=self.metrics,
        )
        if assigned:
            self.source.assigned(self.consumer, partitions(*assigned))
            self.consumer.calls.clear()

    def turn(self) -> None:
        """One turn of the owner thread's loop."""
        self.source._settle(self.consumer)
        self.source._attend(self.consumer)
        self.source._poll(self.consumer)

    def finish(self, *records: Record) -> None:
        for one in records:
            self.source.done(one)
        self.source._settle(self.consumer)
        self.source._store(self.consumer)


def partitions(*numbers: int) -> list[TopicPartition]:
    return [TopicPartition(TOPIC, number) for number in numbers]


def test_a_property_that_only_a_consumer_refuses_ends_the_service_as_a_wrong_setting() -> None:
    bench = Bench()
    bench.source._connect = partial(clients.consumer_client, "127.0.0.1:1", "g", {"session.timeout.ms": 600_000})
    bench.source._run()
    (failure,) = bench.failures
    assert "session.timeout.ms" in str(failure)
    assert type(failure).__name__ == "SettingsError"


def messages(*offsets: int, number: int = 0) -> list[FakeMessage]:
    return [FakeMessage(offset, number) for offset in offsets]


def test_a_record_is_delivered_as_it_lies_in_the_log() -> None:
    bench = Bench(FakeMessage(7))
    bench.turn()
    (one,) = bench.records
    assert (one.topic, one.partition, one.offset, one.key, one.value) == (TOPIC, 0, 7, b"key", b"value")
    assert (one.headers, one.timestamp_ms) == ((("a", b"1"), ("b", None)), 1_700_000_000_000)


def test_only_positions_below_which_everything_is_done_are_stored() -> None:
    bench = Bench(*messages(5, 6, 7))
    bench.turn()
    first, second, third = bench.records
    bench.finish(third)
    assert bench.consumer.stored == {0: 5}
    bench.finish(first)
    assert bench.consumer.stored == {0: 6}
    bench.finish(second)
    assert bench.consumer.stored == {0: 8}
    assert bench.source.in_flight == 0


def test_no_more_is_taken_than_may_be_in_flight() -> None:
    bench = Bench(*messages(*range(20)))
    bench.turn()
    assert len(bench.records) == bench.source.in_flight == WINDOW


@pytest.mark.parametrize("window", [1, 2, 200, 1_000])
def test_one_poll_takes_as_many_as_may_be_in_flight_but_bounded(window: int) -> None:
    bench = Bench(*messages(*range(300)), window=window)
    bench.turn()
    assert len(bench.records) == min(window, 256)


def test_positions_are_stored_four_times_a_second_and_measured_once() -> None:
    bench = Bench(*messages(5, 6))
    stored, lag = bench.consumer.stored, partial(bench.metrics.registry.get_sample_value, "tagger_consumer_lag_records")
    bench.turn()
    bench.source._commits.on_commit(None, [TopicPartition(TOPIC, 0, 5)])
    bench.source.done(bench.records[0])
    bench.source._stored_s = bench.source._measured_s = monotonic() + 60
    bench.turn()
    assert (stored, lag({"topic": TOPIC, "partition": "0"})) == ({}, 0), "not in each turn of the thread"
    bench.source._stored_s = bench.source._measured_s = 0.0
    bench.turn()
    assert (stored, lag({"topic": TOPIC, "partition": "0"})) == ({0: 6}, 95)
    bench.source.done(bench.records[1])
    bench.consumer.bounds = (0, 200)
    bench.turn()
    assert (stored, lag({"topic": TOPIC, "partition": "0"})) == ({0: 6}, 95), "a moment ago"


def test_a_window_that_is_full_for_a_moment_is_not_paused() -> None:
    bench = Bench(*messages(*range(WINDOW)))
    bench.turn()
    bench.source._settle(bench.consumer)
    bench.finish(*bench.records)
    assert bench.consumer.calls == []
    assert bench.metrics.registry.get_sample_value("tagger_paused") == 0


def test_a_drain_pauses_for_good() -> None:
    bench = Bench(*messages(1))
    bench.turn()
    bench.source.stop_delivery()
    bench.finish(*bench.records)
    bench.source._settle(bench.consumer)
    assert bench.consumer.names() == ["pause"]


@pytest.mark.parametrize(("paused", "name"), [(True, "pause"), (False, "resume")])
def test_partitions_that_are_assigned_later_are_paused_as_the_others_are(paused: bool, name: str) -> None:
    bench = Bench(assigned=(0,))
    if paused:
        bench.source.stop_delivery()
        bench.source._settle(bench.consumer)
        bench.consumer.calls.clear()
    bench.source.assigned(bench.consumer, partitions(1))
    assert [(call, [number for _, number, _ in entries]) for call, entries in bench.consumer.calls] == [(name, [1])]


def test_a_record_that_finishes_after_its_partition_was_lost_moves_nothing() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    bench.source._store(bench.consumer)
    bench.source.lost(partitions(0))
    bench.finish(*bench.records)
    assert bench.consumer.stored == {0: 5}
    assert bench.metrics.registry.get_sample_value("tagger_late_completions_total") == 1


def test_a_record_is_held_until_its_partition_is_lost() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    (one,) = bench.records
    assert bench.source.holds(one)
    bench.source.lost(partitions(0))
    assert not bench.source.holds(one)
    bench.source.assigned(bench.consumer, partitions(0))
    assert not bench.source.holds(one)


def test_a_partition_that_came_back_is_not_moved_by_what_was_in_flight_before() -> None:
    bench = Bench(*messages(5, 6))
    bench.turn()
    old = list(bench.records)
    bench.source.lost(partitions(0))
    bench.source.assigned(bench.consumer, partitions(0))
    bench.consumer.messages = messages(5, 6)
    bench.source._poll(bench.consumer)
    bench.finish(*old)
    assert bench.consumer.stored == {0: 5}
    bench.finish(*bench.records[2:])
    assert bench.consumer.stored == {0: 7}


def test_a_revoked_partition_is_stored_as_far_as_it_is_done_and_then_forgotten() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    for one in bench.records:
        bench.source.done(one)
    bench.source.revoked(bench.consumer, partitions(0))
    assert bench.consumer.stored == {0: 6}
    assert bench.metrics.registry.get_sample_value("tagger_assigned_partitions") == 0


def test_a_partition_that_is_revoked_waits_for_what_is_in_flight_of_it_alone() -> None:
    bench = Bench(*messages(5), *messages(7, number=1), assigned=(0, 1))
    bench.turn()
    threading.Timer(0.1, bench.source.done, bench.records[:1]).start()
    bench.source.revoked(bench.consumer, partitions(0))
    assert bench.consumer.stored == {0: 6, 1: 7}
    assert bench.metrics.registry.get_sample_value("tagger_late_completions_total") == 0


class Watched(threading.Event):
    """An event that ends each wait at once, after it did what a test wants, and counts the waits."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.meanwhile, self.waits = meanwhile, 0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert 0 < timeout < 0.2, "the group has to hear of this member"
        assert not self.is_set(), "it would not wait at all"
        self.waits += 1
        self.meanwhile()
        return True


@pytest.mark.parametrize(("window", "at_once"), [(1, 1), (15, 3), (32, 8), (64, 16), (1_000, 16)])
def test_a_full_window_is_filled_up_with_some_records_at_once(window: int, at_once: int) -> None:
    bench = Bench(*messages(*range(window)), window=window)
    while len(bench.records) < window:
        bench.turn()
    woken = [bench.source.done(one) or bench.source._wake.is_set() for one in bench.records[:at_once]]
    assert woken == [False] * (at_once - 1) + [True]


def test_whatever_the_thread_waits_for_a_completion_wakes_it() -> None:
    bench = Bench(*messages(5, 6))
    bench.turn()
    left = list(bench.records)
    bench.source._wake = wake = Watched(lambda: bench.source.done(left.pop()))
    bench.source.revoked(bench.consumer, partitions(0))
    assert (wake.waits, wake.is_set(), bench.consumer.stored) == (2, False, {0: 7})
    bench.source.done(bench.records[0])
    assert wake.is_set()


def test_a_full_window_is_waited_out_without_haste_and_what_is_done_in_the_last_turn_is_stored() -> None:
    bench = Bench(*messages(*range(WINDOW)))

    def meanwhile() -> None:
        if wake.waits == 3:
            for one in bench.records:
                bench.source.done(one)
            bench.source._closing.set()

    bench.source._wake = wake = Watched(meanwhile)
    bench.source._connect = lambda _: bench.consumer  # type: ignore[assignment,return-value]
    bench.source._run()
    assert (wake.waits, bench.consumer.stored) == (3, {0: WINDOW})


def test_a_thread_that_hangs_is_not_alive_and_does_not_hold_up_the_end_of_the_process() -> None:
    bench, go_on = Bench(), threading.Event()
    bench.source._connect = lambda _: go_on.wait(10) and bench.consumer  # type: ignore[assignment,return-value]
    bench.source.start()
    assert bench.source._thread.daemon
    assert bench.source.alive
    bench.source._ticked_s -= 20
    assert not bench.source.alive
    go_on.set()
    until(lambda: bench.source.alive)
    assert bench.source.ready
    bench.source._brokers.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert not bench.source.ready
    assert str(bench.source.complaint).startswith("kafka")
    bench.source.close(10)
    assert not bench.source._thread.is_alive()
    assert not bench.source.alive


def test_the_first_positions_of_a_group_are_committed_and_count_once_they_are_acknowledged() -> None:
    bench = Bench(assigned=())
    mine, other = TopicPartition(TOPIC, 0, 0), TopicPartition(TOPIC, 1, 9)
    known = TopicPartition(TOPIC, 2, 40)
    bench.source.assigned(bench.consumer, [mine, known], [mine, other])
    assert [entry[:2] for entry in bench.consumer.committed_by_hand] == [(0, 0), (1, 9)]
    lag = partial(bench.metrics.registry.get_sample_value, "tagger_consumer_lag_records")
    bench.source._commits.measure(bench.consumer)
    assert [lag({"topic": TOPIC, "partition": number}) for number in "02"] == [0, 60]
    bench.source._commits.on_commit(None, [mine])
    bench.source._commits.measure(bench.consumer)
    assert lag({"topic": TOPIC, "partition": "0"}) == 100
    bench.source.lost([mine])
    assert lag({"topic": TOPIC, "partition": "0"}) == 0


def test_a_partition_that_is_assigned_anew_has_nothing_in_flight_and_goes_on_behind_what_was_done() -> None:
    bench = Bench(*messages(0))
    bench.turn()
    bench.source.assigned(bench.consumer, [committed_under("", 0)])
    assert (bench.source.oldest, bench.source.in_flight) == (None, 0)
    bench.consumer.messages = messages(0, 1, 2, 3)
    bench.turn()
    assert [one.offset for one in bench.records] == [0, 0, 1, 3]


def test_partitions_that_are_lost_are_neither_paused_nor_resumed_any_more() -> None:
    bench = Bench(assigned=(0, 1))
    bench.source.lost(partitions(0))
    bench.source.stop_delivery()
    bench.source._settle(bench.consumer)
    assert bench.consumer.calls == [("pause", [(TOPIC, 1, -1001)])]


def test_a_plan_of_ranges_is_told_what_is_delivered_what_ends_and_what_vanished() -> None:
    plan = FixedRanges({(TOPIC, 0): range(2, 9), (TOPIC, 1): range(3)}, range(1_700_000_000_000, 1_700_000_000_001))
    eof = FakeMessage(3, 1, KafkaError(KafkaError._PARTITION_EOF))
    bench = Bench(*messages(2, 4), *messages(0, number=1), eof, plan=plan, assigned=(), window=20)
    plan.begin(bench.consumer, bench.source)  # type: ignore[arg-type]
    bench.turn()
    assert (len(bench.records), plan.total, plan.finished) == (3, 3 + 4, False)
    bench.consumer.messages = messages(9)
    bench.turn()
    assert (len(bench.records), plan.total, plan.finished, plan.intact) == (3, 3, True, True)
    bench.consumer.messages = messages(1)
    bench.turn()
    assert plan.intact
    bench.consumer.bounds = (20, 30)
    reset(bench)
    assert not plan.intact


def test_a_revoke_at_the_end_waits_for_nothing() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    bench.source._closing.set()
    began_s = monotonic()
    bench.source.revoked(bench.consumer, partitions(0))
    assert monotonic() - began_s < 3
    assert bench.consumer.stored == {0: 5}


def until(check: Callable[[], object]) -> None:
    end_s = monotonic() + 10
    while not check():
        assert monotonic() < end_s
        threading.Event().wait(0.01)


def test_the_thread_reads_pauses_while_the_window_is_full_and_stores_at_the_end() -> None:
    bench = Bench(assigned=())
    bench.consumer.offsets = {0: 0}
    bench.source._connect = lambda properties: bench.consumer if properties["enable.partition.eof"] else None  # type: ignore[assignment,return-value]
    assert not bench.source.alive
    bench.source.start()
    until(lambda: bench.consumer.subscribed)
    assert not bench.source.ready
    bench.consumer.on_assign(bench.consumer, partitions(0))
    until(lambda: bench.source.ready)
    bench.consumer.messages = messages(*range(WINDOW))
    until(lambda: "pause" in bench.consumer.names())
    for one in bench.records[:]:
        bench.source.done(one)
    until(lambda: bench.source.in_flight == 0 and bench.consumer.names()[-1] == "resume")
    bench.consumer.messages = messages(WINDOW)
    until(lambda: len(bench.records) == WINDOW + 1)
    bench.source.done(bench.records[-1])
    bench.source.close(10)
    assert not bench.source.alive
    assert (bench.consumer.stored, bench.consumer.names()[-1], bench.failures) == ({0: WINDOW + 1}, "close", [])


@pytest.mark.parametrize("fault", [KafkaException(KafkaError(KafkaError._FATAL)), ZeroDivisionError("a bug")])
def test_a_thread_that_cannot_go_on_ends_the_service_and_leaves_the_group(fault: Exception) -> None:
    bench = Bench()

    def poll(_: float) -> None:
        raise fault

    bench.consumer.poll = poll  # type: ignore[assignment]
    bench.source._connect = lambda _: bench.consumer  # type: ignore[assignment,return-value]
    bench.source.start()
    until(lambda: bench.failures)
    bench.source.close(10)
    assert len(bench.failures) == 1
    assert bench.consumer.names()[-1] == "close"
    assert bool(bench.log.named("kafka.errored")) == isinstance(fault, ZeroDivisionError)


def test_a_position_that_cannot_be_stored_stops_nothing() -> None:
    bench = Bench(*messages(5, 6))
    bench.consumer.refuses_positions = True
    bench.turn()
    bench.finish(*bench.records)
    assert bench.failures == []


def test_a_record_of_a_partition_that_is_not_ours_is_not_delivered() -> None:
    bench = Bench(*messages(5, number=3))
    bench.turn()
    assert bench.records == []


NO_POSITION = FakeMessage(-1001, fault=KafkaError(KafkaError._AUTO_OFFSET_RESET))


def lost(bench: Bench) -> float:
    return bench.metrics.lost.labels(TOPIC)._value.get()


def reset(bench: Bench, message: FakeMessage = NO_POSITION) -> None:
    """The report of a position that does not exist, until it was acted on."""
    bench.consumer.messages = [message]
    for _ in range(4):
        bench.source._resets._tried_s = 0.0
        bench.turn()


def test_a_position_below_the_log_goes_on_at_the_first_record_that_is_left_and_counts_what_is_lost() -> None:
    bench = Bench(assigned=())
    bench.source.assigned(bench.consumer, [TopicPartition(TOPIC, 0, 5, offset_map.encode(5, {6, 8}))])
    bench.consumer.calls.clear()
    bench.consumer.bounds = (20, 100)
    reset(bench)
    moved = [("unassign", [(TOPIC, 0, -1001)]), ("assign", [(TOPIC, 0, 20)]), ("resume", [(TOPIC, 0, -1001)])]
    assert bench.consumer.calls == moved
    assert [(line["partition"], line["lost"]) for line in bench.log.named("offsets.reset")] == [(0, 13)]
    assert lost(bench) == 13
    assert (bench.consumer.stored, bench.consumer.committed_by_hand[-1][:2]) == ({0: 20}, (0, 20))


@pytest.mark.parametrize("truncated", [False, True])
def test_a_log_that_shrank_is_read_again_and_the_lower_position_is_committed_by_hand(truncated: bool) -> None:
    bench = Bench(*messages(50))
    bench.turn()
    bench.finish(*bench.records)
    bench.consumer.bounds = (0, 60 if truncated else 10)
    code = KafkaError._LOG_TRUNCATION if truncated else KafkaError._AUTO_OFFSET_RESET
    reset(bench, FakeMessage(-1001, fault=KafkaError(code)))
    assert (bench.consumer.stored, bench.consumer.committed_by_hand[-1][:2]) == ({0: 0}, (0, 0))
    bench.consumer.messages = messages(0)
    bench.turn()
    assert [one.offset for one in bench.records] == [50, 0]
    bench.finish(bench.records[1])
    assert bench.consumer.stored == {0: 1}


def test_a_position_that_is_in_the_log_after_all_is_kept() -> None:
    bench = Bench(*messages(50, 51))
    bench.turn()
    bench.finish(bench.records[0])
    reset(bench)
    assert bench.consumer.calls[:2] == [("unassign", [(TOPIC, 0, -1001)]), ("assign", [(TOPIC, 0, 51)])]
    assert lost(bench) == 0


def test_a_reset_waits_for_a_broker_that_does_not_answer() -> None:
    bench = Bench(*messages(50))
    bench.turn()
    bench.consumer.bounds = None
    reset(bench)
    assert "assign" not in bench.consumer.names()
    bench.consumer.bounds = (60, 100)
    bench.source._resets._tried_s = 0.0
    bench.turn()
    assert ("assign", [(TOPIC, 0, 60)]) in bench.consumer.calls


def test_a_reset_of_a_partition_that_was_given_up_meanwhile_is_dropped() -> None:
    bench = Bench(*messages(50))
    bench.turn()
    bench.ids.asked.append(0.0)
    bench.consumer.messages = [NO_POSITION]
    bench.source._poll(bench.consumer)
    bench.source.lost(partitions(0))
    reset(bench, FakeMessage(0, 9))
    assert "assign" not in bench.consumer.names()


OLD, NEW = "O" * 22, "N" * 22


def committed_under(topic_id: str, position: int) -> TopicPartition:
    return TopicPartition(TOPIC, 0, position, offset_map.encode(position, {position + 2}, topic_id))


def test_a_position_of_a_topic_that_was_made_anew_means_nothing_in_it() -> None:
    bench = Bench(assigned=())
    bench.ids.ids = {TOPIC: NEW}
    bench.source.assigned(bench.consumer, [committed_under(OLD, 50)])
    bench.consumer.calls.clear()
    reset(bench, FakeMessage(0, 9))
    assert bench.consumer.calls[:2] == [("unassign", [(TOPIC, 0, -1001)]), ("assign", [(TOPIC, 0, 0)])]
    (line,) = bench.log.named("offsets.reset")
    assert OLD in line["detail"]
    assert NEW in line["detail"]
    partition, position, metadata = bench.consumer.committed_by_hand[-1]
    assert (partition, position, offset_map.topic_of(0, metadata)) == (0, 0, NEW)


def test_a_topic_that_is_made_anew_while_it_is_read_is_read_from_its_beginning() -> None:
    bench = Bench(assigned=())
    bench.ids.ids = {TOPIC: OLD}
    bench.source.assigned(bench.consumer, [committed_under(OLD, 50)])
    bench.consumer.messages = messages(50, 51)
    bench.turn()
    bench.turn()
    bench.finish(*bench.records)
    assert bench.log.named("offsets.reset") == []
    bench.ids.ids = {TOPIC: NEW}
    bench.source._resets._asked_s = 0.0
    reset(bench, FakeMessage(0, 9))
    assert ("assign", [(TOPIC, 0, 0)]) in bench.consumer.calls
    assert bench.consumer.stored == {0: 0}


@pytest.mark.parametrize("topic_id", [OLD, ""])
def test_the_topic_that_a_position_belongs_to_is_no_reason_to_reset_it(topic_id: str) -> None:
    bench = Bench(assigned=())
    bench.ids.ids = {TOPIC: OLD}
    bench.source.assigned(bench.consumer, [committed_under(topic_id, 50)])
    reset(bench, FakeMessage(0, 9))
    bench.source._store(bench.consumer)
    assert bench.log.named("offsets.reset") == []
    assert [offset_map.topic_of(50, metadata) for _, _, metadata in bench.consumer.committed_by_hand] == (
        [] if topic_id else [OLD]
    )


def test_an_answer_from_before_an_assignment_says_nothing_about_its_positions() -> None:
    bench = Bench()
    bench.ids.ids = {TOPIC: OLD}
    bench.ids.ask([TOPIC])
    bench.source.assigned(bench.consumer, [committed_under(NEW, 50)])
    bench.source._attend(bench.consumer)
    bench.ids.ids = {TOPIC: NEW}
    bench.turn()
    bench.turn()
    assert bench.log.named("offsets.reset") == []


def test_an_earlier_offset_that_is_delivered_begins_the_log_anew_and_ends_nothing() -> None:
    bench = Bench(*messages(50, 51))
    bench.turn()
    bench.consumer.messages = messages(3)
    bench.turn()
    assert [one.offset for one in bench.records] == [50, 51, 3]
    assert (bench.consumer.stored, bench.source.in_flight) == ({0: 3}, 1)
    bench.finish(*bench.records)
    assert bench.consumer.stored == {0: 4}
    assert [line["lost"] for line in bench.log.named("offsets.reset")] == [0]


def test_a_record_that_is_finished_twice_ends_nothing() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    bench.finish(*bench.records, *bench.records)
    assert bench.consumer.stored == {0: 6}


def test_the_position_reaches_the_end_of_a_log_whose_last_offsets_have_no_record() -> None:
    bench = Bench(*messages(5), FakeMessage(9, fault=KafkaError(KafkaError._PARTITION_EOF)))
    bench.turn()
    bench.finish(*bench.records)
    assert bench.consumer.stored == {0: 9}


def ask(bench: Bench) -> None:
    """Asks for the ids of the topics, and takes the answer."""
    for _ in range(2):
        bench.source._resets._asked_s = 0.0
        bench.source._attend(bench.consumer)


def test_a_topic_that_was_deleted_is_complained_of_once_until_it_is_there_again() -> None:
    bench = Bench()
    bench.ids.missing = frozenset({TOPIC})
    ask(bench)
    assert bench.source.complaint is None, "one broker may be late"
    for _ in range(3):
        ask(bench)
        assert bench.source.complaint == f"no topic {TOPIC}"
    assert len([level for level, event, _ in bench.log.lines if (level, event) == ("error", "kafka.errored")]) == 1
    bench.ids.missing, bench.ids.answers = frozenset(), False
    ask(bench)
    assert bench.source.complaint == f"no topic {TOPIC}", "no answer is not one"
    bench.ids.answers = True
    ask(bench)
    assert bench.source.complaint is None


UNREADABLE = FakeMessage(0, fault=KafkaError(KafkaError._BAD_COMPRESSION))


def test_a_record_that_can_never_be_read_is_delivered_as_such_and_what_follows_is_read() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    for _ in range(3):
        assert bench.consumer.calls == []
        bench.consumer.messages = [UNREADABLE]
        bench.turn()
    assert bench.consumer.calls == [("seek", [(TOPIC, 0, 7)])]
    good, bad = bench.records
    assert (bad.partition, bad.offset, bad.key, bad.value) == (0, 6, None, None)
    assert "_BAD_COMPRESSION" in bad.unreadable
    bench.consumer.messages = messages(7)
    bench.turn()
    bench.finish(good, bad)
    assert bench.consumer.stored == {0: 7}


def test_errors_from_before_a_record_was_passed_over_say_nothing_about_the_next() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    bench.consumer.messages = [UNREADABLE] * WINDOW * 3
    bench.turn()
    assert bench.consumer.calls == [("seek", [(TOPIC, 0, 7)])]
    assert [one.offset for one in bench.records] == [5, 6]


@pytest.mark.parametrize("fault", [KafkaError._TRANSPORT, KafkaError._BAD_MSG, KafkaError.NOT_LEADER_FOR_PARTITION])
def test_no_record_is_given_up_for_another_error_but_the_wait_is_visible(fault: int) -> None:
    bench = Bench(*messages(5))
    bench.turn()
    bench.finish(*bench.records)
    for _ in range(10):
        bench.consumer.messages = [FakeMessage(6, fault=KafkaError(fault))]
        bench.source._measured_s = 0.0
        bench.turn()
    assert bench.consumer.calls == []
    oldest = bench.source.oldest
    assert oldest is not None
    assert (oldest.topic, oldest.partition, oldest.offset) == (TOPIC, 0, 6)
    assert KafkaError(fault).name() in oldest.waits_for


def test_a_log_that_ends_earlier_than_before_does_not_stand_still_at_its_end() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    bench.finish(*bench.records)
    for end, stands in ((8, True), (6, False), (7, True)):
        bench.consumer.bounds = (0, end)
        for _ in range(2):
            bench.source._measured_s = 0.0
            bench.turn()
        assert (bench.source.oldest is not None) is stands


def test_a_record_is_not_passed_over_where_the_client_does_not_go_on() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    bench.consumer.refuses_positions = True
    for _ in range(5):
        bench.consumer.messages = [UNREADABLE]
        bench.turn()
    assert [one.offset for one in bench.records] == [5]
    bench.consumer.refuses_positions = False
    bench.consumer.messages = [UNREADABLE]
    bench.turn()
    assert [one.offset for one in bench.records] == [5, 6]


def test_the_first_of_a_poll_is_delivered_before_a_rebalance_that_comes_with_the_others() -> None:
    bench = Bench(*messages(5))

    def rebalance(_: int, __: float) -> list[FakeMessage]:
        delivered.extend(bench.records)
        bench.source.lost(partitions(0))
        bench.source.assigned(bench.consumer, [TopicPartition(TOPIC, 0, 3)])
        return []

    delivered: list[Record] = []
    bench.consumer.consume = rebalance  # type: ignore[method-assign]
    bench.turn()
    assert [one.offset for one in delivered] == [5]
    assert not bench.source.holds(delivered[0])


def test_the_oldest_unfinished_record_is_named_with_what_it_waits_for() -> None:
    bench = Bench(*messages(5, 6), *messages(2, number=1), assigned=(0, 1))
    assert bench.source.oldest is None
    bench.turn()
    oldest = bench.source.oldest
    assert oldest == Unfinished(TOPIC, 0, 5, oldest.age_s if oldest else 0, "its turn")
    bench.finish(bench.records[0])
    assert (bench.source.oldest or oldest).offset == 6  # type: ignore[union-attr]
    bench.source.lost(partitions(0))
    assert (bench.source.oldest or oldest).partition == 1  # type: ignore[union-attr]
    bench.consumer.messages = messages(1, number=1)
    bench.turn()
    assert (bench.source.oldest or oldest).offset == 1, "what was in flight before the log began anew is not waited for"  # type: ignore[union-attr]
    bench.source.lost(partitions(1))
    assert bench.source.oldest is None


def test_brokers_are_back_when_they_answer_what_was_asked_after_they_were_lost() -> None:
    bench = Bench()
    bench.source._brokers.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    bench.ids.answers = False
    bench.ids.asked = [0.0]
    bench.turn()
    assert bench.source._brokers.down
    bench.ids.asked = [0.0]
    bench.ids.answers = True
    bench.consumer.messages = messages(5)
    bench.turn()
    assert bench.source._brokers.down, "what was asked, or fetched, before proves nothing"
    bench.source._resets._asked_s = 0.0
    bench.turn()
    bench.turn()
    assert not bench.source._brokers.down


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED])
def test_refused_rights_end_the_service(code: int) -> None:
    bench = Bench(FakeMessage(-1001, fault=KafkaError(code)))
    bench.turn()
    assert len(bench.failures) == 1
    assert KafkaError(code).name() in str(bench.failures[0])


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._TIMED_OUT])
def test_troubles_that_mend_themselves_do_not_end_the_service(code: int) -> None:
    bench = Bench(FakeMessage(-1001, fault=KafkaError(code)))
    bench.turn()
    assert bench.failures == []


class Told:
    """The source as a subscription sees it; shares the order of calls with the consumer."""

    def __init__(self, consumer: FakeConsumer) -> None:
        self._consumer = consumer

        self.reasons: list[str] = []
        self.first: Sequence[TopicPartition] = ()

    def assigned(self, _: object, entries: list[TopicPartition], first: Sequence[TopicPartition] = ()) -> None:
        self._consumer.note("source.assigned", entries)
        self.first = first

    def delayed(self, error: KafkaError) -> None:
        self.reasons.append(error.name())

    def revoked(self, _: object, entries: list[TopicPartition]) -> None:
        self._consumer.note("source.revoked", entries)

    def lost(self, entries: list[TopicPartition]) -> None:
        self._consumer.note("source.lost", entries)


class Joined:
    """A subscription with the consumer and the source that it was begun with."""

    def __init__(self) -> None:
        self.consumer, self.plan = FakeConsumer(), Subscription(TOPIC, "earliest")
        self.told = Told(self.consumer)
        self.plan.begin(self.consumer, self.told)
        assert self.consumer.subscribed == {"topics": [TOPIC]}

    def assign(self, *numbers: int) -> None:
        """The callback inside `poll`, and the turn after it."""
        self.consumer.on_assign(self.consumer, partitions(*numbers))
        assert ("assign", []) in self.consumer.calls
        self.consumer.calls.remove(("assign", []))
        self.plan.attend(self.consumer, self.told)


def test_partitions_are_drained_before_they_are_given_up() -> None:
    joined = Joined()
    joined.assign(0)
    joined.consumer.on_revoke(joined.consumer, partitions(0))
    joined.consumer.on_lost(joined.consumer, partitions(0))
    names = ["assign", "source.assigned", "source.revoked", "unassign", "source.lost", "unassign"]
    assert joined.consumer.names() == names


def test_a_group_is_joined_once_it_may_be() -> None:
    live, consumer = Joined(), FakeConsumer()
    told, plan = Told(consumer), Subscription("retry", "earliest", after=lambda: live.plan.begun)
    plan.begin(consumer, told)
    plan.attend(consumer, told)
    assert (consumer.subscribed, live.plan.begun) == ({}, False)
    live.consumer.offsets = None
    live.assign(0)
    plan.attend(consumer, told)
    assert (consumer.subscribed, live.plan.begun) == ({}, False), "its positions are not known"
    live.consumer.offsets, live.plan._again_s = {0: 7}, 0.0
    live.plan.attend(live.consumer, live.told)
    plan.attend(consumer, told)
    assert (consumer.subscribed, live.plan.begun) == ({"topics": ["retry"]}, True)
    consumer.subscribed = {}
    plan.attend(consumer, told)
    assert consumer.subscribed == {}, "joined twice"


def test_a_member_that_stands_by_has_begun() -> None:
    joined = Joined()
    joined.assign()
    assert joined.plan.begun


@pytest.mark.parametrize(("protocol", "ready"), [("consumer", True), ("classic", False)])
def test_a_member_that_is_told_nothing_stands_by_where_that_means_no_partition(
    protocol: str, ready: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, consumer = Subscription(TOPIC, "earliest", group_protocol=protocol), FakeConsumer()
    told = Told(consumer)
    plan.begin(consumer, told)
    plan.attend(consumer, told)
    assert (plan.begun, consumer.calls) == (False, [])
    late_s = monotonic() + 11
    monkeypatch.setattr(plans, "monotonic", lambda: late_s)
    for _ in range(2):
        plan.attend(consumer, told)
    assert (plan.begun, consumer.names()) == (ready, ["source.assigned"] * ready)


def test_an_empty_assignment_asks_the_group_nothing() -> None:
    joined = Joined()
    joined.consumer.offsets = None
    joined.consumer.on_assign(joined.consumer, [])
    joined.plan.attend(joined.consumer, joined.told)
    assert joined.consumer.calls == [("assign", []), ("source.assigned", [])]


def test_a_partition_whose_position_cannot_be_asked_is_not_read_until_it_can() -> None:
    joined = Joined()
    joined.consumer.offsets = None
    joined.assign(0, 1)
    assert (joined.consumer.calls, joined.plan.waiting, joined.told.reasons) == ([], True, ["_TIMED_OUT"])
    joined.plan.attend(joined.consumer, joined.told)
    assert joined.told.reasons == ["_TIMED_OUT"], "asked again without a pause"
    joined.consumer.offsets = {0: 7, 1: 8}
    joined.plan._again_s = 0.0
    joined.plan.attend(joined.consumer, joined.told)
    positions = [(TOPIC, 0, 7), (TOPIC, 1, 8)]
    assert joined.consumer.calls == [("assign", positions), ("source.assigned", positions)]
    assert not joined.plan.waiting


@pytest.mark.parametrize("how", ["on_revoke", "on_lost"])
def test_a_partition_that_goes_before_it_was_read_is_not_waited_for(how: str) -> None:
    joined = Joined()
    joined.consumer.offsets = {0: 7}
    joined.assign(0)
    joined.consumer.calls.clear()
    joined.consumer.offsets = None
    joined.assign(1)
    getattr(joined.consumer, how)(joined.consumer, partitions(0, 1))
    assert [entries for _, entries in joined.consumer.calls] == [[(TOPIC, 0, -1001)]] * 2
    assert not joined.plan.waiting


def test_what_is_logged_of_an_assignment_is_json() -> None:
    bench = Bench(assigned=(0, 1))
    (line,) = bench.log.named("assignment.received")
    assert json.loads(json.dumps(line)) == {"partitions": [f"{TOPIC}[0]", f"{TOPIC}[1]"]}


def test_while_the_head_is_stuck_the_map_behind_it_is_committed_by_hand() -> None:
    bench = Bench(*messages(0, 1, 2))
    bench.turn()
    bench.source._store(bench.consumer)
    assert bench.consumer.stored == {0: 0}
    bench.finish(bench.records[2])
    *_, (partition, offset, metadata) = bench.consumer.committed_by_hand
    assert (partition, offset) == (0, 0)
    assert offset_map.decode(0, metadata) == {2}
    bench.finish(bench.records[0])
    assert bench.consumer.stored == {0: 1}


def test_what_an_earlier_owner_finished_is_not_delivered_again() -> None:
    bench = Bench(assigned=())
    metadata = offset_map.encode(5, {6, 8})
    bench.source.assigned(bench.consumer, [TopicPartition(TOPIC, 0, 5, metadata)])
    bench.consumer.messages = messages(5, 6, 7, 8)
    bench.turn()
    assert [record.offset for record in bench.records] == [5, 7]
    bench.finish(*bench.records)
    assert bench.consumer.stored == {0: 9}
    assert bench.metrics.registry.get_sample_value("tagger_restored_records_total") == 2


@pytest.mark.parametrize("anew", [False, True])
def test_what_was_unread_of_partitions_that_went_with_their_topic_is_counted(anew: bool) -> None:
    bench = Bench(*messages(5))
    bench.ids.ids = {TOPIC: OLD}
    bench.turn()
    bench.turn()
    bench.source._commits.measure(bench.consumer)
    bench.source.lost(partitions(0))
    bench.source.assigned(bench.consumer, [TopicPartition(TOPIC, 0, 0)])
    bench.ids.ids = {TOPIC: NEW if anew else OLD}
    for _ in range(3):
        bench.turn()
    assert [line["lost"] for line in bench.log.named("offsets.reset")] == ([94] if anew else [])
    assert lost(bench) == (94 if anew else 0)


def test_it_tells_what_is_unread_and_asks_for_the_ends_of_what_it_does_not_read() -> None:
    bench = Bench(*messages(5, 6))
    measured(bench)
    assert bench.source.unread == {(TOPIC, 0): Unread(1, None, 100, frozenset())}
    bench.turn()
    bench.suspended.set()
    measured(bench)
    assert bench.ends.asked == [(TOPIC, 0)], "the client learns no end of a partition that is paused"
    bench.ends.ends[TOPIC, 0] = 140
    measured(bench)
    assert bench.source.unread == {(TOPIC, 0): Unread(1, 7, 140, frozenset())}
    bench.suspended.clear()
    measured(bench)
    assert bench.ends.asked == []
    bench.source.lost(partitions(0))
    measured(bench)
    assert bench.source.unread == {}


def test_an_end_that_was_asked_of_another_log_or_assignment_is_not_awaited() -> None:
    bench = Bench(*messages(5))
    bench.turn()
    bench.suspended.set()
    measured(bench)
    bench.source.assigned(bench.consumer, partitions(1))
    assert bench.ends.asked == []
    measured(bench)
    assert bench.ends.asked == [(TOPIC, 0), (TOPIC, 1)]
    bench.source._resets.went_back(bench.consumer, (TOPIC, 0), 0)
    assert bench.ends.asked == []


def test_an_end_of_which_nobody_knows_is_told_as_such() -> None:
    bench = Bench()
    bench.consumer.bounds = None
    measured(bench)
    assert bench.source.unread == {(TOPIC, 0): Unread(1, None, None, frozenset())}


def measured(bench: Bench) -> None:
    bench.source._measured_s = 0.0
    bench.source._settle(bench.consumer)
    bench.source._measured_s = 0.0
    bench.source._settle(bench.consumer)
