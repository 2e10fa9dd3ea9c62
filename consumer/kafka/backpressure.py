"""Backpressure: no records while the window is full, beyond what the commit map holds, or while the valve is closed."""

import threading
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from consumer.kafka.offsets import MAX_SPAN, OffsetTracker, Partition
from consumer.telemetry import Metrics

#: A pause throws the prefetched records away, so a window that is full for a moment is waited for without one.
_PAUSE_AFTER_S: Final = 1.0


class Valve:
    """Closed, no source that it belongs to delivers records; polling and offsets go on. For any thread."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether nothing is to be delivered."""
        return self._closed.is_set()

    def close(self) -> None:
        """Delivers nothing until `open`."""
        self._closed.set()

    def open(self) -> None:
        """Delivers again."""
        self._closed.clear()


class Backpressure:
    """Pauses and resumes partitions, in the consumer's thread; `stop` comes from any thread."""

    def __init__(self, tracker: OffsetTracker, max_in_flight: int, valve: Valve, metrics: Metrics) -> None:
        self._tracker = tracker
        self._max_in_flight = max_in_flight
        self._metrics = metrics
        self._valve = valve
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
        """Whether the window is full and a completion is waited for, without a pause yet."""
        return self._full_since_s is not None and not self.paused

    def stop(self) -> None:
        """Takes nothing in any more."""
        self._stopped.set()

    def update(self, consumer: Consumer) -> None:
        """Pauses what must not flow and resumes what may: at once, or at half of the window after it was full."""
        in_flight = self._tracker.in_flight
        if in_flight < self._max_in_flight:
            self._full_since_s = None
        elif self._full_since_s is None:
            self._full_since_s = monotonic()
        closed = self._stopped.is_set() or self._valve.closed
        stalled = self._full_since_s is not None and monotonic() - self._full_since_s > _PAUSE_AFTER_S
        if not self.paused and (closed or stalled):
            self._set_paused(consumer, paused=True)
        elif self.paused and not closed and in_flight <= self._max_in_flight // 2:
            self._set_paused(consumer, paused=False)
        self._bound_spans(consumer)

    def opened(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """New partitions take the present state; it is always set, since a pause survives a rebalance in librdkafka."""
        self.forget((entry.topic, entry.partition) for entry in partitions)
        if partitions:
            (consumer.pause if self.paused else consumer.resume)(list(partitions))

    def forget(self, keys: Iterable[Partition]) -> None:
        """Partitions are no longer ours."""
        self._overlong.difference_update(keys)

    def _set_paused(self, consumer: Consumer, *, paused: bool) -> None:
        partitions = [TopicPartition(*key) for key in self._tracker.partitions if key not in self._overlong]
        (consumer.pause if paused else consumer.resume)(partitions)
        self.paused = paused
        self._metrics.paused.set(paused)

    def _bound_spans(self, consumer: Consumer) -> None:
        """Reads no further in a partition whose stuck head has more done records behind it than the map can hold."""
        for partition in self._tracker.partitions:
            span = self._tracker.span(partition)
            if partition not in self._overlong and span >= MAX_SPAN:
                self._overlong.add(partition)
                consumer.pause([TopicPartition(*partition)])
            elif partition in self._overlong and span < MAX_SPAN // 2:
                self._overlong.discard(partition)
                if not self.paused:
                    consumer.resume([TopicPartition(*partition)])
