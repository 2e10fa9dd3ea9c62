"""The deliveries that have no outcome yet, and which of them holds its partition back for the longest time."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from consumer.kafka.headers import Delivery
from consumer.kafka.offsets import Partition


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A record that was read and has no outcome yet: where it is, for how long, and what it waits for."""

    topic: str
    partition: int
    offset: int
    age_s: float
    waits_for: str


class Deliveries:
    """The unfinished deliveries of one source. Changed by the owner thread; `oldest` may be called by any."""

    def __init__(self) -> None:
        #: By partition and offset, in the order of the log.
        self._deliveries: dict[Partition, dict[int, Delivery]] = {}

    def add(self, delivery: Delivery) -> None:
        """A record is in flight."""
        record = delivery.record
        self._deliveries.setdefault((record.topic, record.partition), {})[record.offset] = delivery

    def finish(self, partition: Partition, offset: int) -> None:
        """It has its outcome."""
        self._deliveries.get(partition, {}).pop(offset, None)

    def forget(self, partition: Partition) -> None:
        """Nothing of the partition counts any more."""
        self._deliveries.pop(partition, None)

    def oldest(self, partitions: Iterable[Partition]) -> Unfinished | None:
        """The record that holds back a partition's position for the longest time; None where none is in flight."""
        heads = []
        for partition in partitions:
            # The owner thread may change it at this moment: then the next look finds it.
            with suppress(StopIteration, RuntimeError):
                heads.append(next(iter(self._deliveries.get(partition, {}).values())))
        if not heads:
            return None
        oldest = min(heads, key=lambda delivery: delivery.wait.since_s)
        record, wait = oldest.record, oldest.wait
        return Unfinished(record.topic, record.partition, record.offset, monotonic() - wait.since_s, wait.what)
