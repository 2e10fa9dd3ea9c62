"""The records of the retry topic: each waits for its time, and starts then, whatever stands before it in the topic.

They are held in memory, within bounds of count and bytes. Where these, or the positions that the group can commit, are
half used up, the records that are furthest ahead move to the end of their partition, with all they say, so that those
behind them are read; so do those whose time has come and that find no place for long, as where their host hangs. A
record that moved is done here: it is another one there. Copies of it, after a crash, are harmless: tags are written by
version. For the same reason two events of one photo may change places while they wait. Nothing moves where only such
copies stand behind, and none of them is due soon: the topic would grow for nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic
from typing import Final

from consumer.errors import RecordRefused
from consumer.events import Record, Source
from consumer.kafka.backpressure import long_span
from consumer.kafka.headers import Delivery, Owner, retried_delivery_of
from consumer.service.behind import Behind
from consumer.service.per_photo_order import PerPhotoOrder
from consumer.service.places import Places, Waiting
from consumer.service.waiting_limits import Load, MoveBudget, WaitingLimits, size_of
from consumer.telemetry import Log, Metrics

_LOOK_S: Final = 1.0
_RELIEVE_S: Final = 0.1
_BATCH: Final = 64
_BATCH_BYTES: Final = 4 * 1024 * 1024
_REPORT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Uses:
    """What a waiting room needs of the others.

    `handle` processes a record; `move` publishes it to the end of its partition and answers where, or raises
    `RecordRefused` where the topic refuses it for good; `halted` says whether no record gets on now whatever its time,
    so that no move is of use.
    """

    handle: Callable[[Delivery], Awaitable[None]]
    move: Callable[[Delivery], Awaitable[Source]]
    halted: Callable[[], bool]


class WaitingRoom:
    """The tasks of the retry topic, for one event loop; `read` alone is called in the source's thread."""

    def __init__(self, uses: Uses, limits: WaitingLimits, load: Load, *, log: Log, metrics: Metrics) -> None:
        self._uses = uses
        self._limits = limits
        self._load = load
        self._log = log
        self._metrics = metrics
        self._order = PerPhotoOrder(self._process)
        self._numbers = count()
        self._waiting: dict[int, Waiting] = {}
        #: When each comes due; a heap, which may name some that have left.
        self._times: list[tuple[datetime, int]] = []
        self._places = Places(limits.places)
        self._moving: set[asyncio.Task[None]] = set()
        self._behind = Behind()
        self._owner: Owner | None = None
        #: Pressed, and nothing new stands behind.
        self._resting = False
        self._budget = MoveBudget()
        self._moved = 0
        self._timer: asyncio.TimerHandle | None = None
        self._relieved_s = self._swept_s = self._reported_s = monotonic()
        self._closed = False

    def read(self, record: Record, owner: Owner) -> Delivery:
        """The delivery of a record that was just read, whose bytes count from now on."""
        self._load.add(record)
        return retried_delivery_of(record, owner)

    def start(self, deliveries: Iterable[Delivery]) -> None:
        """Takes records that were read, in the running event loop; after `close`, none."""
        for delivery in () if self._closed else deliveries:
            self._owner = delivery.owner
            self._behind.read(delivery.record)
            self._take(delivery)
        self._look()

    def close(self) -> frozenset[asyncio.Task[None]]:
        """Starts and moves no more records; returns the tasks of those that have begun. The others have no outcome."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        return self._order.close() | frozenset(self._moving)

    def _take(self, delivery: Delivery) -> None:
        """Lets a record wait for its time; one that has none, or whose time has come, for a place."""
        now = datetime.now(UTC)
        entry = Waiting(delivery, now if delivery.deferral is None else delivery.deferral.not_before, monotonic())
        if entry.not_before <= now:
            self._make_due(entry)
            return
        delivery.wait.what = f"its time, {entry.not_before.isoformat()}"
        # Waiting for its time is no delay: it is late from then on.
        delivery.wait.since_s = entry.since_s + _ahead_s(entry.not_before)
        number = next(self._numbers)
        self._waiting[number] = entry
        heappush(self._times, (entry.not_before, number))

    def _make_due(self, entry: Waiting) -> None:
        entry.delivery.wait.what = "a place among the retries that are processed"
        self._places.add(replace(entry, since_s=monotonic()))

    def _look(self) -> None:
        """Starts what is due, moves what is far ahead, and sees to the next look."""
        if self._closed:
            return
        if monotonic() - self._swept_s >= _LOOK_S:
            self._sweep()
        while self._times and _ahead_s(self._times[0][0]) <= 0:
            entry = self._waiting.pop(heappop(self._times)[1], None)
            if entry is not None:
                self._make_due(entry)
        while (delivery := self._places.take()) is not None:
            self._order.start([delivery])
        if monotonic() - self._relieved_s >= self._relieve_s and not self._moving and not self._uses.halted():
            self._relieve()
        self._look_later()

    def _look_later(self) -> None:
        """Sets the timer to the first record's time, or sooner where more may have to move."""
        # A wall clock may be set back or forth meanwhile: hence never longer than this.
        wait_s = self._relieve_s if self._pressed else _LOOK_S
        if self._times:
            wait_s = min(wait_s, max(0.001, _ahead_s(self._times[0][0])))
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + wait_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._look()

    def _sweep(self) -> None:
        """Lets go of the records whose partition went to another member; once a second, as the figures."""
        self._swept_s = monotonic()
        for number in [number for number, entry in self._waiting.items() if not entry.delivery.is_ours()]:
            self._load.remove(self._waiting.pop(number).delivery.record)
        self._metrics.retry_waiting_bytes.set(self._load.bytes)
        if self._moved and monotonic() - self._reported_s >= _REPORT_S:
            self._log.info("retries.moved", records=self._moved, waiting=len(self._waiting), bytes=self._load.bytes)
            self._moved, self._reported_s = 0, monotonic()

    async def _process(self, delivery: Delivery) -> None:
        try:
            if not self._closed and delivery.is_ours():
                await self._uses.handle(delivery)
        finally:
            self._places.leave(delivery)
            self._load.remove(delivery.record)
            self._look()

    @property
    def _surplus(self) -> tuple[int, int]:
        """Records and bytes beyond half of the bounds, or negative: the room that is left."""
        held = len(self._waiting) + len(self._places)
        return held - self._limits.max_records // 2, self._load.bytes - self._limits.max_bytes // 2

    @property
    def _pressed(self) -> bool:
        return max(self._surplus) > 0

    @property
    def _relieve_s(self) -> float:
        return _LOOK_S if self._resting else _RELIEVE_S

    def _relieve(self) -> None:
        """Begins to move the next batch, if one has to move and that leads to something new."""
        self._relieved_s = monotonic()
        surplus, surplus_bytes = self._surplus
        wanted = self._pressed or any(map(self._is_long, self._waiting.values()))
        self._resting = wanted and not self._is_something_new_behind()
        if not wanted or self._resting:
            return
        batch: list[Waiting] = []
        batch_bytes = 0
        for entry in self._movable():
            if surplus <= 0 and surplus_bytes <= 0 and not self._is_long(entry):
                continue
            size = size_of(entry.delivery.record)
            full = len(batch) >= _BATCH or batch_bytes >= _BATCH_BYTES
            if full or not self._budget.take(size, monotonic()):
                break
            batch.append(entry)
            batch_bytes += size
            surplus, surplus_bytes = surplus - 1, surplus_bytes - size
        self._begin_to_move(batch)

    def _movable(self) -> Iterator[Waiting]:
        """The records that may move now.

        Yields:
            Those furthest ahead first, then those without a place, while others would get one.
        """
        now_s = monotonic()
        for entry in sorted(self._waiting.values(), key=lambda entry: entry.not_before, reverse=True):
            if _ahead_s(entry.not_before) <= self._limits.near_s:
                break
            if now_s - entry.since_s >= self._limits.stay_s and entry.delivery.is_ours():
                yield entry
        if self._places.free:
            late = self._places.longest_waits(now_s - self._limits.placeless_s)
            yield from (entry for entry in late if entry.delivery.is_ours())

    def _begin_to_move(self, batch: list[Waiting]) -> None:
        if not batch:
            return
        gone = set(map(id, batch))
        self._waiting = {number: entry for number, entry in self._waiting.items() if id(entry) not in gone}
        self._times = [(entry.not_before, number) for number, entry in self._waiting.items()]
        heapify(self._times)
        self._places.remove(batch)
        for entry in batch:
            task = asyncio.create_task(self._move_away(entry))
            self._moving.add(task)
            task.add_done_callback(self._moving.discard)

    def _is_long(self, entry: Waiting) -> bool:
        """Whether the newest record of its partition is so far behind it that reading may have to stop."""
        return long_span(self._behind.span(entry.delivery.record))

    def _is_something_new_behind(self) -> bool:
        soon = datetime.now(UTC) + timedelta(seconds=self._limits.near_s)
        return self._owner is not None and self._behind.anything_new(self._owner.unread, soon)

    async def _move_away(self, entry: Waiting) -> None:
        """Moves a record to its partition's end. One that the topic refuses is tried now, and has an outcome then."""
        delivery = entry.delivery
        delivery.wait.what = "its move to the end of the retry topic"
        copy: Source | None = None
        refused = False
        try:
            copy = await self._uses.move(delivery)
        except RecordRefused:
            refused = True
        finally:
            if copy is not None:
                self._moved += 1
                self._behind.moved(delivery.record, copy, entry.not_before)
                self._metrics.requeued.inc()
                self._load.remove(delivery.record)
                delivery.done()
            elif refused:
                delivery.wait.since_s = monotonic()
                self._make_due(entry)
            else:
                self._take(delivery)
            self._look()


def _ahead_s(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()
