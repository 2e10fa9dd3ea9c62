"""Partitions that stand still: their log goes on behind the position, and Kafka gives none of it.

An open transaction does that, and a batch that the client cannot read. Nothing is in flight then, so that without this
nothing would be seen to wait.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

from consumer.kafka.offsets import Partition
from consumer.kafka.unfinished import Unfinished

_UNEXPLAINED: Final = "without an error, as while its leader is away or a transaction before it is open"


@dataclass(frozen=True, slots=True)
class _Stall:
    position: int
    since_s: float
    why: str


class Stalls:
    """Since when partitions stand still. Changed by the owner thread; `oldest` may be called by any."""

    def __init__(self) -> None:
        self._stalls: Mapping[Partition, _Stall] = {}
        #: The last error of each partition, since its position moved.
        self._errors: dict[Partition, str] = {}
        self._starved = False

    def failed(self, partition: Partition, error: str) -> None:
        """Kafka, or the client, has an error for a partition instead of records."""
        self._errors[partition] = error

    def starved(self) -> None:
        """All that was fetched is taken: what a partition still holds was not given."""
        self._starved = True

    def look(self, positions: Mapping[Partition, int | None], ends: Mapping[Partition, int]) -> None:
        """Compares the positions of the partitions that have nothing in flight with their ends; None is none to read.

        A partition stands still from the first look on at which it has an error, or no record is left to be taken:
        those of a busy one may be fetched and wait their turn.
        """
        stalls = {}
        for partition, position in positions.items():
            if position is None or position >= ends.get(partition, 0):
                continue
            known, error = self._stalls.get(partition), self._errors.get(partition)
            stands = known is not None and known.position == position
            if stands or error or self._starved:
                since_s = known.since_s if known is not None and stands else monotonic()
                stalls[partition] = _Stall(position, since_s, f"for {error}" if error else _UNEXPLAINED)
        self._stalls, self._starved = stalls, False
        self._errors = {partition: error for partition, error in self._errors.items() if partition in stalls}

    @property
    def oldest(self) -> Unfinished | None:
        """The first record that is not given, of the partition that stands still for the longest time."""
        stalls = self._stalls
        if not stalls:
            return None
        (topic, number), stall = min(stalls.items(), key=lambda item: item[1].since_s)
        age_s = monotonic() - stall.since_s
        return Unfinished(
            topic, number, stall.position, age_s, f"kafka, which gives no record from there on, {stall.why}"
        )
