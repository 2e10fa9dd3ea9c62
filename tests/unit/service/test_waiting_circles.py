"""A waiting room that reads the end of the topic to which it moves records, in simulated time."""

import asyncio
import selectors
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.events import Record, Source
from consumer.kafka.headers import Delivery, Unread, retry_headers
from consumer.resilience import Deferral
from consumer.service import waiting
from consumer.service.waiting import Uses, WaitingRoom
from consumer.service.waiting_limits import Load, WaitingLimits
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog, record

LIMITS = WaitingLimits(max_records=40, max_bytes=10**9, places=4)
ROOM = LIMITS.max_records // 2
HOUR_S = 3600.0


class Clock:
    """Time that passes where a loop would wait for it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.began = datetime.now(UTC)

    def monotonic(self) -> float:
        return self.now_s

    def now(self, _: object) -> datetime:
        return self.began + timedelta(seconds=self.now_s - 1_000.0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop that lives by a clock."""

    def __init__(self, clock: Clock) -> None:
        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> list[Any]:
                if timeout is not None:
                    clock.now_s += max(0.0, timeout)
                return super().select(0)

        super().__init__(Selector())
        self._clock = clock

    def time(self) -> float:
        return self._clock.now_s


@dataclass(slots=True)
class Topic:
    """One partition of the retry topic, its source and the room that takes what is read; tells what happened, when."""

    clock: Clock
    log: list[Record] = field(default_factory=list)
    read: int = 0
    in_flight: int = 0
    moves: list[float] = field(default_factory=list)
    #: By photo: how late it was, once for each time it was processed.
    late_s: dict[bytes, list[float]] = field(default_factory=dict)
    unread: dict[tuple[str, int], Unread] = field(default_factory=dict)
    room: WaitingRoom = field(init=False)
    _paused: bool = False

    def __post_init__(self) -> None:
        uses = Uses(self.handle, self.move, lambda: False)
        load = Load(LIMITS.max_bytes, threading.Event())
        self.room = WaitingRoom(uses, LIMITS, load, log=RecordingLog(), metrics=Metrics())

    def add(self, photo: str, after_s: float) -> None:
        not_before = self.clock.now(UTC) + timedelta(seconds=after_s)
        headers = retry_headers((), Deferral("http_5xx", "busy", 2, 1, not_before, Source("photo-uploads", 0, 0)))
        self.log.append(replace(record(offset=len(self.log), headers=headers), key=photo.encode()))

    def done(self, _: Record) -> None:
        self.in_flight -= 1

    def holds(self, _: Record) -> bool:
        return True

    async def handle(self, delivery: Delivery) -> None:
        assert delivery.deferral is not None
        late_s = (self.clock.now(UTC) - delivery.deferral.not_before).total_seconds()
        self.late_s.setdefault(delivery.record.key or b"", []).append(late_s)
        delivery.done()

    async def move(self, delivery: Delivery) -> Source:
        self.moves.append(self.clock.now_s)
        self.log.append(replace(delivery.record, offset=len(self.log)))
        return Source("photo-uploads", 0, len(self.log) - 1)

    async def run(self, for_s: float) -> None:
        """Reads as a source does: until the window is full, then again once half of it is free."""
        end_s = self.clock.now_s + for_s
        while self.clock.now_s < end_s:
            if self.in_flight >= LIMITS.max_records:
                self._paused = True
            elif self.in_flight <= ROOM:
                self._paused = False
            if not self._paused:
                batch = self.log[self.read : self.read + LIMITS.max_records - self.in_flight]
                self.read, self.in_flight = self.read + len(batch), self.in_flight + len(batch)
                self.room.start([self.room.read(one, self) for one in batch])
            self.unread = {("photo-uploads", 0): Unread(0, self.read, len(self.log), frozenset())}
            await asyncio.sleep(0.5)

    def moved_since(self, moment_s: float) -> int:
        return sum(moved_s >= moment_s for moved_s in self.moves)


Simulate = Callable[[Callable[[Topic], Any]], None]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulate]:
    def run(scene: Callable[[Topic], Any]) -> None:
        clock = Clock()
        monkeypatch.setattr(waiting, "monotonic", clock.monotonic)
        monkeypatch.setattr(waiting, "datetime", clock)
        with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
            runner.run(_played(Topic, clock, scene))

    return run


async def _played(make: Callable[[Clock], Topic], clock: Clock, scene: Callable[[Topic], Any]) -> None:
    topic = make(clock)
    await scene(topic)
    topic.room.close()


@pytest.mark.parametrize("number", [ROOM + 1, 2 * ROOM, 2 * ROOM + 1, 500])
def test_where_all_is_far_ahead_the_topic_is_passed_once_and_grows_no_more(simulate: Simulate, number: int) -> None:
    async def scene(topic: Topic) -> None:
        for each in range(number):
            topic.add(f"far{each}", HOUR_S)
        await topic.run(60 + number)
        settled_s = topic.clock.now_s
        await topic.run(HOUR_S - 60 - number - 10)
        assert topic.moved_since(settled_s) == 0
        assert len(topic.moves) <= number + 2 * ROOM
        assert topic.late_s == {}
        await topic.run(number)
        assert {len(times) for times in topic.late_s.values()} == {1}
        assert len(topic.late_s) == number

    simulate(scene)


def test_one_that_comes_later_is_reached_in_one_pass_and_all_rests_again(simulate: Simulate) -> None:
    async def scene(topic: Topic) -> None:
        for each in range(200):
            topic.add(f"far{each}", HOUR_S)
        await topic.run(300)
        for each in range(5):
            before, began_s = len(topic.moves), topic.clock.now_s
            topic.add(f"near{each}", 1.0)
            await topic.run(300)
            (late_s,) = topic.late_s[b"near%d" % each]
            assert 0 <= late_s < 30
            assert before < len(topic.moves) <= before + 200 + 2 * ROOM
            assert topic.moved_since(began_s + 60) == 0

    simulate(scene)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.floats(30, 900), max_size=200),
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 600)), max_size=8),
)
def test_in_any_mixture_each_is_processed_once_at_its_time_or_a_pass_later(
    simulate: Simulate, far: list[float], arrivals: list[tuple[float, float]]
) -> None:
    async def scene(topic: Topic) -> None:
        for number, after_s in enumerate(far):
            topic.add(f"far{number}", after_s)
        for number, (pause_s, after_s) in enumerate(arrivals):
            await topic.run(pause_s)
            topic.add(f"late{number}", after_s)
        total = len(far) + len(arrivals)
        await topic.run(2_000)
        times = list(topic.late_s.values())
        assert len(times) == total
        assert all(len(each) == 1 and 0 <= each[0] < 30 for each in times)

    simulate(scene)
