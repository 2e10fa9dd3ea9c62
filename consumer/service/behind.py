"""What stands in the retry topic behind what was read: whether it is worth moving records to reach it. Pure.

A record that moves writes itself again. Where all that is unread are copies that this process made and that are not due
for long, a move would only lead to the next one: then everything may rest where it is.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from consumer.events import Record, Source
from consumer.kafka.headers import Unread
from consumer.kafka.offsets import Partition

#: Copies that are remembered for a partition; further ones count as records that nobody knows.
_MOST_COPIES: Final = 65_536


class Behind:
    """How far each partition was read, and which unread offsets are copies, with the times until which they can wait.

    An offset means something within one assignment of its partition alone, whose epoch is kept with it.
    """

    def __init__(self) -> None:
        self._reached: dict[Partition, tuple[int, int]] = {}
        self._copies: dict[Partition, tuple[int, dict[int, datetime]]] = {}

    def read(self, record: Record) -> None:
        """A record was read, and with it all before it."""
        self._reached[record.topic, record.partition] = record.epoch, record.offset + 1

    def span(self, record: Record) -> int:
        """Offsets from a record to the newest of its partition that was read."""
        epoch, reached = self._reached.get((record.topic, record.partition), (record.epoch, 0))
        return reached - record.offset if epoch == record.epoch else 0

    def moved(self, record: Record, copy: Source, until: datetime) -> None:
        """A record has a copy, which need not be read before that time."""
        partition = copy.topic, copy.partition
        epoch, copies = self._copies.get(partition, (record.epoch, {}))
        if epoch != record.epoch:
            copies = {}
        if len(copies) < _MOST_COPIES:
            copies[copy.offset] = until
        self._copies[partition] = record.epoch, copies

    def anything_new(self, unread: Mapping[Partition, Unread], soon: datetime) -> bool:
        """Whether something is unread that is no copy, or a copy that is due at `soon` or before."""
        return any(self._is_new(partition, rest, soon) for partition, rest in unread.items())

    def _is_new(self, partition: Partition, rest: Unread, soon: datetime) -> bool:
        if rest.start is None or rest.end is None:
            return True
        epoch, reached = self._reached.get(partition, (rest.epoch, 0))
        start = max(rest.start, reached if epoch == rest.epoch else 0)
        epoch, copies = self._copies.get(partition, (rest.epoch, {}))
        copies = {offset: until for offset, until in copies.items() if offset >= start} if epoch == rest.epoch else {}
        self._copies[partition] = rest.epoch, copies
        ahead = [until for offset, until in copies.items() if offset < rest.end]
        finished = sum(start <= offset < rest.end for offset in rest.finished)
        return rest.end - start > len(ahead) + finished or any(until <= soon for until in ahead)
