"""The newest results by the result topic: which photos were tagged last, and how many in each minute."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from time import time
from typing import Final

from consumer import events
from consumer.events import Record, Source, Tags, source_of
from consumer.tags import supersedes

_MINUTE_MS: Final = 60_000
#: Minutes of which results are counted.
MINUTES: Final = 60
#: More than the bound are dropped at once, so that they are sorted rarely.
_SLACK: Final = 1.25


@dataclass(frozen=True, slots=True)
class Result:
    """The tags of a photo without their probabilities, and the record that has these."""

    tags: Tags
    place: Source


class Newest:
    """Keeps the newest `most` results, one of each photo. One thread adds, others look."""

    def __init__(self, most: int, clock: Callable[[], float] = time) -> None:
        self._most, self._clock = most, clock
        self._lock = Lock()
        self._results: dict[str, Result] = {}
        self._minutes: Counter[int] = Counter()
        #: By partition, below which offset records were counted: after an outage some are read again.
        self._counted: dict[int, int] = {}
        self._sorted: tuple[Result, ...] | None = ()

    def add(self, records: Iterable[Record]) -> None:
        """Takes records of the result topic; what is no result is passed over."""
        with self._lock:
            for record in records:
                self._add(record)
            if len(self._results) > self._most * _SLACK:
                self._results = {each.tags.photo_id: each for each in self._in_order()[: self._most]}
            # By this host's clock: a record from the future is no reason to forget the others.
            present = self._present()
            near = {minute: count for minute, count in self._minutes.items() if abs(minute - present) <= MINUTES}
            self._minutes = Counter(near)

    def _add(self, record: Record) -> None:
        self._sorted = None
        photo_id = (record.key or b"").decode(errors="backslashreplace")
        if record.value is None:
            self._results.pop(photo_id, None)
            return
        try:
            tags = replace(events.decode_tags(record.value), probabilities={})
        except ValueError:
            return
        if record.offset >= self._counted.get(record.partition, 0):
            self._counted[record.partition] = record.offset + 1
            self._minutes[record.timestamp_ms // _MINUTE_MS] += 1
        held = self._results.get(tags.photo_id)
        if held is None or not supersedes(held.tags, tags):
            self._results[tags.photo_id] = Result(tags, source_of(record))

    def clear(self) -> None:
        """Forgets everything: the topic was made anew."""
        with self._lock:
            self._results, self._minutes, self._counted, self._sorted = {}, Counter(), {}, ()

    def get(self, photo_id: str) -> Result | None:
        """The result of a photo, if it is among the newest."""
        return self._results.get(photo_id)

    def results(self) -> Sequence[Result]:
        """All of them, the newest first."""
        with self._lock:
            if self._sorted is None:
                self._sorted = tuple(self._in_order()[: self._most])
            return self._sorted

    def by_minute(self) -> list[int]:
        """How many results were written in each of the last `MINUTES` minutes, the present one last."""
        last = self._present()
        with self._lock:
            return [self._minutes[minute] for minute in range(last - MINUTES + 1, last + 1)]

    def _present(self) -> int:
        return int(self._clock() * 1000) // _MINUTE_MS

    def _in_order(self) -> list[Result]:
        return sorted(self._results.values(), key=lambda each: (each.tags.tagged_at, each.place.offset), reverse=True)
