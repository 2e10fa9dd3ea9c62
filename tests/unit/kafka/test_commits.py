"""What became of commits: acknowledged, refused, too large; with a coordinator that a test plays."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.kafka import offset_map
from consumer.kafka.commits import Commits
from consumer.kafka.offsets import OffsetTracker
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog

TOPIC, ID = "photo-uploads", "I" * 22
A, B = (TOPIC, 0), (TOPIC, 1)


class Answered:
    """A partition in the answer to a commit."""

    def __init__(self, sent: TopicPartition, error: int | None = None) -> None:
        self.topic, self.partition, self.offset, self.metadata = TOPIC, sent.partition, sent.offset, sent.metadata
        self.error = None if error is None else KafkaError(error)


class Bench:
    """Commits of two partitions, of which everything up to 10 is committed; what is committed by hand is kept."""

    def __init__(self) -> None:
        self.tracker, self.log, self.metrics = OffsetTracker(), RecordingLog(), Metrics()
        self.commits = Commits(self.tracker, self.log, self.metrics)
        self.stored: dict[int, TopicPartition] = {}
        self.by_hand: list[TopicPartition] = []
        self.refusal: KafkaError | None = None
        for partition in (A, B):
            self.tracker.assign(partition, 10, topic_id=ID)
            self.commits.assigned(partition, 10)

    def store_offsets(self, offsets: list[TopicPartition]) -> None:
        self.stored.update({entry.partition: entry for entry in offsets})

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        if self.refusal is not None:
            raise KafkaException(self.refusal)
        self.by_hand += offsets

    def get_watermark_offsets(self, _: TopicPartition, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, 100

    def read(self, partition: tuple[str, int], *offsets: int) -> None:
        for offset in offsets:
            self.tracker.finish(partition, offset, self.tracker.add(partition, offset) or 0)

    def turn(self) -> None:
        consumer: Any = self
        self.commits.measure(consumer)
        self.commits.store(consumer)

    def answer(self, *sent: TopicPartition, error: int | None = None) -> None:
        answers: Any = [Answered(entry, error) for entry in sent]
        self.commits.on_commit(None if error is None else KafkaError(error), answers)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def lag(self, number: str = "0") -> float | None:
        return self.value("tagger_consumer_lag_records", topic=TOPIC, partition=number)


def test_the_lag_falls_when_a_commit_is_acknowledged_not_when_it_is_sent() -> None:
    bench = Bench()
    bench.read(A, *range(10, 15))
    bench.turn()
    assert (bench.stored[0].offset, bench.lag()) == (15, 90)
    bench.answer(bench.stored[0])
    bench.turn()
    assert (bench.lag(), bench.lag("1")) == (85, 90)


def test_commits_that_are_refused_are_counted_told_and_sent_again() -> None:
    bench = Bench()
    bench.read(A, 10)
    bench.turn()
    for error in (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_MEMBER_ID):
        bench.answer(bench.stored[0], error=error)
        bench.turn()
        assert bench.value("tagger_commits_refused_total", reason=KafkaError(error).name()) == 1
    (line,) = bench.log.named("commit.refused")
    assert "GROUP_AUTHORIZATION_FAILED" in line["detail"]
    assert line["positions"] == [f"{TOPIC}[0]@11"]
    assert [(entry.partition, entry.offset) for entry in bench.by_hand] == [(0, 11), (0, 11)]
    assert bench.lag() == 90


def test_a_commit_that_cannot_even_be_sent_is_refused() -> None:
    bench = Bench()
    bench.refusal = KafkaError(KafkaError._STATE)
    bench.tracker.identify(A, "J" * 22)
    bench.turn()
    assert bench.value("tagger_commits_refused_total", reason="_STATE") == 1
    bench.refusal = None
    bench.turn()
    assert [entry.offset for entry in bench.by_hand] == [10]


def test_in_one_answer_some_may_be_refused_and_others_not() -> None:
    bench = Bench()
    bench.read(A, 10)
    bench.read(B, 10)
    bench.turn()
    code = KafkaError.NOT_LEADER_FOR_PARTITION
    answers: Any = [Answered(bench.stored[0], code), Answered(bench.stored[1])]
    bench.commits.on_commit(KafkaError(code), answers)
    bench.turn()
    assert (bench.lag("0"), bench.lag("1")) == (90, 89)
    assert [entry.partition for entry in bench.by_hand] == [0]


def test_metadata_that_is_too_large_is_left_out_step_by_step() -> None:
    bench = Bench()
    bench.tracker.add(A, 10)
    bench.read(A, *range(11, 20))
    bench.turn()
    full = bench.by_hand[-1]
    assert offset_map.decode(10, full.metadata) == frozenset(range(11, 20))
    bench.answer(full, error=KafkaError.OFFSET_METADATA_TOO_LARGE)
    bench.turn()
    short = bench.by_hand[-1]
    assert (offset_map.decode(10, short.metadata), offset_map.topic_of(10, short.metadata)) == (frozenset(), ID)
    bench.answer(full, error=KafkaError.OFFSET_METADATA_TOO_LARGE)
    bench.turn()
    assert bench.by_hand[-1].metadata == short.metadata, "an earlier one was refused, not this"
    bench.answer(short, error=KafkaError.OFFSET_METADATA_TOO_LARGE)
    bench.turn()
    assert not bench.by_hand[-1].metadata
    assert len(bench.log.named("commit.refused")) == 2
    sent = len(bench.by_hand)
    bench.read(A, 20, 21)
    bench.turn()
    assert len(bench.by_hand) == sent, "nothing that is told has changed"


def test_the_age_of_what_is_not_committed_is_seen_and_ends_with_an_acknowledgement() -> None:
    bench = Bench()
    overdue = lambda: bench.value("tagger_commit_overdue_seconds", topic=TOPIC) or 0.0  # noqa: E731
    bench.turn()
    assert overdue() == 0
    bench.read(A, 10)
    bench.turn()
    bench.turn()
    assert overdue() > 0
    bench.answer(bench.stored[0])
    bench.turn()
    assert overdue() == 0


def test_nothing_to_commit_is_no_refusal() -> None:
    bench = Bench()
    bench.answer(TopicPartition(TOPIC, 0), error=KafkaError._NO_OFFSET)
    assert bench.log.named("commit.refused") == []


def test_a_refusal_counts_whether_the_answer_or_its_partitions_say_so() -> None:
    for whole, each in ((None, KafkaError.NOT_LEADER_FOR_PARTITION), (KafkaError.NOT_LEADER_FOR_PARTITION, None)):
        bench = Bench()
        bench.read(A, 10)
        bench.turn()
        answers: Any = [Answered(bench.stored[0], each)]
        bench.commits.on_commit(None if whole is None else KafkaError(whole), answers)
        assert bench.value("tagger_commits_refused_total", reason="NOT_LEADER_FOR_PARTITION") == 1
        bench.turn()
        assert [entry.offset for entry in bench.by_hand] == [11]
        bench.turn()
        assert len(bench.by_hand) == 1, "once for each refusal"


def test_what_is_said_of_other_partitions_is_not_taken_for_an_acknowledgement() -> None:
    bench = Bench()
    bench.tracker.forget(B)
    bench.commits.forget(B)
    bench.answer(TopicPartition(TOPIC, 1, 40), TopicPartition(TOPIC, 0, -1001))
    bench.tracker.assign(B, 12)
    bench.turn()
    assert (bench.lag("0"), bench.lag("1")) == (90, 0)


def test_a_partition_that_is_given_up_has_no_lag_and_nothing_overdue() -> None:
    bench = Bench()
    bench.read(A, 10)
    bench.turn()
    bench.turn()
    bench.tracker.forget(A)
    bench.commits.forget(A)
    assert (bench.lag(), bench.value("tagger_commit_overdue_seconds", topic=TOPIC)) == (0, 0)
    bench.turn()
    assert (bench.lag(), bench.lag("1"), bench.commits.ends) == (0, 90, {B: 100})


def test_the_highest_end_that_was_seen_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.turn()
    monkeypatch.setattr(bench, "get_watermark_offsets", lambda _, cached: (0, 60 if cached else 0))
    bench.turn()
    assert (bench.commits.ends[A], bench.lag()) == (100, 50)


def test_an_end_that_is_not_known_yet_is_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(bench, "get_watermark_offsets", lambda _, cached: (-1001, -1001 if cached else 0))
    bench.turn()
    assert (bench.commits.ends, bench.lag()) == ({}, 0)
    monkeypatch.setattr(bench, "get_watermark_offsets", lambda _, cached: (0, 0 if cached else 1))
    bench.turn()
    assert (bench.commits.ends, bench.lag()) == ({A: 0, B: 0}, 0)


def test_a_position_that_did_not_change_is_not_stored_again() -> None:
    bench = Bench()
    bench.read(A, 10)
    bench.turn()
    bench.stored.clear()
    bench.tracker.refused(A)
    bench.turn()
    assert bench.stored == {}


def test_a_position_that_could_not_be_stored_is_stored_when_it_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.read(A, 10)

    def refuse(offsets: list[TopicPartition]) -> None:
        raise KafkaException(KafkaError(KafkaError._STATE), offsets)

    with monkeypatch.context() as patch:
        patch.setattr(bench, "store_offsets", refuse)
        bench.turn()
    bench.tracker.refused(A)
    bench.turn()
    assert bench.stored[0].offset == 11


def test_the_first_positions_of_a_group_are_committed_in_one_request_and_none_is_no_request() -> None:
    bench = Bench()
    consumer: Any = bench
    bench.refusal = KafkaError(KafkaError._NO_OFFSET)
    bench.commits.first(consumer, [])
    bench.refusal = None
    bench.commits.first(consumer, [TopicPartition(TOPIC, 0, 5), TopicPartition(TOPIC, 2, 7)])
    assert [(entry.partition, entry.offset) for entry in bench.by_hand] == [(0, 5), (2, 7)]


def test_refusals_are_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, now_s = Bench(), [10.0]
    monkeypatch.setattr("consumer.kafka.commits.monotonic", lambda: now_s[0])
    for moment_s, told in ((10.0, 1), (69.0, 1), (71.0, 2), (130.0, 2), (132.0, 3)):
        now_s[0] = moment_s
        bench.answer(TopicPartition(TOPIC, 0, 10), error=KafkaError.REQUEST_TIMED_OUT)
        assert len(bench.log.named("commit.refused")) == told, moment_s


def test_a_refusal_is_forgotten_with_its_assignment() -> None:
    bench = Bench()
    bench.read(A, 10)
    bench.turn()
    bench.answer(bench.stored[0], error=KafkaError.UNKNOWN_MEMBER_ID)
    bench.tracker.forget(A)
    bench.commits.forget(A)
    bench.tracker.assign(A, 11, topic_id=ID)
    bench.commits.assigned(A, 11)
    bench.turn()
    assert bench.by_hand == []


def test_while_commits_are_acknowledged_nothing_is_overdue_though_the_position_is_always_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, now_s = Bench(), [10.0]
    monkeypatch.setattr("consumer.kafka.commits.monotonic", lambda: now_s[0])
    for offset in range(10, 20):
        bench.read(A, offset)
        bench.turn()
        now_s[0] += 5
        bench.read(B, offset)
        bench.answer(TopicPartition(TOPIC, 0, offset), TopicPartition(TOPIC, 1, offset))
    bench.turn()
    assert bench.value("tagger_commit_overdue_seconds", topic=TOPIC) == 0


def test_a_position_that_falls_back_to_what_is_committed_ends_the_age_of_what_was_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, now_s = Bench(), [10.0]
    monkeypatch.setattr("consumer.kafka.commits.monotonic", lambda: now_s[0])
    bench.read(A, 10)
    bench.turn()
    bench.tracker.assign(A, 10, topic_id=ID)
    bench.turn()
    now_s[0] += 500
    bench.read(A, 10)
    bench.turn()
    assert bench.value("tagger_commit_overdue_seconds", topic=TOPIC) == 0


def test_the_end_of_an_empty_log_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(bench, "get_watermark_offsets", lambda *_, **__: (0, 0))
    bench.turn()
    assert bench.commits.last_ends == {A: 0, B: 0}
