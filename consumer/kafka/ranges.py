"""Fixed ranges of offsets: what a scan or a replay reads, whatever arrives meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from consumer.kafka.offsets import Partition
from consumer.kafka.source import Source


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets of one partition: `start` inclusive, `end` exclusive; empty where `start` is not below `end`."""

    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)


class FixedRanges:
    """A plan that reads given ranges once, outside any group's assignment; `finished` when all were delivered."""

    def __init__(self, ranges: Mapping[Partition, Range]) -> None:
        self._open = {partition: entry for partition, entry in ranges.items() if len(entry)}
        self._ranges = ranges
        self.total = sum(map(len, ranges.values()))
        #: The end of the log may lie before `end` in compacted or aborted stretches, so its event is needed.
        self.properties: dict[str, object] = {"enable.partition.eof": True}

    @property
    def finished(self) -> bool:
        """Whether every range was delivered to its end."""
        return not self._open

    def begin(self, consumer: Consumer, source: Source) -> None:
        """Assigns the ranges; no group member is asked."""
        partitions = [TopicPartition(*partition, entry.start) for partition, entry in self._open.items()]
        consumer.incremental_assign(partitions)
        source.assigned(consumer, partitions)

    def accepts(self, partition: Partition, offset: int) -> bool:
        """Whether the record lies inside its range; one behind it ends the range."""
        inside = offset < self._ranges[partition].end
        if not inside:
            self.ended(partition)
        return inside

    def delivered(self, partition: Partition, offset: int) -> None:
        """The last record of a range ends it."""
        if offset == self._ranges[partition].end - 1:
            self.ended(partition)

    def ended(self, partition: Partition) -> None:
        """Nothing of the range is left."""
        self._open.pop(partition, None)
