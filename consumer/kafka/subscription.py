"""The live plan: the partitions of one topic, shared with the consumer group."""

from collections.abc import Mapping
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_STORED,
    Consumer,
    KafkaException,
    TopicPartition,
)

from consumer.kafka.offsets import Partition
from consumer.kafka.source import Source

_COMMITTED_TIMEOUT_S: Final = 5.0


class Subscription:
    """Reads what the group assigns to this member, from where the group left off."""

    def __init__(self, topic: str, first_position: str, membership: Mapping[str, object] | None = None) -> None:
        self._topic = topic
        self._first = OFFSET_BEGINNING if first_position == "earliest" else OFFSET_END
        self.properties: dict[str, object] = dict(membership or {})

    def begin(self, consumer: Consumer, source: Source) -> None:
        """Joins the group; the callbacks run inside `poll`, in the owner thread."""

        def on_assign(_: Consumer, partitions: list[TopicPartition]) -> None:
            positions = self._positions(consumer, partitions)
            consumer.incremental_assign(positions)
            source.assigned(consumer, positions)

        def on_revoke(_: Consumer, partitions: list[TopicPartition]) -> None:
            source.revoked(consumer, partitions)
            consumer.incremental_unassign(partitions)

        def on_lost(_: Consumer, partitions: list[TopicPartition]) -> None:
            source.lost(partitions)
            consumer.incremental_unassign(partitions)

        consumer.subscribe([self._topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)

    def accepts(self, partition: Partition, offset: int) -> bool:  # noqa: ARG002 - the protocol's signature
        """Every record."""
        return True

    def delivered(self, partition: Partition, offset: int) -> None:
        """A live topic keeps no count."""

    def ended(self, partition: Partition) -> None:
        """A live topic has no end."""

    def _positions(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Where each partition starts: what the group committed, else the first position of the settings."""
        if not partitions:
            return []
        try:
            committed = consumer.committed(partitions, timeout=_COMMITTED_TIMEOUT_S)
        except KafkaException:
            # librdkafka asks again by itself; a partition without a commit then reports an offset reset.
            return [TopicPartition(entry.topic, entry.partition, OFFSET_STORED) for entry in partitions]
        return [
            entry if entry.offset >= 0 else TopicPartition(entry.topic, entry.partition, self._first)
            for entry in committed
        ]
