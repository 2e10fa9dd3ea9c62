import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consumer.imaging.decode_threads import DecodeThreads, Overdue
from tests.harness import eventually


def nothing() -> None:
    """For work whose end does not matter."""


def decoding() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("decode_")}


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hang(release: threading.Event, begun: threading.Event | None = None) -> Callable[[], str]:
    def work() -> str:
        if begun is not None:
            begun.set()
        assert release.wait(60)
        return "late"

    return work


async def test_work_is_begun_in_order_and_gives_its_result_or_raises_its_failure() -> None:
    threads, begun = DecodeThreads[int](1, 30.0), list[int]()

    def work(number: int) -> int:
        begun.append(number)
        return 10 // number

    found = await asyncio.gather(
        *(threads.start(lambda number=number: work(number), nothing) for number in (5, 0, 2)), return_exceptions=True
    )
    threads.close()
    assert begun == [5, 0, 2]
    assert (found[0], type(found[1]), found[2]) == (2, ZeroDivisionError, 5)


async def test_outcomes_that_come_while_the_loop_is_busy_wake_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, woken, last = asyncio.get_running_loop(), list[Any](), threading.Event()
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: (woken.append(call), wake(*call)))
    threads = DecodeThreads[None](1, 30.0)
    jobs = [threads.start(nothing, nothing) for _ in range(19)] + [threads.start(last.set, nothing)]
    assert last.wait(30)  # in the loop, which is busy so
    await asyncio.gather(*jobs)
    threads.close()
    assert 1 <= len(woken) <= 2, "the last one may end after the loop looked"


async def test_work_that_takes_long_does_not_hold_up_the_outcomes_before_it(release: threading.Event) -> None:
    threads = DecodeThreads[str](1, 60.0)
    quick = [threads.start(lambda: "done", nothing) for _ in range(2)]
    # With more behind it, so that the thread does not wake the loop for want of work.
    late = [threads.start(hang(release), nothing) for _ in range(2)]
    assert await asyncio.wait_for(asyncio.gather(*quick), 30) == ["done"] * 2
    assert not any(job.done() for job in late)
    release.set()
    assert await asyncio.wait_for(asyncio.gather(*late), 30) == ["late"] * 2
    threads.close()


async def test_overdue_work_has_another_thread_in_its_place_until_it_ends(release: threading.Event) -> None:
    threads, before, ended = DecodeThreads[str](1, 0.05), decoding(), list[str]()
    with pytest.raises(Overdue):
        await threads.start(hang(release), lambda: ended.append("hung"))
    assert await asyncio.wait_for(threads.start(lambda: "done", lambda: ended.append("quick")), 30) == "done"
    assert (threads.overdue, ended) == (1, ["quick"]), "what runs still holds its memory"
    assert len(decoding() - before) == 2
    release.set()
    await eventually(lambda: threads.overdue == 0)
    assert ended == ["quick", "hung"]
    await eventually(lambda: len(decoding() - before) == 1)
    threads.close()


async def test_the_time_limit_counts_from_the_beginning_not_from_the_start(release: threading.Event) -> None:
    threads = DecodeThreads[str](1, 1.0)
    first = threads.start(hang(release), nothing)
    second = threads.start(lambda: "done", nothing)
    with pytest.raises(Overdue):
        await first
    assert await asyncio.wait_for(second, 30) == "done"
    threads.close()


async def test_what_is_given_up_before_it_begins_is_not_begun_and_what_runs_ends_later(
    release: threading.Event,
) -> None:
    threads, ended, begun = DecodeThreads[Any](1, 60.0), list[str](), threading.Event()
    running = threads.start(hang(release, begun), lambda: ended.append("running"))
    waiting = threads.start(lambda: ended.append("begun"), lambda: ended.append("waiting"))
    assert await asyncio.to_thread(begun.wait, 30)
    running.cancel()
    waiting.cancel()
    await asyncio.sleep(0.05)
    assert ended == []
    release.set()
    await eventually(lambda: ended == ["running", "waiting"])
    threads.close()


async def test_closed_threads_end_and_begin_nothing_more(release: threading.Event) -> None:
    before, begun, late = decoding(), threading.Event(), list[str]()
    threads = DecodeThreads[Any](2, 60.0)
    running = [threads.start(hang(release, begun), nothing) for _ in range(2)]
    waiting = threads.start(lambda: late.append("begun"), nothing)
    assert await asyncio.to_thread(begun.wait, 30)
    threads.close()
    assert waiting.cancelled()
    release.set()
    await eventually(lambda: decoding() <= before)
    assert all(job.cancelled() for job in running)
    assert not late


async def test_a_host_without_threads_fails_the_first_work_and_gives_the_next_one_a_thread_as_soon_as_it_can(
    monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = DecodeThreads[str](1, 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.start(lambda: "done", nothing)
    hung = threads.start(hang(release), nothing)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Overdue):
            await hung
    assert await asyncio.wait_for(threads.start(lambda: "done", nothing), 30) == "done"
    threads.close()
