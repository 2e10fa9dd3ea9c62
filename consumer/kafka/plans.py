"""Plans: which records a source reads, a share of a topic with the consumer group or fixed ranges of offsets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_STORED, Consumer, KafkaException, TopicPartition

from consumer.kafka.offsets import Partition

if TYPE_CHECKING:
    from consumer.kafka.source import Source

_COMMITTED_TIMEOUT_S: Final = 5.0


class Plan(ABC):
    """Which records a source reads: all that it is assigned, unless a subclass says less. Called in its thread alone.

    `properties` are librdkafka's settings that the plan needs.
    """

    properties: dict[str, object]

    @abstractmethod
    def begin(self, consumer: Consumer, source: "Source") -> None:
        """Subscribes or assigns; called once."""

    def accepts(self, partition: Partition, offset: int) -> bool:  # noqa: ARG002 - for subclasses
        """Whether this record is part of the plan."""
        return True

    def delivered(self, partition: Partition, offset: int) -> None:  # noqa: B027 - a live topic keeps no count
        """An accepted record is in flight."""

    def ended(self, partition: Partition) -> None:  # noqa: B027 - a live topic has no end
        """The end of a partition's log was reached."""


class Subscription(Plan):
    """Reads what the group assigns to this member, from the committed positions on.

    `first_position` (`earliest` or `latest`) is where a partition without one starts; an `instance_id` makes the
    membership static.
    """

    def __init__(
        self, topic: str, first_position: str, *, group_protocol: str = "classic", instance_id: str = ""
    ) -> None:
        self._topic = topic
        self._first = OFFSET_BEGINNING if first_position == "earliest" else OFFSET_END
        static = {"group.instance.id": instance_id} if instance_id else {}
        self.properties = {"group.protocol": group_protocol, **static}

    def begin(self, consumer: Consumer, source: "Source") -> None:
        """Joins the group; the callbacks run inside `poll`."""

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

    def _positions(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Where each partition starts: at its committed position, else at the first position of the settings."""
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


class FixedRanges(Plan):
    """Reads ranges of offsets once, outside any group assignment; `finished` when all were delivered."""

    def __init__(self, ranges: Mapping[Partition, range]) -> None:
        self._unfinished = {partition: offsets for partition, offsets in ranges.items() if offsets}
        self._ranges = ranges
        self.total = sum(map(len, ranges.values()))
        # Compaction and aborted transactions can leave no record at the end of a range: the end of the log is needed.
        self.properties = {"enable.partition.eof": True}

    @property
    def finished(self) -> bool:
        """Whether every range was delivered to its end."""
        return not self._unfinished

    def begin(self, consumer: Consumer, source: "Source") -> None:
        """Assigns the ranges, without joining the group."""
        partitions = [TopicPartition(*partition, offsets.start) for partition, offsets in self._unfinished.items()]
        consumer.incremental_assign(partitions)
        source.assigned(consumer, partitions)

    def accepts(self, partition: Partition, offset: int) -> bool:
        """Whether the record lies in its range; a later one ends the range."""
        inside = offset < self._ranges[partition].stop
        if not inside:
            self.ended(partition)
        return inside

    def delivered(self, partition: Partition, offset: int) -> None:
        """The last record of a range ends it."""
        if offset == self._ranges[partition].stop - 1:
            self.ended(partition)

    def ended(self, partition: Partition) -> None:
        """Nothing of the range is left."""
        self._unfinished.pop(partition, None)
