"""The oldest unfinished record, which holds back the position of its partition: where it is, and what it waits for.

Every wait has to be visible: a record may wait for as long as what it needs is down, and until then nothing behind it
is committed.
"""

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Final, Protocol

from consumer.kafka.unfinished import Unfinished
from consumer.telemetry import Log, Metrics

_OLD_S: Final = 60.0
_REMIND_S: Final = 60.0


class Headed(Protocol):
    """A source, as far as its oldest record goes."""

    @property
    def oldest(self) -> Unfinished | None:
        """The record that is unfinished for the longest time; None where none is in flight."""


class Heads:
    """The heads of the topics that are read.

    A record of the retry topic has an age only from its time on: until then, it is as it should be.
    """

    def __init__(self, sources: Sequence[Headed], stuck_after_s: float, log: Log, metrics: Metrics) -> None:
        self._sources = sources
        self._stuck_after_s = stuck_after_s
        self._log = log
        self._metrics = metrics
        self._reminded_s = -_REMIND_S

    @property
    def oldest(self) -> Unfinished | None:
        """The record that is late for the longest time, over all topics; None where none is in flight."""
        return max(self._each(), key=lambda one: one.age_s, default=None)

    @property
    def complaint(self) -> str | None:
        """Which record is stuck, if one is."""
        oldest = self.oldest
        if oldest is None or oldest.age_s < self._stuck_after_s:
            return None
        where = f"{oldest.topic}[{oldest.partition}] offset {oldest.offset}"
        return f"stuck: {where} is unfinished for {oldest.age_s:.0f} s and waits for {oldest.waits_for}"

    def look(self) -> None:
        """Brings the metrics up to date; logs an old head, once a minute at most."""
        heads = self._each()
        # Each topic has one series: that of the partition that lost the place is gone.
        self._metrics.oldest_seconds.clear()
        self._metrics.oldest_offset.clear()
        for one in heads:
            labels = one.topic, str(one.partition)
            self._metrics.oldest_seconds.labels(*labels).set(one.age_s)
            self._metrics.oldest_offset.labels(*labels).set(one.offset)
        oldest, now_s = self.oldest, monotonic()
        old_s = min(_OLD_S, self._stuck_after_s)
        if oldest is not None and oldest.age_s >= old_s and now_s - self._reminded_s >= _REMIND_S:
            self._reminded_s = now_s
            self._log.warning(
                "record.waiting",
                topic=oldest.topic,
                partition=oldest.partition,
                offset=oldest.offset,
                age_s=round(oldest.age_s, 1),
                waits_for=oldest.waits_for,
            )

    def _each(self) -> list[Unfinished]:
        found = [one for source in self._sources if (one := source.oldest) is not None]
        return [replace(one, age_s=max(0.0, one.age_s)) for one in found]
