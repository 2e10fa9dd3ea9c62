"""Which offsets may be committed: the contiguous watermark under out-of-order completion. Pure, single-threaded."""

from collections import deque
from dataclasses import dataclass, field

Partition = tuple[str, int]


@dataclass(slots=True)
class PartitionOffsets:
    """The in-flight window of one assigned partition.

    `position` is the next offset to commit: every record below it reached an outcome. Offsets are added in
    increasing order, with gaps where Kafka has none (compaction, aborted transactions), and finish in any order.
    """

    epoch: int
    position: int | None = None
    _window: deque[int] = field(default_factory=deque)
    _open: set[int] = field(default_factory=set)

    @property
    def in_flight(self) -> int:
        """Records that were added and have no outcome yet."""
        return len(self._open)

    def add(self, offset: int) -> None:
        """A record was delivered.

        Raises:
            ValueError: the offset is not above every offset added before.
        """
        floor = self._window[-1] + 1 if self._window else self.position
        if floor is not None and offset < floor:
            raise ValueError(f"offset {offset} was delivered before")
        if self.position is None:
            self.position = offset
        self._window.append(offset)
        self._open.add(offset)

    def finish(self, offset: int) -> None:
        """A record reached its outcome: the position moves over every finished head of the window.

        Raises:
            ValueError: the offset is not in flight.
        """
        if offset not in self._open:
            raise ValueError(f"offset {offset} is not in flight")
        self._open.remove(offset)
        while self._window and self._window[0] not in self._open:
            self.position = self._window.popleft() + 1


class OffsetTracker:
    """The windows of all assigned partitions, and the epoch that tells a lost assignment from the present one."""

    def __init__(self) -> None:
        self._partitions: dict[Partition, PartitionOffsets] = {}
        self._stored: dict[Partition, int] = {}
        self._epoch = 0

    @property
    def in_flight(self) -> int:
        """Records in flight over all assigned partitions."""
        return sum(window.in_flight for window in self._partitions.values())

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The assigned partitions."""
        return tuple(self._partitions)

    def assign(self, partition: Partition) -> None:
        """A partition became ours; what was in flight under an earlier assignment no longer counts."""
        self._epoch += 1
        self._partitions[partition] = PartitionOffsets(self._epoch)
        self._stored.pop(partition, None)

    def forget(self, partition: Partition) -> None:
        """A partition is no longer ours: its late completions will be dropped."""
        self._partitions.pop(partition, None)
        self._stored.pop(partition, None)

    def add(self, partition: Partition, offset: int) -> int | None:
        """A record was delivered; returns the epoch to finish it with, None where the partition is not ours."""
        window = self._partitions.get(partition)
        if window is None:
            return None
        window.add(offset)
        return window.epoch

    def finish(self, partition: Partition, offset: int, epoch: int) -> bool:
        """A record reached its outcome; False where it belongs to an assignment that was lost since."""
        window = self._partitions.get(partition)
        if window is None or window.epoch != epoch:
            return False
        window.finish(offset)
        return True

    def position(self, partition: Partition) -> int | None:
        """The next offset to commit, None before the first record."""
        window = self._partitions.get(partition)
        return None if window is None else window.position

    def busy(self, partition: Partition) -> bool:
        """Whether records of this partition are in flight."""
        window = self._partitions.get(partition)
        return window is not None and window.in_flight > 0

    def advanced(self) -> dict[Partition, int]:
        """The positions that moved since the last call: what to store for commit."""
        moved = {
            partition: window.position
            for partition, window in self._partitions.items()
            if window.position is not None and self._stored.get(partition) != window.position
        }
        self._stored.update(moved)
        return moved
