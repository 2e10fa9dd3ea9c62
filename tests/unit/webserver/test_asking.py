"""Questions of pages: asked once at a time, kept for a moment, not waited for beyond a deadline."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from consumer.errors import DependencyDown
from consumer.webserver.asking import Asker, NotYet, in_words


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    made = Asker(places=2)
    yield made
    await made.aclose()


def counting() -> tuple[Callable[[], int], list[int]]:
    calls: list[int] = []

    def job() -> int:
        calls.append(1)
        return len(calls)

    return job, calls


async def test_a_hundred_readers_ask_once(asker: Asker) -> None:
    job, calls = counting()
    assert await asyncio.gather(*(asker.ask("q", job) for _ in range(100))) == [1] * 100
    assert await asker.ask("q", job) == 1
    assert len(calls) == 1


async def test_an_answer_is_kept_no_longer_than_it_may_be(asker: Asker) -> None:
    job, _ = counting()
    assert [await asker.ask("q", job, keep_s=0.0) for _ in range(3)] == [1, 2, 3]
    assert await asker.ask("other", job, keep_s=60.0) == 4
    asker.forget("other")
    assert await asker.ask("other", job, keep_s=60.0) == 5


async def test_what_takes_long_is_not_waited_for_and_joined_later(asker: Asker) -> None:
    go, job_calls = threading.Event(), []

    def slow() -> str:
        job_calls.append(1)
        go.wait(30)
        return "done"

    with pytest.raises(NotYet):
        await asker.ask("slow", slow, deadline_s=0.01)
    go.set()
    assert await asker.ask("slow", slow) == "done"
    assert len(job_calls) == 1


async def test_no_more_threads_are_busy_than_there_are_places(asker: Asker) -> None:
    go, begun, busy, most = threading.Event(), threading.Semaphore(0), set[int](), list[int]()

    def hang(number: int) -> None:
        busy.add(number)
        most.append(len(busy))
        begun.release()
        go.wait(30)
        busy.discard(number)

    asked = [asyncio.create_task(asker.ask(number, lambda number=number: hang(number))) for number in range(6)]
    for _ in range(2):
        assert await asyncio.to_thread(begun.acquire, timeout=30)
    with pytest.raises(NotYet):
        await asker.ask("late", lambda: None, deadline_s=0.05)
    go.set()
    await asyncio.gather(*asked)
    assert max(most) <= 2


async def test_questions_do_not_pile_up(asker: Asker) -> None:
    go = threading.Event()
    asked = [asyncio.create_task(asker.ask(number, lambda: go.wait(30))) for number in range(64)]
    await asyncio.sleep(0)
    with pytest.raises(NotYet, match="too many"):
        await asker.ask("one more", lambda: None)
    go.set()
    await asyncio.gather(*asked)


async def test_a_failure_reaches_who_asked_and_is_not_kept(asker: Asker) -> None:
    def fail() -> None:
        raise DependencyDown("redis", "refused")

    for _ in range(2):
        with pytest.raises(DependencyDown) as failed:
            await asker.ask("q", fail)
    assert in_words(failed.value) == "Redis does not answer: refused"
    assert await asker.ask("q", lambda: "well") == "well"
