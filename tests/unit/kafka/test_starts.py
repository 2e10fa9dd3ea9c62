"""Where partitions begin, with a consumer that answers what a test decides."""

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, TopicPartition

from consumer.kafka.starts import Starts, has_positions

TOPIC = "photo-uploads"
NONE = -1001
#: The first and the next offset of each partition.
BOUNDS = {0: (0, 100), 1: (7, 70), 2: (3, 3)}


class Cluster:
    """A topic with three partitions, what its group has committed, and what was asked."""

    def __init__(self, **committed: int) -> None:
        self.committed_offsets = {int(name[1:]): offset for name, offset in committed.items()}
        self.bounds = dict(BOUNDS)
        self.asked: list[str] = []
        self.error: KafkaError | None = None

    def list_topics(self, topic: str, timeout: float) -> Any:
        assert timeout > 0
        self.asked.append("partitions")
        known = type("Known", (), {"partitions": self.bounds, "error": self.error})
        return type("Listed", (), {"topics": {topic: known}})

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        self.asked.append("committed")
        return [
            TopicPartition(entry.topic, entry.partition, self.committed_offsets.get(entry.partition, NONE))
            for entry in partitions
        ]

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        self.asked.append("bounds")
        side = {OFFSET_BEGINNING: 0, OFFSET_END: 1}
        return [
            TopicPartition(entry.topic, entry.partition, self.bounds[entry.partition][side[entry.offset]])
            for entry in asked
        ]


def begin(starts: Starts, cluster: Any, *numbers: int) -> tuple[dict[int, int], dict[int, int]]:
    positions, first = starts.of(cluster, [TopicPartition(TOPIC, number) for number in numbers])
    by_number = [{entry.partition: entry.offset for entry in entries} for entries in (positions, first)]
    return by_number[0], by_number[1]


@pytest.mark.parametrize("from_end", [False, True])
def test_a_group_goes_on_where_it_left_off(from_end: bool) -> None:
    starts = Starts(TOPIC, from_end=from_end)
    assert begin(starts, Cluster(p0=41, p1=0, p2=3), 0, 1) == ({0: 41, 1: 0}, {})


def test_a_partition_without_a_position_begins_at_its_beginning_which_is_committed() -> None:
    starts = Starts(TOPIC, from_end=False)
    assert begin(starts, Cluster(p0=41), 0, 1) == ({0: 41, 1: 7}, {1: 7})


def test_the_first_start_of_a_group_at_the_end_commits_it_for_all_partitions() -> None:
    starts = Starts(TOPIC, from_end=True)
    assert begin(starts, Cluster(), 1) == ({1: 70}, {0: 100, 1: 70, 2: 3})


def test_what_is_added_to_a_topic_that_the_group_knows_begins_at_its_beginning() -> None:
    starts = Starts(TOPIC, from_end=True)
    assert begin(starts, Cluster(p0=100), 1, 2) == ({1: 7, 2: 3}, {1: 7, 2: 3})


def test_a_topic_that_was_made_anew_while_nobody_read_it_is_not_skipped() -> None:
    starts = Starts(TOPIC, from_end=True, ran_before=lambda: True)
    assert begin(starts, Cluster(), 0, 1) == ({0: 0, 1: 7}, {0: 0, 1: 7})


def test_whether_the_group_ran_before_is_asked_only_where_it_matters() -> None:
    def asked() -> bool:
        raise AssertionError

    assert begin(Starts(TOPIC, from_end=False, ran_before=asked), Cluster(), 0) == ({0: 0}, {0: 0})
    assert begin(Starts(TOPIC, from_end=True, ran_before=asked), Cluster(p0=41), 0) == ({0: 41}, {})


def test_without_an_answer_whether_the_group_ran_before_nothing_is_skipped_and_it_is_asked_again() -> None:
    answers: list[Any] = [KafkaException(KafkaError(KafkaError._TIMED_OUT)), True]

    def ran_before() -> bool:
        if isinstance(answer := answers.pop(0), KafkaException):
            raise answer
        return bool(answer)

    starts, cluster = Starts(TOPIC, from_end=True, ran_before=ran_before), Cluster()
    with pytest.raises(KafkaException):
        begin(starts, cluster, 0)
    assert begin(starts, cluster, 0) == ({0: 0}, {0: 0})


class Groups:
    """An admin client that knows the positions of groups, or has an error."""

    def __init__(self, positions: dict[str, int], error: int | None = None) -> None:
        self.positions, self.error = positions, error

    def list_consumer_group_offsets(self, asked: list[Any], request_timeout: float) -> dict[str, Future[Any]]:
        assert request_timeout > 0
        future: Future[Any] = Future()
        if self.error is None:
            entries = [TopicPartition(topic, 0, offset) for topic, offset in self.positions.items()]
            future.set_result(type("Positions", (), {"topic_partitions": entries or None}))
        else:
            future.set_exception(KafkaException(KafkaError(self.error)))
        return {asked[0].group_id: future}


@pytest.mark.parametrize(
    ("groups", "has"),
    [
        (Groups({}), False),
        (Groups({"retry": NONE}), False),
        (Groups({"retry": NONE, "other": 0}), True),
        (Groups({}, KafkaError.GROUP_ID_NOT_FOUND), False),
    ],
)
def test_a_group_has_positions_if_it_has_one_in_any_topic(groups: Any, has: bool) -> None:
    assert has_positions(groups, "g") is has


def test_a_group_that_is_not_told_of_is_no_group_without_positions() -> None:
    with pytest.raises(KafkaException):
        has_positions(Groups({}, KafkaError.COORDINATOR_NOT_AVAILABLE), "g")  # type: ignore[arg-type]


def test_a_process_starts_at_the_end_once_only() -> None:
    starts, cluster = Starts(TOPIC, from_end=True), Cluster()
    begin(starts, cluster, 0)
    assert begin(starts, cluster, 0, 1) == ({0: 0, 1: 7}, {0: 0, 1: 7}), "a topic that was made anew is not skipped"


def test_without_an_answer_nothing_is_decided() -> None:
    starts, cluster = Starts(TOPIC, from_end=True), Cluster()
    cluster.error = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
    with pytest.raises(KafkaException):
        begin(starts, cluster, 0)
    cluster.error = None
    assert begin(starts, cluster, 0)[0] == {0: 100}


def test_no_partitions_are_no_question() -> None:
    cluster = Cluster()
    assert begin(Starts(TOPIC, from_end=True), cluster) == ({}, {})
    assert cluster.asked == []
