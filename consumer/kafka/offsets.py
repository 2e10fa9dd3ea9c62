"""Which offsets may be committed: the contiguous watermark under out-of-order completion. Pure, single-threaded."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from consumer.kafka import offset_map

Partition = tuple[str, int]

#: Most offsets from a partition's position to its newest record: while the oldest is unfinished, no more are read than
#: the map in the commit metadata can hold. The rest of the map is room for a batch that was already requested.
MAX_SPAN: Final = offset_map.CAPACITY - 1_024
_NO_EPOCH: Final = -1


@dataclass(frozen=True, slots=True)
class Commit:
    """What may be committed for a partition: the position, and the map of the finished offsets behind it."""

    position: int
    metadata: str


@dataclass(slots=True)
class PartitionOffsets:
    """The in-flight window of one assigned partition.

    `position` is the next offset to commit: every record below it reached an outcome. Offsets are added in increasing
    order, with gaps where the log has them (compaction, aborted transactions), and finish in any order. `restored` are
    offsets that an earlier owner finished; `topic_id` is that of the topic that the offsets belong to, if it is known.
    """

    epoch: int
    position: int | None = None
    restored: frozenset[int] = frozenset()
    topic_id: str = ""
    #: The log was read to here, whether or not the last offsets below have records.
    _end: int = 0
    _window: deque[int] = field(default_factory=deque)
    _open: set[int] = field(default_factory=set)

    @property
    def in_flight(self) -> int:
        """Records that were added and have no outcome yet."""
        return len(self._open)

    @property
    def span(self) -> int:
        """Offsets from the position to the newest record."""
        return self._window[-1] + 1 - self.position if self._window and self.position is not None else 0

    @property
    def next(self) -> int | None:
        """The offset from which on nothing was read; None before the first record of an unknown position."""
        return self._window[-1] + 1 if self._window else self.position

    def holds(self, offset: int) -> bool:
        """Whether a record is in flight."""
        return offset in self._open

    def unread_below(self, end: int) -> int:
        """How many offsets below `end` were neither read here nor finished by an earlier owner."""
        start = self.next
        if start is None:
            return 0
        return max(0, end - start) - sum(start <= offset < end for offset in self.restored)

    def add(self, offset: int) -> bool:
        """A record was delivered; False where an earlier owner finished it.

        Raises:
            ValueError: the offset is not above every offset added before.
        """
        if self.next is not None and offset < self.next:
            raise ValueError(f"offset {offset} was delivered before")
        if self.position is None:
            self.position = offset
        self._window.append(offset)
        if offset not in self.restored:
            self._open.add(offset)
            return True
        self._advance()
        return False

    def finish(self, offset: int) -> None:
        """A record reached its outcome: the position moves over the finished records at the head of the window.

        Raises:
            ValueError: the offset is not in flight.
        """
        if offset not in self._open:
            raise ValueError(f"offset {offset} is not in flight")
        self._open.remove(offset)
        self._advance()

    def reach(self, end: int) -> None:
        """The log was read to `end`: offsets below that were not added have no record (markers, compaction)."""
        self._end = max(self._end, end)
        self._advance()

    def commit(self) -> Commit | None:
        """The position and its metadata; None before the first record of an unknown position."""
        if self.position is None:
            return None
        done = (offset for offset in self._window if offset not in self._open)
        newest = self._window[-1] if self._window else self.position - 1
        waiting = (offset for offset in self.restored if offset > newest)
        return Commit(self.position, offset_map.encode(self.position, (*done, *waiting), self.topic_id))

    def _advance(self) -> None:
        while self._window and self._window[0] not in self._open:
            self.position = self._window.popleft() + 1
        if not self._window and self.position is not None:
            self.position = max(self.position, self._end)


class OffsetTracker:
    """The windows of all assigned partitions, and the epoch that tells an earlier assignment from the present one."""

    def __init__(self) -> None:
        self._partitions: dict[Partition, PartitionOffsets] = {}
        self._taken: dict[Partition, Commit] = {}
        self._epoch = 0

    @property
    def in_flight(self) -> int:
        """Records in flight over all assigned partitions."""
        return sum(window.in_flight for window in self._partitions.values())

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The assigned partitions."""
        return tuple(self._partitions)

    def idle(self) -> Iterator[tuple[Partition, int | None]]:
        """The partitions of which nothing is in flight.

        Yields:
            Each, with the offset from which on nothing was read.
        """
        for partition, window in self._partitions.items():
            if not window.in_flight:
                yield partition, window.next

    def window(self, partition: Partition) -> PartitionOffsets:
        """The window of a partition; an empty one of no epoch where it is not assigned."""
        return self._partitions.get(partition) or PartitionOffsets(_NO_EPOCH)

    def assign(
        self,
        partition: Partition,
        position: int | None = None,
        restored: frozenset[int] = frozenset(),
        topic_id: str = "",
    ) -> None:
        """A partition was assigned, with what is committed for it; an earlier assignment of it has ended."""
        self._epoch += 1
        self._partitions[partition] = PartitionOffsets(self._epoch, position, restored, topic_id)
        self._taken.pop(partition, None)
        if position is not None:
            self._taken[partition] = Commit(position, offset_map.encode(position, restored, topic_id))

    def identify(self, partition: Partition, topic_id: str) -> None:
        """The id of the topic that the partition's offsets belong to is known now."""
        if (window := self._partitions.get(partition)) is not None:
            window.topic_id = topic_id

    def refused(self, partition: Partition) -> None:
        """A commit did not succeed: `take_commits` returns it again."""
        self._taken.pop(partition, None)

    def forget(self, partition: Partition) -> None:
        """A partition was revoked: its late completions will be dropped."""
        self._partitions.pop(partition, None)

    def add(self, partition: Partition, offset: int) -> int | None:
        """A record was delivered; returns the epoch to finish it with.

        None where the partition is not assigned, or an earlier owner finished the record.
        """
        window = self._partitions.get(partition)
        if window is None or not window.add(offset):
            return None
        return window.epoch

    def finish(self, partition: Partition, offset: int, epoch: int) -> bool:
        """A record reached its outcome; False where it belongs to an assignment that has ended."""
        window = self._partitions.get(partition)
        if window is None or window.epoch != epoch:
            return False
        window.finish(offset)
        return True

    def take_commits(self) -> tuple[dict[Partition, Commit], dict[Partition, Commit]]:
        """What changed since the last call: commits whose position moved on, and all others.

        The others are a first position, one whose commit was refused, and one where only the metadata changed.
        """
        moved: dict[Partition, Commit] = {}
        others: dict[Partition, Commit] = {}
        for partition, window in self._partitions.items():
            commit, last = window.commit(), self._taken.get(partition)
            if commit is None or commit == last:
                continue
            (moved if last is not None and commit.position > last.position else others)[partition] = commit
            self._taken[partition] = commit
        return moved, others
