"""Records of one photo take effect in order, all others at once."""

import asyncio
import random
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from consumer.events import Record
from consumer.kafka.headers import Delivery
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
        assert not tasks._last

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
