"""Where a partition goes on whose position is none any more, with brokers and a clock that a test plays."""

from collections.abc import Iterable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.kafka.commits import Commits
from consumer.kafka.offsets import OffsetTracker, PartitionOffsets
from consumer.kafka.resets import Resets, Restart, restart_of
from consumer.kafka.topic_ids import Answer, TopicIds
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog

TOPIC, OLD, NEW = "photo-uploads", "O" * 22, "N" * 22
A, B = (TOPIC, 0), (TOPIC, 1)


def window(position: int | None, *read: int, done: frozenset[int] = frozenset()) -> PartitionOffsets:
    made = PartitionOffsets(1, position, done)
    for offset in read:
        made.add(offset)
    return made


@pytest.mark.parametrize(
    ("read", "log", "position", "lost"),
    [
        (window(20), (20, 90), 20, 0),
        (window(19), (20, 90), 20, 1),
        (window(10, 10, 11, done=frozenset({12, 25})), (20, 90), 20, 7),
        (window(90), (20, 90), 90, 0),
        (window(91), (20, 90), 20, 0),
        (window(50, 50, 51), (20, 90), 50, 0),
        (window(50, 50, 51), (51, 90), 51, 0),
        (window(50, 50, 51), (52, 90), 52, 0),
        (window(None), (20, 90), 20, 0),
        (window(None, 50), (20, 90), 50, 0),
    ],
)
def test_a_position_stays_where_the_log_has_it_and_what_vanished_unread_is_counted(
    read: PartitionOffsets, log: tuple[int, int], position: int, lost: int
) -> None:
    restart = restart_of(read, *log, anew=False, truncated=False, old_end=90)
    assert (restart.position, restart.lost, "gone" in restart.words) == (position, lost, lost > 0)


@pytest.mark.parametrize(
    ("read", "old_end", "lost"), [(window(50), 80, 30), (window(50), 0, 0), (window(0), 0, 0), (window(None), 80, 0)]
)
@pytest.mark.parametrize("anew", [True, False])
def test_nothing_that_was_read_counts_in_a_log_that_is_another_one(
    read: PartitionOffsets, old_end: int, lost: int, anew: bool
) -> None:
    restart = restart_of(read, 0, 60, anew=anew, truncated=not anew, old_end=old_end)
    assert (restart.position, restart.lost) == (0, lost)


class Ids(TopicIds):
    """Notes the questions, which are answered when a test says so."""

    def __init__(self) -> None:
        self.questions: list[list[str]] = []
        self.answer: Answer | None = None

    @property
    def asking(self) -> bool:
        return self.answer is not None

    def ask(self, topics: Iterable[str]) -> None:
        self.questions.append(list(topics))

    def take(self) -> Answer | None:
        answer, self.answer = self.answer, None
        return answer


