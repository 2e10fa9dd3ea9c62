"""Records of one photo take effect in order, all others at once."""

import asyncio
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.events import Record
from consumer.kafka.headers import Delivery
from consumer.service import per_photo_order
from consumer.service.per_photo_order import PerPhotoOrder
from tests.fakes import World
from tests.harness import eventually


def record(offset: int, key: bytes | None) -> Delivery:
    return World().delivery(Record("t", 0, offset, key, b""))


@given(keys=st.lists(st.sampled_from([b"a", b"b", b"c", None]), max_size=30), seed=st.randoms(use_true_random=False))
def test_each_key_is_handled_in_order_and_everything_is_handled(keys: list[bytes | None], seed: random.Random) -> None:
    async def scenario() -> None:
        handled: defaultdict[bytes | None, list[int]] = defaultdict(list)
        active: defaultdict[bytes | None, int] = defaultdict(int)

        async def handle(delivery: Delivery) -> None:
            one = delivery.record
            active[one.key] += 1
            assert one.key is None or active[one.key] == 1
            for _ in range(seed.randrange(4)):
                await asyncio.sleep(0)
            handled[one.key].append(one.offset)
            active[one.key] -= 1

        tasks = PerPhotoOrder(handle)
        for offset, key in enumerate(keys):
            tasks.start([record(offset, key)])
        await asyncio.gather(*tasks._running)
        for key in (b"a", b"b", b"c"):
            assert handled[key] == [offset for offset, other in enumerate(keys) if other == key]
        assert sorted(offset for offsets in handled.values() for offset in offsets) == list(range(len(keys)))
        assert not tasks._lines

    asyncio.run(scenario())


async def test_a_stuck_photo_holds_only_its_own_later_events() -> None:
    release, handled = asyncio.Event(), []

    async def handle(delivery: Delivery) -> None:
        if delivery.record.offset == 0:
            await release.wait()
        handled.append(delivery.record.offset)

    tasks = PerPhotoOrder(handle)
    for offset, key in enumerate([b"stuck", b"fine", b"stuck", None]):
        tasks.start([record(offset, key)])
    await eventually(lambda: len(tasks._running) == 2)
    assert sorted(handled) == [1, 3]
    release.set()
    await asyncio.gather(*tasks._running)
    assert handled[-2:] == [0, 2]


async def test_a_cancelled_record_does_not_hold_the_next_one_up() -> None:
    handled = []

    async def handle(delivery: Delivery) -> None:
        if delivery.record.offset == 0:
            await asyncio.Event().wait()
        handled.append(delivery.record.offset)

    tasks = PerPhotoOrder(handle)
    tasks.start([record(0, b"a")])
    (first,) = tasks._running
    tasks.start([record(1, b"a")])
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(*tasks._running, return_exceptions=True)
    assert handled == [1]


async def test_what_comes_after_the_close_is_not_started() -> None:
    handled = []

    async def handle(delivery: Delivery) -> None:
        handled.append(delivery.record.offset)

    tasks = PerPhotoOrder(handle)
    tasks.start([record(0, b"a")])
    left = tasks.close()
    tasks.start([record(1, b"b")])
    await asyncio.gather(*left)
    assert handled == [0]
    assert tasks.close() == frozenset()


async def test_a_record_behind_another_one_of_its_photo_says_so_in_plain_text() -> None:
    release, seen = asyncio.Event(), []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.wait.what)
        await release.wait()

    key = b"\x1b]0;owned\x07\xff" + b"x" * 1_000_000
    first, second = record(0, key), record(1, key)
    tasks = PerPhotoOrder(handle)
    tasks.start([first, second])
    await eventually(lambda: "earlier event" in second.wait.what)
    assert second.wait.what.startswith(r"an earlier event of photo '\x1b]0;owned\x07\\xff")
    assert len(second.wait.what) < 500
    release.set()
    await asyncio.gather(*tasks._running)
    assert seen == ["its turn", "its turn"]


async def turns(count: int) -> None:
    """Lets the event loop go round so often."""
    for _ in range(count):
        await asyncio.sleep(0)


