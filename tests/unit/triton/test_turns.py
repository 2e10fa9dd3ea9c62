import asyncio
from threading import Event

import pytest

from consumer.triton import turns
from consumer.triton.turns import Turns


class Clock:
    """The time, which passes only where somebody sleeps or a photo is judged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.rests: list[float] = []
        monkeypatch.setattr(turns, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(turns.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.rests.append(max(0.0, seconds))
        self.now_s += max(0.0, seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def judged(clock: Clock, took_s: float) -> float:
    clock.now_s += took_s
    return took_s


async def test_while_live_photos_come_a_photo_goes_alone_and_rests_by_what_it_took(clock: Clock) -> None:
    live = Event()
    live.set()
    order = Turns(live.is_set)
    took = [0.02, 0.04, 0.03]
    assert await asyncio.gather(*(order.taken(lambda each=each: judged(clock, each)) for each in took)) == took
    assert clock.rests == [0, pytest.approx(0.1), pytest.approx(0.2)]


async def test_a_slow_or_failing_triton_is_asked_again_within_seconds(clock: Clock) -> None:
    live = Event()
    live.set()
    order = Turns(live.is_set)

    async def fails() -> None:
        await judged(clock, 60)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await order.taken(fails)
    await order.taken(lambda: judged(clock, 0.01))
    assert clock.rests == [0, 2]


async def test_without_live_photos_all_are_judged_at_once_and_those_that_waited_rest_no_more() -> None:
    live, together, most = Event(), 0, 0
    order = Turns(live.is_set)
    gate = asyncio.Event()

    async def judge() -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await gate.wait()
        together -= 1

    asking = [asyncio.create_task(order.taken(judge)) for _ in range(5)]
    await asyncio.sleep(0)
    assert (together, order.yielding()) == (5, False)
    gate.set()
    await asyncio.gather(*asking)

    live.set()
    gate.clear()
    asking = [asyncio.create_task(order.taken(judge)) for _ in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert (together, order.yielding()) == (1, True)
    live.clear()
    gate.set()
    await asyncio.wait_for(asyncio.gather(*asking), 5)
    assert most == 5
