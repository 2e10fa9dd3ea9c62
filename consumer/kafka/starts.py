"""Where assigned partitions begin: at the position that their group committed, else where a group starts."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from consumer.kafka.offsets import Partition

_TIMEOUT_S: Final = 5.0


class Starts:
    """Decides where the partitions of a topic begin; for the consumer's thread.

    With `from_end`, a group that has no position in the topic at all starts at its end. Such a start is the first one
    only: a partition that is added later, and a topic that is made anew, begin at their beginning, whatever came to
    them before they were assigned. Kafka deletes the positions in a topic with it: `ran_before` tells whether there was
    an earlier start all the same.
    """

    def __init__(self, topic: str, *, from_end: bool, ran_before: Callable[[], bool] = lambda: False) -> None:
        self._topic = topic
        self._may_skip = from_end
        self._ran_before = ran_before

    def of(
        self, consumer: Consumer, partitions: Sequence[TopicPartition]
    ) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """The positions of these partitions, and those that are to be committed at once.

        At a first start at the end these are the positions of all partitions of the topic, not only those assigned
        here: otherwise what comes to the others before they are assigned would be skipped.

        Raises:
            KafkaException: there is no answer.
        """
        if not partitions:
            return [], []
        asked = self._all(consumer) if self._may_skip else partitions
        committed = _checked(consumer.committed(list(asked), timeout=_TIMEOUT_S))
        fresh = [entry for entry in committed if entry.offset < 0]
        skips = self._may_skip and len(fresh) == len(committed) and not self._ran_before()
        mine = {(entry.topic, entry.partition) for entry in partitions}
        first = _offsets(
            consumer,
            fresh if skips else [entry for entry in fresh if (entry.topic, entry.partition) in mine],
            OFFSET_END if skips else OFFSET_BEGINNING,
        )
        self._may_skip = False
        known = [entry for entry in (*committed, *first) if entry.offset >= 0]
        return [entry for entry in known if (entry.topic, entry.partition) in mine], first

    def _all(self, consumer: Consumer) -> list[TopicPartition]:
        """Every partition of the topic.

        Raises:
            KafkaException: there is no answer.
        """
        known = consumer.list_topics(self._topic, timeout=_TIMEOUT_S).topics[self._topic]
        if known.error is not None:
            raise KafkaException(known.error)
        return [TopicPartition(self._topic, partition) for partition in known.partitions]


def has_positions(client: AdminClient, group_id: str) -> bool:
    """Whether a group has a position in any topic.

    Raises:
        KafkaException: there is no answer.
    """
    return bool(positions_of(client, group_id))


def positions_of(client: AdminClient, group_id: str) -> dict[Partition, int]:
    """The committed positions of a group; none where there is no such group.

    Raises:
        KafkaException: there is no answer.
    """
    asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group_id)], request_timeout=_TIMEOUT_S)
    try:
        entries = asked[group_id].result(_TIMEOUT_S).topic_partitions or []
    except FutureTimeout:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None  # noqa: SLF001 - it has no public name
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return {}
        raise
    return {(entry.topic, entry.partition): entry.offset for entry in entries if entry.offset >= 0}


def commit_positions(client: AdminClient, group_id: str, positions: Mapping[Partition, int]) -> None:
    """Commits positions of a group that has no members.

    Raises:
        KafkaException: there is no answer, or the group has members.
    """
    entries = [TopicPartition(*partition, offset) for partition, offset in positions.items()]
    asked = client.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group_id, entries)], request_timeout=_TIMEOUT_S
    )
    try:
        _checked(asked[group_id].result(_TIMEOUT_S).topic_partitions or [])
    except FutureTimeout:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None  # noqa: SLF001 - as above


def _offsets(consumer: Consumer, partitions: Sequence[TopicPartition], where: int) -> list[TopicPartition]:
    """The offsets at the beginning or the end of these partitions, in one question.

    Raises:
        KafkaException: there is no answer for one of them.
    """
    if not partitions:
        return []
    # Kafka's own request has these two as times before 1970.
    asked = [TopicPartition(entry.topic, entry.partition, where) for entry in partitions]
    return _checked(consumer.offsets_for_times(asked, timeout=_TIMEOUT_S))


def _checked(answers: list[TopicPartition]) -> list[TopicPartition]:
    """The answers.

    Raises:
        KafkaException: one of them is an error.
    """
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return answers