class Bench:
    """Resets of two partitions of a topic, of which 50 is committed; stands for the consumer and the clock too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, position: int = 50) -> None:
        self.now_s = 1_000.0
        for module in ("resets", "commits"):
            monkeypatch.setattr(f"consumer.kafka.{module}.monotonic", lambda: self.now_s)
        self.tracker, self.ids, self.log, self.metrics = OffsetTracker(), Ids(), RecordingLog(), Metrics()
        self.commits = Commits(self.tracker, self.log, self.metrics)
        self.restarted: list[tuple[str, int]] = []
        self.resets = Resets(
            self.commits,
            self.ids,
            [TOPIC],
            lambda _, each: self.restarted.append(each),
            log=self.log,
            metrics=self.metrics,
        )
        self.bounds: tuple[int, int] | None = (60, 100)
        self.asked_bounds = 0
        self.assignable = True
        self.assigned: list[tuple[int, int]] = []
        self.stored: dict[int, int] = {}
        self.by_hand: list[tuple[int, int]] = []
        self.assign(position)

    def assign(self, position: int) -> None:
        for partition in (A, B):
            self.tracker.assign(partition, position, topic_id=OLD)
            self.commits.assigned(partition, position)
        self.resets.assigned()

    def get_watermark_offsets(self, _: TopicPartition, timeout: float) -> tuple[int, int]:
        assert timeout > 0
        self.asked_bounds += 1
        if self.bounds is None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return self.bounds

    def incremental_unassign(self, _: list[TopicPartition]) -> None:
        pass

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        if not self.assignable:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.assigned += [(entry.partition, entry.offset) for entry in partitions]

    def store_offsets(self, offsets: list[TopicPartition]) -> None:
        self.stored.update({entry.partition: entry.offset for entry in offsets})

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        self.by_hand += [(entry.partition, entry.offset) for entry in offsets]

    def turn(self, after_s: float = 0.0, *, eager: bool = False) -> float | None:
        self.now_s += after_s
        consumer: Any = self
        return self.resets.attend(consumer, eager=eager)

    def answer(self, topic_id: str = OLD, *, asked_s: float | None = None, answered: bool = True) -> None:
        self.ids.answer = Answer({TOPIC: topic_id}, self.now_s if asked_s is None else asked_s, answered)

    def report(self, partition: tuple[str, int] = A, code: int = KafkaError._AUTO_OFFSET_RESET) -> bool:
        return self.resets.concerns(partition, KafkaError(code))

    def lines(self) -> list[tuple[Any, Any]]:
        return [(line["partition"], line["lost"]) for line in self.log.named("offsets.reset")]

    def lost(self) -> float | None:
        return self.metrics.registry.get_sample_value("tagger_records_lost_total", {"topic": TOPIC})


def test_topics_are_asked_for_at_once_then_rarely_and_sooner_while_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    waits = [(0.0, False, 1), (4.0, False, 1), (1.5, False, 2), (0.5, True, 2), (0.6, True, 3), (1.5, False, 3)]
    for after_s, eager, questions in waits:
        bench.turn(after_s, eager=eager)
        assert len(bench.ids.questions) == questions, (after_s, eager)
    assert bench.ids.questions[0] == [TOPIC]
    bench.resets.forget([B])
    bench.turn()
    assert len(bench.ids.questions) == 4, "a partition may have gone with its topic"
    bench.report()
    bench.turn()
    assert len(bench.ids.questions) == 5
    bench.turn(1.1)
    assert len(bench.ids.questions) == 6, "the position depends on the answer"
    bench.resets.assigned()
    bench.turn()
    assert len(bench.ids.questions) == 7


def test_one_question_at_a_time_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    take, asking = bench.ids.take, Ids.asking
    monkeypatch.setattr(bench.ids, "take", lambda: None)
    monkeypatch.setattr(Ids, "asking", True)
    bench.turn(10)
    assert bench.ids.questions == []
    monkeypatch.setattr(Ids, "asking", asking)
    monkeypatch.setattr(bench.ids, "take", take)
    bench.turn(10)
    assert len(bench.ids.questions) == 1


def test_only_answers_of_brokers_prove_that_brokers_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    assert bench.turn() is None
    bench.answer(asked_s=999.0, answered=False)
    assert bench.turn() is None
    bench.answer(asked_s=999.0)
    assert bench.turn() == 999.0


@pytest.mark.parametrize("answered", [True, False])
def test_a_reset_waits_for_the_identity_of_its_topic_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    bench = Bench(monkeypatch)
    bench.turn()
    bench.now_s += 1
    assert bench.report()
    for _ in range(5):
        bench.turn(0.5)
    assert bench.assigned == [], "the topic may have been made anew"
    bench.answer(asked_s=1_000.5)
    bench.turn(0.2)
    assert bench.assigned == [], "what was asked before the report says nothing of it"
    if answered:
        bench.answer()
        bench.turn()
    bench.turn(0.4)
    assert bench.assigned == [(0, 60)]
    assert (bench.lines(), bench.lost(), bench.restarted) == ([(0, 10)], 10, [A])
    assert (bench.stored, bench.by_hand) == ({0: 60}, [(0, 60)])
    bench.turn(1)
    assert bench.assigned == [(0, 60)], "once is enough"


def test_an_error_that_is_none_of_a_position_resets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    assert not bench.report(code=KafkaError._TRANSPORT)
    bench.turn(10)
    assert (bench.asked_bounds, bench.assigned) == (0, [])


def test_the_first_report_decides_since_when_and_why_a_reset_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.bounds = (0, 100)
    bench.report(code=KafkaError._LOG_TRUNCATION)
    for _ in range(4):
        bench.turn(0.9)
        bench.report()
    assert bench.assigned == [(0, 0)]


def test_brokers_that_do_not_answer_are_asked_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.report()
    bench.report(B)
    bench.bounds = None
    bench.turn(4)
    assert bench.asked_bounds == 1, "each question may take seconds, in which nothing is polled"
    bench.turn(0.9)
    assert bench.asked_bounds == 1
    bench.bounds = (60, 100)
    bench.turn(0.3)
    assert bench.assigned == [(0, 60), (1, 60)]


def test_a_partition_that_cannot_be_assigned_again_is_left_to_its_next_assignment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    bench.assignable = False
    bench.report()
    bench.turn(4)
    assert (bench.lines(), bench.stored, bench.restarted) == ([], {}, [])


@pytest.mark.parametrize("position", [0, 50])
def test_what_an_unseen_log_held_is_not_guessed(monkeypatch: pytest.MonkeyPatch, position: int) -> None:
    bench = Bench(monkeypatch, position)
    bench.bounds = (0, 5)
    bench.answer(NEW)
    bench.turn(1)
    assert bench.assigned == [(0, 0), (1, 0)]
    assert (bench.lines(), bench.lost()) == ([(0, 0), (1, 0)], 0)
    assert bench.tracker.window(A).topic_id == NEW


def test_an_end_that_was_seen_says_what_the_old_log_held(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.commits.ends = {A: 80, B: 50}
    bench.answer(NEW)
    bench.turn(1)
    assert bench.lines() == [(0, 30), (1, 0)]
    assert bench.commits.ends == {}, "they say nothing of the new log"


def test_a_partition_that_is_given_up_is_not_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.report()
    bench.report(B)
    bench.resets.forget([A])
    bench.tracker.forget(A)
    bench.turn(4)
    assert bench.assigned == [(1, 60)]


def test_what_was_left_of_a_partition_is_counted_once_and_only_of_its_own_topic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    bench.answer()
    bench.turn()
    bench.commits.ends = {A: 53}
    bench.resets.forget([A])
    bench.tracker.forget(A)
    bench.tracker.forget(B)
    bench.ids.answer = Answer({"another": NEW}, bench.now_s, answered=True)
    bench.turn()
    assert bench.lines() == []
    for _ in range(2):
        bench.answer(NEW)
        bench.turn()
    assert (bench.lines(), bench.lost()) == ([(0, 3)], 3)


def test_of_a_partition_whose_log_was_never_seen_nothing_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, 0)
    bench.answer()
    bench.turn()
    bench.resets.forget([A])
    bench.tracker.forget(A)
    bench.tracker.forget(B)
    bench.answer(NEW)
    bench.turn()
    assert bench.lines() == [(0, 0)]


def test_a_restart_says_in_words_what_happened() -> None:
    assert restart_of(window(91), 0, 90, anew=False, truncated=False, old_end=0) == Restart(
        0, 0, "the log was truncated: it ends at 90, and was read up to 91"
    )