class Bench:
    """Records that are handled until they are released; those that step aside are only noted."""

    def __init__(self, most_behind: float, slow_s: float = 0.0) -> None:
        self.release, self.begun, self.aside = asyncio.Event(), list[int](), list[int]()
        self.halted = False
        self.tasks = PerPhotoOrder(self.handle, most_behind=most_behind, halted=lambda: self.halted, slow_s=slow_s)
        self._offset = 0

    async def handle(self, delivery: Delivery) -> None:
        if delivery.wait.steps_aside:
            self.aside.append(delivery.record.offset)
            return
        self.begun.append(delivery.record.offset)
        await self.release.wait()

    async def start(self, keys: bytes) -> None:
        """One record for each byte, its key; lets them begin."""
        for key in keys:
            self.tasks.start([record(self._offset, bytes([key]))])
            self._offset += 1
        await turns(3)

    async def end(self) -> list[int]:
        """Those that were handled, once all are."""
        self.release.set()
        await asyncio.wait_for(asyncio.gather(*self.tasks._running), 30)
        assert not self.tasks._lines
        return self.begun


async def test_what_waits_behind_slow_records_beyond_the_bound_steps_aside_the_last_first() -> None:
    bench = Bench(most_behind=3)
    await bench.start(b"aaaaaaab")
    assert (bench.begun, bench.aside) == ([0, 7], [4, 5, 6])
    await bench.start(b"bab")  # all photos count together
    assert len(bench.aside) == 3 + 3
    assert len(bench.tasks._running) == 2 + 3
    assert (await bench.end())[:2] == [0, 7]


async def test_behind_a_record_that_is_quick_all_stay_until_it_is_slow() -> None:
    bench = Bench(most_behind=1, slow_s=0.2)
    await bench.start(b"aaaa")
    assert (bench.begun, bench.aside) == ([0], [])
    await eventually(lambda: sorted(bench.aside) == [2, 3])
    assert await bench.end() == [0, 1]


async def test_the_next_record_of_a_photo_is_not_slow_for_its_predecessor(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(per_photo_order, "monotonic", lambda: now_s)
    bench = Bench(most_behind=1, slow_s=10.0)
    await bench.start(b"aa")
    now_s = 100.0
    bench.release.set()
    bench.release = asyncio.Event()
    await eventually(lambda: bench.begun == [0, 1])
    await bench.start(b"aa")
    assert bench.aside == []
    now_s = 110.0
    await bench.start(b"a")
    assert bench.aside == [4, 3]
    assert await bench.end() == [0, 1, 2]


async def test_nothing_steps_aside_while_no_photo_gets_on() -> None:
    bench = Bench(most_behind=1, slow_s=0.02)
    bench.halted = True
    await bench.start(b"aaaa")
    await asyncio.sleep(0.1)  # five times as long as it takes without
    assert bench.aside == []
    bench.halted = False
    await eventually(lambda: sorted(bench.aside) == [2, 3])
    assert await bench.end() == [0, 1]


async def test_within_the_bound_nothing_steps_aside_however_slow_it_is() -> None:
    bench = Bench(most_behind=3)
    await bench.start(b"aaaa")
    assert bench.aside == []
    assert await bench.end() == [0, 1, 2, 3]


@settings(max_examples=50)
@given(
    keys=st.lists(st.sampled_from([b"a", b"b"]), max_size=20),
    cancelled=st.sets(st.integers(0, 19)),
    most_behind=st.integers(0, 5),
    seed=st.randoms(use_true_random=False),
)
def test_whatever_is_cancelled_or_steps_aside_all_end_and_those_that_stay_are_in_order(
    keys: list[bytes], cancelled: set[int], most_behind: int, seed: random.Random
) -> None:
    async def scenario() -> None:
        handled: defaultdict[bytes | None, list[int]] = defaultdict(list)
        active: defaultdict[bytes | None, int] = defaultdict(int)

        async def handle(delivery: Delivery) -> None:
            key = delivery.record.key
            if not delivery.wait.steps_aside:
                active[key] += 1
                assert active[key] == 1
                handled[key].append(delivery.record.offset)
                try:
                    await turns(seed.randrange(6))
                finally:
                    active[key] -= 1

        tasks = PerPhotoOrder(handle, most_behind=most_behind, slow_s=0.0)
        started: list[asyncio.Task[None]] = []
        for offset, key in enumerate(keys):
            before = set(tasks._running)
            tasks.start([record(offset, key)])
            started += tasks._running - before
            if seed.random() < 0.5:
                await asyncio.sleep(0)
            if offset in cancelled:
                seed.choice(started).cancel()
        await asyncio.wait_for(asyncio.gather(*started, return_exceptions=True), 5)
        assert not tasks._lines
        for offsets in handled.values():
            assert offsets == sorted(offsets)

    asyncio.run(scenario())
