import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from consumer.errors import RecordRefused
from consumer.events import Record, Source
from consumer.kafka import backpressure
from consumer.kafka.headers import Delivery, Unread, retry_headers
from consumer.resilience import Deferral
from consumer.service.waiting import Uses, WaitingRoom
from consumer.service.waiting_limits import Load, WaitingLimits, size_of
from consumer.telemetry import Metrics
from tests.fakes import RecordingLog, record, uploaded_json
from tests.harness import eventually

LIMITS = WaitingLimits(max_records=100, max_bytes=1_000_000, places=4, stay_s=0.05, near_s=0.2, placeless_s=0.1)
HOUR_S = 3600.0


class Bench:
    """A waiting room whose records are processed and moved as the test says; it owns them as a source does."""

    def __init__(self, limits: WaitingLimits = LIMITS) -> None:
        self.limits = limits
        self.offset = 0
        self.handled: list[Record] = []
        self.moved: list[Record] = []
        self.finished: list[Record] = []
        self.hanging: asyncio.Event | None = None
        self.hangs = ""
        self.refuses: Exception | None = None
        #: Of the log; None: nobody knows, and so anything may stand behind.
        self.end: int | None = None
        self.ours, self.halted = True, False
        self.suspended, self.metrics, self.log = threading.Event(), Metrics(), RecordingLog()
        self.load = Load(limits.max_bytes, self.suspended)
        uses = Uses(self.handle, self.move, lambda: self.halted)
        self.room = WaitingRoom(uses, limits, self.load, log=self.log, metrics=self.metrics)

    def done(self, one: Record) -> None:
        self.finished.append(one)

    def holds(self, _: Record) -> bool:
        return self.ours

    async def handle(self, delivery: Delivery) -> None:
        if self.hanging is not None and self.hangs.encode() in (delivery.record.value or b""):
            await self.hanging.wait()
        self.handled.append(delivery.record)
        delivery.done()

    @property
    def unread(self) -> dict[tuple[str, int], Unread]:
        return {("photo-uploads", 0): Unread(0, self.offset, self.end, frozenset())}

    async def move(self, delivery: Delivery) -> Source:
        if self.refuses is not None:
            raise self.refuses
        self.moved.append(delivery.record)
        return Source("photo-uploads", 0, 10_000 + len(self.moved))

    def send(self, after_s: float | None, *, host: str = "photos.example", size: int = 0) -> Delivery:
        """A record is read that waits so long; None is one that was sent to the topic without such headers."""
        value = uploaded_json(uri=f"https://{host}/1.jpg", metadata={"text": "x" * size})
        one = record(value, offset=self.offset, headers=() if after_s is None else waiting(after_s))
        one = replace(one, key=b"photo-%d" % self.offset)
        self.offset += 1
        delivery = self.room.read(one, self)
        self.room.start([delivery])
        return delivery


def waiting(after_s: float) -> tuple[tuple[str, bytes | None], ...]:
    not_before = datetime.now(UTC) + timedelta(seconds=after_s)
    return retry_headers((), Deferral("http_5xx", "busy", 2, 1, not_before, Source("photo-uploads", 0, 0)))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.room.close()


async def test_a_record_is_processed_at_its_time_and_not_before(bench: Bench) -> None:
    delivery = bench.send(0.1)
    await eventually(lambda: bench.handled)
    assert delivery.deferral is not None
    assert datetime.now(UTC) >= delivery.deferral.not_before


@pytest.mark.parametrize("after_s", [-1.0, -1e9, None])
async def test_a_record_whose_time_has_come_or_that_has_none_is_processed_at_once(
    bench: Bench, after_s: float | None
) -> None:
    delivery = bench.send(after_s)
    await eventually(lambda: bench.handled == [delivery.record])


async def test_records_are_processed_in_the_order_of_their_times_whatever_that_of_the_topic_is(bench: Bench) -> None:
    sent = [bench.send(after_s).record.offset for after_s in (HOUR_S, 0.3, 0.1, 0.2)]
    await eventually(lambda: len(bench.handled) == 3)
    assert [one.offset for one in bench.handled] == [sent[2], sent[3], sent[1]]


