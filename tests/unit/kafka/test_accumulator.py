"""When records go at once, and when they wait for those that are under way."""

import asyncio

import pytest

from consumer.kafka import accumulator as module
from consumer.kafka.accumulator import Accumulator
from tests.harness import eventually


class Entrance:
    """An accumulator, and how many were let in."""

    def __init__(self) -> None:
        self.accumulator = Accumulator()
        self.inside = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def _enter(self) -> None:
        await self.accumulator.enter()
        self.inside += 1

    async def come(self, count: int) -> None:
        """So many come at once; returns when they are in or wait."""
        self.tasks += [asyncio.create_task(self._enter()) for _ in range(count)]
        await asyncio.sleep(0)

    def leave(self, count: int) -> None:
        for _ in range(count):
            self.accumulator.leave()


@pytest.fixture
def entrance(monkeypatch: pytest.MonkeyPatch) -> Entrance:
    """Nothing is let in for the time alone."""
    monkeypatch.setattr(module, "_HELD_S", 600.0)
    return Entrance()


async def test_what_comes_at_once_goes_at_once_however_much_it_is(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH_S", 600.0)
    await entrance.come(100)
    assert entrance.inside == 100


async def test_a_few_under_way_hold_nobody_back(entrance: Entrance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_S", -1.0)
    for _ in range(100):
        await entrance.come(8)
        entrance.leave(8)
    assert entrance.inside == 800


async def test_what_is_held_back_goes_together_once_few_are_left_under_way(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH_S", -1.0)
    await entrance.come(8)
    await entrance.come(50)
    assert entrance.inside == 8
    entrance.leave(1)
    await asyncio.sleep(0)
    assert entrance.inside == 58
    await entrance.come(1)
    assert entrance.inside == 58
    entrance.leave(51)
    await asyncio.sleep(0)
    assert entrance.inside == 59


async def test_without_any_answer_the_wait_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_S", -1.0)
    monkeypatch.setattr(module, "_HELD_S", 0.01)
    entrance = Entrance()
    await entrance.come(8)
    await entrance.come(20)
    assert entrance.inside == 8
    await eventually(lambda: entrance.inside == 28)


async def test_one_that_is_cancelled_while_it_is_held_back_is_not_under_way(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH_S", -1.0)
    await entrance.come(8)
    await entrance.come(3)
    entrance.tasks[-1].cancel()
    await asyncio.gather(entrance.tasks[-1], return_exceptions=True)
    entrance.leave(8)
    await asyncio.sleep(0)
    assert (entrance.inside, entrance.accumulator._under_way) == (10, 2)
