"""Backpressure: when partitions are paused, because the window or the commit map is full or delivery is suspended."""

import threading
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Final, Protocol

from confluent_kafka import Consumer, TopicPartition

from consumer.kafka.offsets import MAX_SPAN, OffsetTracker, Partition
from consumer.telemetry import Metrics

#: A pause discards the prefetched records, so a window that is full for a moment does not cause one.
_PAUSE_AFTER_S: Final = 1.0


class Flag(Protocol):
    """A condition that any thread may look at, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether it holds now."""


def long_span(span: int) -> bool:
    """Whether a partition with this span, once paused for it, stays so: its oldest unfinished record holds it up."""
    return span >= MAX_SPAN // 2


class Backpressure:
    """Pauses and resumes partitions, in the consumer's thread; `stop` may be called from any.

    While the shared event `suspended` is set, nothing is delivered; polling and commits go on.
    """

    def __init__(self, tracker: OffsetTracker, max_in_flight: int, suspended: Flag, metrics: Metrics) -> None:
        self._tracker = tracker
        self._max_in_flight = max_in_flight
        self._metrics = metrics
        self._suspended = suspended
        self._stopped = threading.Event()
        self._full_since_s: float | None = None
        self._overlong: set[Partition] = set()
        self.paused = False

    @property
    def room(self) -> int:
        """Records that may be taken now; 0 while paused."""
        return 0 if self.paused else max(0, self._max_in_flight - self._tracker.in_flight)

    @property
    def waiting(self) -> bool:
        """Whether the window is full, but not for long enough for a pause."""
        return self._full_since_s is not None and not self.paused

    @property
    def idle(self) -> list[Partition]:
        """The partitions that are not read at the moment."""
        return [partition for partition in self._tracker.partitions if self.paused or partition in self._overlong]

    def stop(self) -> None:
        """Delivers nothing any more."""
        self._stopped.set()

    def update(self, consumer: Consumer) -> None:
        """Pauses or resumes as needed; after a full window, resumes at half of it."""
        in_flight = self._tracker.in_flight
        if in_flight < self._max_in_flight:
            self._full_since_s = None
        elif self._full_since_s is None:
            self._full_since_s = monotonic()
        closed = self._stopped.is_set() or self._suspended.is_set()
        stalled = self._full_since_s is not None and monotonic() - self._full_since_s > _PAUSE_AFTER_S
        if not self.paused and (closed or stalled):
            self._set_paused(consumer, paused=True)
        elif self.paused and not closed and in_flight <= self._max_in_flight // 2:
            self._set_paused(consumer, paused=False)
        self._bound_spans(consumer)

    def opened(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Pauses or resumes new partitions as the others; always, since a pause survives a rebalance in librdkafka."""
        self.forget((entry.topic, entry.partition) for entry in partitions)
        if partitions:
            (consumer.pause if self.paused else consumer.resume)(list(partitions))

    def forget(self, keys: Iterable[Partition]) -> None:
        """Partitions are no longer assigned to this member."""
        self._overlong.difference_update(keys)

    def _set_paused(self, consumer: Consumer, *, paused: bool) -> None:
        partitions = [TopicPartition(*key) for key in self._tracker.partitions if key not in self._overlong]
        (consumer.pause if paused else consumer.resume)(partitions)
        self.paused = paused
        self._metrics.paused.set(paused)

    def _bound_spans(self, consumer: Consumer) -> None:
        """Pauses a partition whose oldest unfinished record has more finished ones behind it than the map can hold."""
        for partition in self._tracker.partitions:
            span = self._tracker.window(partition).span
            if partition not in self._overlong and span >= MAX_SPAN:
                self._overlong.add(partition)
                consumer.pause([TopicPartition(*partition)])
            elif partition in self._overlong and not long_span(span):
                self._overlong.discard(partition)
                if not self.paused:
                    consumer.resume([TopicPartition(*partition)])
