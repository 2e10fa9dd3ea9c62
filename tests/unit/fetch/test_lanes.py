import asyncio
import errno
import threading
from collections.abc import AsyncIterator

import pytest

from consumer.fetch import lanes as module
from consumer.fetch.lanes import Lanes, LaneStuck
from tests.photo_host import until


class Hang:
    """Calls that return when they are released."""

    def __init__(self) -> None:
        self.running = 0
        self.released = threading.Event()

    def __call__(self) -> str:
        self.running += 1
        self.released.wait(30)
        return "late"


@pytest.fixture
async def hang() -> AsyncIterator[Hang]:
    hang = Hang()
    yield hang
    hang.released.set()


async def test_a_call_gives_its_result_and_raises_its_failure() -> None:
    lanes = Lanes("test", in_each=1, in_all=1, overdue_s=1.0)
    assert await lanes.run("a", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await lanes.run("a", lambda: 1 // 0)
    assert await lanes.run("b", threading.current_thread) is not threading.current_thread()


async def test_calls_one_after_the_other_share_a_thread_and_those_at_once_do_not() -> None:
    lanes = Lanes("test", in_each=4, in_all=8, overdue_s=1.0)
    barrier = threading.Barrier(4)
    first = await lanes.run("a", threading.get_ident)
    # The thread is free a moment after its answer was given.
    await until(lambda: bool(lanes._threads._idle))
    assert await lanes.run("b", threading.get_ident) == first

    def together() -> int:
        barrier.wait(10)
        return threading.get_ident()

    assert len(set(await asyncio.gather(*(lanes.run("a", together) for _ in range(4))))) == 4


async def test_calls_at_once_that_return_at_once_share_a_thread_and_wake_the_loop_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SHORT_S", 60.0)
    lanes, last = Lanes("test", in_each=8, in_all=16, overdue_s=60.0), threading.Event()
    loop, woken = asyncio.get_running_loop(), list[object]()
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: (woken.append(call), wake(*call)))
    calls = [asyncio.create_task(lanes.run("a", threading.get_ident)) for _ in range(7)]
    calls.append(asyncio.create_task(lanes.run("a", lambda: (last.set(), threading.get_ident())[1])))
    await asyncio.sleep(0)
    assert last.wait(30)  # in the loop, which is busy so
    assert len(set(await asyncio.gather(*calls))) == 1
    assert 1 <= len(woken) <= 2, "the last one may return after the loop looked"


async def test_a_call_that_takes_long_holds_up_none_of_its_lane_for_more_than_a_moment(hang: Hang) -> None:
    lanes = Lanes("test", in_each=3, in_all=100, overdue_s=60.0)
    late = asyncio.create_task(lanes.run("a", hang))
    await until(lambda: hang.running == 1)
    assert await asyncio.wait_for(lanes.run("a", lambda: "now"), 30) == "now"
    hang.released.set()
    assert await late == "late"


async def test_a_thread_without_calls_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 0.02)
    lanes, before = Lanes("test", in_each=4, in_all=4, overdue_s=1.0), set(threading.enumerate())
    for _ in range(20):
        assert await lanes.run("a", lambda: 7) == 7
        await asyncio.sleep(0.02)  # at the moment when it may end
    await until(lambda: not set(threading.enumerate()) - before)


async def test_a_full_lane_delays_no_other_and_its_places_are_bounded(hang: Hang) -> None:
    lanes = Lanes("test", in_each=3, in_all=100, overdue_s=60.0)
    calls = [asyncio.create_task(lanes.run("hung", hang)) for _ in range(12)]
    await until(lambda: hang.running == 3)
    assert await asyncio.wait_for(lanes.run("good", lambda: "now"), 5) == "now"
    assert hang.running == 3
    hang.released.set()
    assert await asyncio.gather(*calls) == ["late"] * 12


