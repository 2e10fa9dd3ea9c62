"""How much of the retry topic may wait in memory, and how fast what is far ahead may move to the topic's end."""

import threading
from dataclasses import dataclass
from typing import Final

from consumer.events import Record
from consumer.kafka.backpressure import Flag

#: Records and bytes: what may move at once after a quiet time, and in each second from then on.
_BURST: Final = (10_000.0, 512.0 * 1024 * 1024)
_PACE: Final = (100.0, 2.0 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class WaitingLimits:
    """Bounds of the records that were read and have no outcome yet, by count and bytes.

    `places` of them are processed at once, so that they leave room for new photos.
    """

    max_records: int
    max_bytes: int
    places: int
    #: A record stays for at least so long before it moves; one whose time comes sooner than `near_s` does not move.
    stay_s: float = 1.0
    near_s: float = 5.0
    #: A record whose time has come may move after so long without a place.
    placeless_s: float = 10.0


class Load:
    """The bytes of the records that were read and not let go yet; suspends reading at the limit, until half is free.

    It is added to in the source's thread, as records are read, since the event loop may be late to hear of them. It
    also suspends while `suspended`, which all sources share, is set.
    """

    def __init__(self, max_bytes: int, suspended: Flag) -> None:
        self._max_bytes = max_bytes
        self._suspended = suspended
        self._lock = threading.Lock()
        self._full = False
        self.bytes = 0

    def add(self, record: Record) -> None:
        """A record was read."""
        self._change(size_of(record))

    def remove(self, record: Record) -> None:
        """A record's bytes are no longer needed."""
        self._change(-size_of(record))

    def is_set(self) -> bool:
        """Whether no more may be read now."""
        return self._full or self._suspended.is_set()

    def _change(self, size: int) -> None:
        with self._lock:
            self.bytes += size
            self._full = self.bytes >= self._max_bytes or (self._full and self.bytes > self._max_bytes // 2)


class MoveBudget:
    """How many records, and how many bytes, may be moved: a burst that passes a topic quickly, then a slow pace.

    Records that are all far ahead would otherwise circle at full speed, and fill the brokers' disks: a move writes the
    record again. Pure.
    """

    def __init__(self) -> None:
        self._left = _BURST
        self._filled_s: float | None = None

    def take(self, size: int, now_s: float) -> bool:
        """Whether a record of `size` bytes may move now. One may be larger than what is left: it is paid off later."""
        passed_s = 0.0 if self._filled_s is None else now_s - self._filled_s
        self._filled_s = now_s
        records, bytes_ = (
            min(most, left + pace * passed_s) for most, left, pace in zip(_BURST, self._left, _PACE, strict=True)
        )
        allowed = records > 0 and bytes_ > 0
        self._left = (records - 1, bytes_ - size) if allowed else (records, bytes_)
        return allowed


def size_of(record: Record) -> int:
    """The bytes of a record that the sender chose."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
