"""The places at which records of the retry topic are processed, shared out among the photo hosts."""

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from consumer.events import Record
from consumer.kafka.headers import Delivery

_HOST: Final = re.compile(rb'"uri"\s*:\s*"(\w[\w+.-]*://[^/"\\?#]*)')


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record, and since when (monotonic) it waits: for its time, or for a place."""

    delivery: Delivery
    not_before: datetime
    since_s: float


class Places:
    """Records whose time has come, and how many are processed at once; the hosts have their turns.

    A host gets a place only while it has fewer of them than are free: one that hangs leaves half of them to the others,
    and each further one half of the rest.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        #: By host; that whose turn is next comes first, and none is empty.
        self._queues: dict[bytes, deque[Waiting]] = {}
        self._taken: Counter[bytes] = Counter()

    def __len__(self) -> int:
        """Records that wait for a place or have one."""
        return sum(map(len, self._queues.values())) + self._taken.total()

    @property
    def free(self) -> int:
        """Places that nobody has."""
        return self._places - self._taken.total()

    def add(self, entry: Waiting) -> None:
        """A record waits for a place from now on."""
        self._queues.setdefault(_host(entry.delivery.record), deque()).append(entry)

    def take(self) -> Delivery | None:
        """The record that gets a place now; None where no host may have one more."""
        for _ in range(len(self._queues) if self.free else 0):
            host = next(iter(self._queues))
            queue = self._queues.pop(host)
            taken = queue.popleft() if self._taken[host] < self.free else None
            if queue:
                self._queues[host] = queue
            if taken is not None:
                self._taken[host] += 1
                return taken.delivery
        return None

    def leave(self, delivery: Delivery) -> None:
        """A record needs its place no longer."""
        host = _host(delivery.record)
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]

    def longest_waits(self, before_s: float) -> Iterator[Waiting]:
        """The records that have waited for a place since `before_s` or longer, but for the first of each host.

        Yields:
            The youngest first, of the host with the most of them.
        """
        for queue in sorted(self._queues.values(), key=len, reverse=True):
            yield from (entry for entry in reversed(list(queue)[1:]) if entry.since_s <= before_s)

    def remove(self, entries: list[Waiting]) -> None:
        """Records wait no longer, without having had a place."""
        gone = set(map(id, entries))
        for host, queue in list(self._queues.items()):
            left = deque(entry for entry in queue if id(entry) not in gone)
            if left:
                self._queues[host] = left
            else:
                del self._queues[host]


def _host(record: Record) -> bytes:
    """Scheme and host of the photo. A guess that never fails and is quick: it only shares out places."""
    found = _HOST.search(record.value or b"")
    return b"" if found is None else found[1].lower()