async def test_calls_that_nobody_waits_for_keep_their_places_until_they_return(hang: Hang) -> None:
    lanes = Lanes("test", in_each=2, in_all=100, overdue_s=60.0)
    calls = [asyncio.create_task(lanes.run("hung", hang)) for _ in range(5)]
    await until(lambda: hang.running == 2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    after = asyncio.create_task(lanes.run("hung", lambda: "after"))
    done, _ = await asyncio.wait({after}, timeout=0.05)
    assert not done
    hang.released.set()
    assert await asyncio.wait_for(after, 5) == "after"
    assert hang.running == 2, "a call began for a wait that was over"


async def test_a_lane_whose_calls_are_all_overdue_refuses_at_once(hang: Hang) -> None:
    lanes = Lanes("test", in_each=2, in_all=100, overdue_s=0.05)
    calls = [asyncio.create_task(lanes.run("hung", hang)) for _ in range(2)]
    await until(lambda: hang.running == 2)
    await asyncio.wait(calls, timeout=0.06)
    with pytest.raises(LaneStuck):
        await lanes.run("hung", hang)
    hang.released.set()
    await asyncio.gather(*calls)
    assert await lanes.run("hung", lambda: "works again") == "works again"


async def test_the_threads_are_bounded_in_all(hang: Hang) -> None:
    lanes = Lanes("test", in_each=8, in_all=4, overdue_s=60.0)
    calls = [asyncio.create_task(lanes.run(str(number), hang)) for number in range(4)]
    await until(lambda: hang.running == 4)
    with pytest.raises(OSError, match="threads have not returned") as caught:
        await lanes.run("one more", hang)
    assert caught.value.errno == errno.ENOMEM
    hang.released.set()
    await asyncio.gather(*calls)
    assert await lanes.run("one more", lambda: "fits") == "fits"


async def test_many_full_lanes_leave_a_thread_for_each_further_one(hang: Hang) -> None:
    lanes = Lanes("test", in_each=4, in_all=32, overdue_s=60.0)
    calls = [asyncio.create_task(lanes.run(str(number % 12), hang)) for number in range(12 * 8)]
    await until(lambda: hang.running >= 12)
    # What another lane asks for waits for its own calls alone, none of them fails.
    for _ in range(3):
        answers = await asyncio.wait_for(asyncio.gather(*(lanes.run("good", lambda: "now") for _ in range(9))), 5)
        assert answers == ["now"] * 9
    assert hang.running < 32
    given_up = asyncio.create_task(lanes.run("0", hang))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    hang.released.set()
    assert await asyncio.wait_for(asyncio.gather(*calls), 30) == ["late"] * len(calls)
    await until(lambda: not lanes._lanes)


async def test_a_lane_whose_only_thread_is_overdue_refuses_at_once_where_threads_are_scarce(hang: Hang) -> None:
    lanes = Lanes("test", in_each=4, in_all=4, overdue_s=0.05)
    calls = [asyncio.create_task(lanes.run(name, hang)) for name in ("hung", "hung", "other")]
    await until(lambda: hang.running == 3)
    late = asyncio.create_task(lanes.run("other", hang))
    await asyncio.sleep(0.1)
    with pytest.raises(LaneStuck):
        await lanes.run("other", hang)
    hang.released.set()
    assert await asyncio.gather(*calls, late) == ["late"] * 4


async def test_who_gives_up_while_threads_are_scarce_leaves_the_place_to_the_next(hang: Hang) -> None:
    lanes, other = Lanes("test", in_each=2, in_all=4, overdue_s=60.0), Hang()
    calls = [asyncio.create_task(lanes.run("hung", hang)), asyncio.create_task(lanes.run("other", other))]
    await until(lambda: hang.running + other.running == 2)
    waiting = asyncio.create_task(lanes.run("hung", lambda: "late"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    other.released.set()
    assert await asyncio.wait_for(calls[1], 5) == "late"
    assert await asyncio.wait_for(lanes.run("hung", lambda: "now"), 5) == "now"
    hang.released.set()
    await asyncio.gather(*calls)


async def test_lanes_that_are_empty_are_forgotten(hang: Hang) -> None:
    lanes = Lanes("test", in_each=1, in_all=100, overdue_s=60.0)
    for number in range(50):
        await lanes.run(str(number), int)
    waiting = [asyncio.create_task(lanes.run("hung", hang)) for _ in range(3)]
    await until(lambda: hang.running == 1)
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    hang.released.set()
    await until(lambda: not lanes._lanes)


def test_a_call_that_hangs_does_not_keep_the_loop_or_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 0.05)
    hang, before = Hang(), set(threading.enumerate())

    async def left_running() -> None:
        lanes = Lanes("test", in_each=1, in_all=1, overdue_s=1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lanes.run("hung", hang), 0.05)

    asyncio.run(left_running())
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    hang.released.set()
    thread.join(5)
    assert not thread.is_alive()