async def test_what_is_far_ahead_stays_where_there_is_room(bench: Bench) -> None:
    for _ in range(bench.limits.max_records // 2 - 1):
        bench.send(HOUR_S)
    bench.send(4 * bench.limits.stay_s)
    await eventually(lambda: bench.handled)
    assert bench.moved == []


@pytest.mark.parametrize("size", [0, 20_000])
async def test_what_is_furthest_ahead_moves_until_half_of_either_bound_is_free(size: int) -> None:
    bench = Bench(replace(LIMITS, max_records=1_000 if size else 100))
    # On a slow machine some may have stayed for long enough while others are still being sent.
    bench.halted = True
    sent = [bench.send(HOUR_S + number, size=size) for number in range(99)]
    assert bench.load.is_set() == bool(size)
    await asyncio.sleep(2 * bench.limits.stay_s)
    bench.halted = False
    stay = min(bench.limits.max_records // 2, bench.limits.max_bytes // 2 // size_of(sent[0].record))
    await eventually(lambda: len(bench.moved) == 99 - stay)
    await asyncio.sleep(4 * bench.limits.stay_s)
    assert not bench.load.is_set()
    assert {one.offset for one in bench.moved} == set(range(stay, 99)), "not those furthest ahead, or too many"
    assert bench.finished == bench.moved
    assert bench.metrics.registry.get_sample_value("tagger_requeued_records_total") == len(bench.moved)
    bench.room.close()


async def test_a_record_that_holds_back_the_position_of_many_moves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backpressure, "MAX_SPAN", 40)
    first = bench.send(HOUR_S)
    for _ in range(30):
        bench.send(-1.0)
    last = bench.send(HOUR_S)
    await eventually(lambda: bench.moved == [first.record])
    assert len(bench.handled) == 30
    assert last.record not in bench.finished


async def test_no_record_moves_again_before_it_has_stayed_for_a_while_nor_shortly_before_its_time() -> None:
    bench = Bench(replace(LIMITS, max_records=2, stay_s=0.3))
    for after_s in (0.19, HOUR_S, HOUR_S):
        bench.send(after_s)
    began_s = asyncio.get_running_loop().time()
    await eventually(lambda: len(bench.moved) == 1)
    assert asyncio.get_running_loop().time() - began_s >= 0.3
    assert [one.offset for one in bench.handled] == [0]
    bench.room.close()


async def test_a_record_whose_time_comes_soon_does_not_move_however_little_room_there_is() -> None:
    bench = Bench(replace(LIMITS, max_records=2, near_s=1.0))
    for _ in range(20):
        bench.send(0.4)
    await eventually(lambda: len(bench.handled) == 20)
    assert bench.moved == []
    bench.room.close()


async def test_nothing_moves_while_no_photo_gets_on(bench: Bench) -> None:
    bench.halted = True
    for _ in range(80):
        bench.send(HOUR_S)
    await asyncio.sleep(4 * bench.limits.stay_s)
    assert bench.moved == []
    bench.halted = False
    await eventually(lambda: len(bench.moved) == 30)


async def test_nothing_moves_where_nothing_stands_behind_until_something_does(bench: Bench) -> None:
    bench.end = 80
    for _ in range(80):
        bench.send(HOUR_S)
    await asyncio.sleep(4 * bench.limits.stay_s)
    assert bench.moved == []
    bench.end = 81
    await eventually(lambda: len(bench.moved) == 30)


async def test_a_record_that_the_topic_refuses_is_tried_before_its_time_so_that_it_has_an_outcome() -> None:
    bench = Bench(replace(LIMITS, max_records=2))
    bench.refuses = RecordRefused("too large")
    deliveries = [bench.send(HOUR_S) for _ in range(2)]
    await eventually(lambda: len(bench.handled) == 1)
    assert bench.handled[0] in [delivery.record for delivery in deliveries]
    assert bench.moved == []
    bench.room.close()


async def test_a_record_whose_move_failed_is_still_there(bench: Bench) -> None:
    bench.refuses = RuntimeError("a bug")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    for _ in range(60):
        bench.send(HOUR_S)
    await asyncio.sleep(4 * bench.limits.stay_s)
    assert bench.finished == []
    bench.refuses = None
    await eventually(lambda: len(bench.moved) == 10)


async def test_a_host_that_hangs_leaves_half_of_the_places_to_others_and_none_waits_for_its_records(
    bench: Bench,
) -> None:
    bench.hanging, bench.hangs = asyncio.Event(), "slow.example"
    slow = [bench.send(-1.0, host="slow.example") for _ in range(40)]
    fine = [bench.send(-1.0) for _ in range(20)]
    await eventually(lambda: len(bench.handled) == 20)
    assert bench.handled == [delivery.record for delivery in fine]
    bench.hanging.set()
    await eventually(lambda: len(bench.handled) == 60)
    assert bench.handled[20:] == [delivery.record for delivery in slow]


async def test_a_host_that_hangs_does_not_fill_the_room(bench: Bench) -> None:
    bench.hanging, bench.hangs = asyncio.Event(), "slow.example"
    for _ in range(100):
        bench.send(-1.0, host="slow.example")
    await eventually(lambda: len(bench.moved) == 50)
    fine = bench.send(-1.0)
    await eventually(lambda: bench.handled == [fine.record])


async def test_records_of_a_partition_that_was_lost_are_left_to_its_new_owner_and_hold_no_bytes(bench: Bench) -> None:
    bench.send(0.1)
    bench.send(HOUR_S)
    bench.ours = False
    await eventually(lambda: bench.load.bytes == 0)
    assert bench.handled == bench.moved == bench.finished == []


async def test_a_partition_that_is_lost_while_its_records_move_leaves_them_to_its_new_owner() -> None:
    class Losing(Bench):
        async def move(self, delivery: Delivery) -> Source:
            self.ours = False
            self.refuses = RecordRefused("its partition went to another member")
            return await super().move(delivery)

    bench = Losing()
    for _ in range(80):
        bench.send(HOUR_S)
    await eventually(lambda: not bench.ours)
    await eventually(lambda: bench.load.bytes == 0)
    assert bench.handled == bench.moved == bench.finished == []
    bench.room.close()


async def test_the_stop_lets_go_of_all_that_wait_at_once(bench: Bench) -> None:
    bench.hanging = asyncio.Event()
    for after_s in (-1.0, *[0.1] * 10, HOUR_S):
        bench.send(after_s)
    await asyncio.sleep(0)
    (begun,) = bench.room.close()
    bench.hanging.set()
    await begun
    bench.send(-1.0)
    await asyncio.sleep(0.15)
    assert len(bench.finished) <= 1


async def test_each_says_what_it_waits_for_and_is_late_only_from_its_time_on(bench: Bench) -> None:
    bench.hanging = asyncio.Event()
    now_s = asyncio.get_running_loop().time()
    ahead, *due = [bench.send(after_s) for after_s in (HOUR_S, *[-1.0] * 5)]
    await asyncio.sleep(0)
    assert ahead.wait.what.startswith("its time, ")
    assert ahead.wait.since_s == pytest.approx(now_s + HOUR_S, abs=60.0)
    assert due[-1].wait.what == "a place among the retries that are processed"
    assert due[-1].wait.since_s == pytest.approx(now_s, abs=60.0)
    bench.hanging.set()
