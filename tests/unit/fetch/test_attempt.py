import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from consumer.budget import Budget
from consumer.errors import PhotoRejected, Retryable
from consumer.fetch.attempt import Attempt, NoRoom
from consumer.fetch.fetcher import Fetcher
from tests.photo_host import Host, event, limits_for, response

MB = 1024 * 1024


async def test_room_is_taken_by_the_announced_length_and_given_back() -> None:
    budget = Budget(100)
    attempt = Attempt(budget, 50)
    await attempt.make_room("h", 30)
    assert budget.used == 30
    attempt.release()
    attempt.release()
    assert budget.used == 0


async def test_where_no_length_is_announced_the_largest_is_taken_and_the_excess_given_back() -> None:
    budget = Budget(100)
    attempt = Attempt(budget, 50)
    await attempt.make_room("h", None)
    assert budget.used == 50
    attempt.keep(12)
    assert budget.used == 12


async def test_what_is_announced_too_large_takes_no_room() -> None:
    budget = Budget(100)
    with pytest.raises(PhotoRejected, match="too_many_bytes"):
        await Attempt(budget, 50).make_room("h", 51)
    assert budget.used == 0


async def test_a_photo_larger_than_the_budget_goes_alone() -> None:
    budget = Budget(100)
    attempt = Attempt(budget, 500)
    await attempt.make_room("h", 400)
    assert budget.used == 100
    attempt.release()


async def test_time_spent_waiting_for_room_is_not_the_host_s() -> None:
    budget = Budget(100)
    blocker = await budget.acquire(100)
    attempt = Attempt(budget, 50)
    asyncio.get_running_loop().call_later(0.4, blocker.release)
    async with attempt.within(0.2):
        await attempt.make_room("h", 50)
    assert budget.used == 50


async def test_after_the_wait_the_time_runs_again() -> None:
    budget = Budget(100)
    blocker = await budget.acquire(100)
    attempt = Attempt(budget, 50)
    asyncio.get_running_loop().call_later(0.1, blocker.release)
    with pytest.raises(TimeoutError):
        await _room_and_silence(attempt)


async def _room_and_silence(attempt: Attempt) -> None:
    async with attempt.within(0.2):
        await attempt.make_room("h", 50)
        await asyncio.Event().wait()


async def test_a_connection_is_not_held_for_long_and_the_place_in_the_queue_is_kept() -> None:
    budget = Budget(100)
    blocker = await budget.acquire(100)
    first, second = Attempt(budget, 80, open_wait_s=0.01), Attempt(budget, 80)
    with pytest.raises(NoRoom):
        await first.make_room("h", 80)
    behind = asyncio.create_task(second.make_room("h", 80))
    await asyncio.sleep(0)
    blocker.release()
    await first.queued()
    assert budget.used == 80
    assert not behind.done()
    await first.make_room("h", 60)
    assert budget.used == 60
    first.release()
    await behind
    assert budget.used == 80


async def test_a_host_that_announces_more_the_second_time_waits_for_nothing() -> None:
    budget = Budget(100)
    blocker = await budget.acquire(50)
    attempt = Attempt(budget, 100)
    await attempt.make_room("h", 50)
    with pytest.raises(Retryable, match="malformed_response"):
        await attempt.make_room("h", 60)
    attempt.release()
    blocker.release()
    assert budget.used == 0


@pytest.mark.parametrize("step", ["make_room", "queued"])
async def test_who_is_cancelled_while_waiting_holds_nothing(step: str) -> None:
    budget = Budget(100)
    blocker = await budget.acquire(100)
    attempt = Attempt(budget, 80, open_wait_s=30 if step == "make_room" else 0.001)

    async def wait() -> None:
        try:
            with contextlib.suppress(NoRoom):
                await attempt.make_room("h", 80)
            await attempt.queued()
        finally:
            attempt.release()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    blocker.release()
    await asyncio.sleep(0)
    assert budget.used == 0
    assert (await budget.acquire(100)).amount == 100


def body_of(size: int, *, announced: bool) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Answers with `size` bytes as fast as they are taken."""
    chunk = bytes(64 * 1024)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response("200 OK", Content_Length=size if announced else None, Connection="close"))
        for _ in range(size // len(chunk)):
            writer.write(chunk)
            await writer.drain()

    return answer


@pytest.mark.parametrize("announced", [True, False])
async def test_many_large_photos_in_flight_hold_no_more_bytes_than_the_budget(host: Host, *, announced: bool) -> None:
    size, budget = 20 * MB, Budget(60 * MB)
    uri = host.serve("/large", body_of(size, announced=announced))
    held = peak = 0

    async def one(fetcher: Fetcher) -> None:
        nonlocal held, peak
        photo = await fetcher.fetch(event(uri))
        held += len(photo.body)
        peak = max(peak, held)
        assert budget.used <= budget.total
        assert held <= budget.used
        await asyncio.sleep(0.02)
        held -= len(photo.body)
        photo.drop()

    async with Fetcher(limits_for(host, max_bytes=size, total_timeout_s=60), budget) as fetcher:
        await asyncio.gather(*(one(fetcher) for _ in range(12)))
    assert size <= peak <= budget.total
    assert budget.used == 0


async def test_a_fetch_that_fails_gives_its_room_back(host: Host) -> None:
    budget = Budget(60 * MB)
    short = host.serve("/short", response("200 OK", b"abc", Content_Length=1000, Connection="close"))
    limits = limits_for(host, total_timeout_s=0.3)
    async with Fetcher(limits, budget) as fetcher:
        for uri in (short, host.serve("/none", host.hang), host.serve("/empty", response("200 OK"))):
            with pytest.raises((PhotoRejected, Retryable)):
                await fetcher.fetch(event(uri))
    assert budget.used == 0


async def test_a_photo_that_waited_long_for_room_is_asked_for_again(host: Host) -> None:
    budget = Budget(MB)
    left = asyncio.Event()

    async def noticed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await body_of(MB, announced=True)(reader, writer)
            await reader.read()  # until the fetcher leaves
        finally:
            if len(host.requests) > 1:
                left.set()

    uri = host.serve("/a", noticed)
    async with Fetcher(limits_for(host), budget, open_wait_s=0.01) as fetcher:
        first = await fetcher.fetch(event(uri))
        second = asyncio.create_task(fetcher.fetch(event(uri)))
        await left.wait()
        first.drop()
        assert len((await second).body) == MB
    assert len(host.requests) == 3
