"""Every photo gets its own answer, whatever it shares a request with."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import DependencyDown, PhotoRejected, Retryable, TaggerError
from consumer.events import Pixels
from consumer.triton import batches
from consumer.triton.batches import Batches, Rows
from tests.harness import eventually

DEADLINE_S = 30.0


def photo(number: int) -> Pixels:
    return np.full((1, 1, 3), number, np.uint8)


@dataclass
class Server:
    """Answers each photo with its number, once it may; `refuses` are the numbers whose requests fail, and how."""

    most: int = 8
    expected: int = 0
    refuses: dict[int, TaggerError] = field(default_factory=dict)
    requests: list[list[int]] = field(default_factory=list)
    cancelled: list[list[int]] = field(default_factory=list)
    turn: Callable[[int], Awaitable[object]] = lambda _: asyncio.sleep(0)

    def batches(self, beside: list[Batches] | None = None) -> Batches:
        return Batches(self.send, lambda: self.most, lambda: self.expected, beside)

    async def send(self, photos: Sequence[Pixels]) -> Rows:
        numbers = [int(pixels[0, 0, 0]) for pixels in photos]
        self.requests.append(numbers)
        try:
            await self.turn(len(self.requests))
        except asyncio.CancelledError:
            self.cancelled.append(numbers)
            raise
        for number in numbers:
            if number in self.refuses:
                raise self.refuses[number]
        return np.array([[number] for number in numbers], np.float32)


async def gathered(batches: Batches, numbers: Sequence[int]) -> list[object]:
    """The number that each photo was answered, or its failure."""
    async with asyncio.timeout(DEADLINE_S):
        answers = await asyncio.gather(*(batches.ask(photo(number)) for number in numbers), return_exceptions=True)
    return [answer if isinstance(answer, BaseException) else int(answer[0]) for answer in answers]


@pytest.fixture
async def unhandled() -> list[object]:
    """What the event loop is told of exceptions that nobody looked at."""
    return told_of_this_loop()


def told_of_this_loop() -> list[object]:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


@pytest.mark.parametrize(("photos", "sizes"), [(1, [1]), (7, [7]), (8, [8]), (20, [8, 8, 4])])
async def test_photos_that_are_ready_together_share_requests_in_their_order(photos: int, sizes: list[int]) -> None:
    server = Server()
    assert await gathered(server.batches(), range(photos)) == list(range(photos))
    assert list(map(len, server.requests)) == sizes
    assert [number for request in server.requests for number in request] == list(range(photos))


async def test_a_server_that_takes_one_photo_gets_one() -> None:
    server = Server(most=1, expected=5)
    assert await gathered(server.batches(), range(5)) == list(range(5))
    assert server.requests == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(("expected", "size"), [(0, 1), (1, 2), (5, 6), (7, 8), (1000, 8)])
async def test_photos_wait_until_there_are_more_than_are_expected(
    expected: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_FOR_EACH_S", DEADLINE_S)
    monkeypatch.setattr(batches, "_LONGEST_S", DEADLINE_S)
    server = Server(expected=expected)
    shared, tasks = server.batches(), []
    for number in range(size):
        assert server.requests == []
        tasks.append(asyncio.create_task(gathered(shared, [number])))
        await turns(10)
    assert server.requests == [list(range(size))]
    assert await asyncio.gather(*tasks) == [[number] for number in range(size)]


async def test_photos_do_not_wait_any_longer_once_few_are_expected() -> None:
    server = Server(expected=1000)
    shared = server.batches()
    first = asyncio.create_task(gathered(shared, [1]))
    await turns(10)
    server.expected = 1
    assert await gathered(shared, [2]) == [2]
    assert await first == [1]
    assert server.requests == [[1, 2]]


class Gate:
    """Holds every request until it is let through."""

    def __init__(self) -> None:
        self.held: list[asyncio.Future[None]] = []

    async def turn(self, _: int) -> None:
        self.held.append(asyncio.get_running_loop().create_future())
        await self.held[-1]


async def busy(shared: Batches, server: Server) -> list[asyncio.Task[list[object]]]:
    """Three lone photos, each in a request that is not answered."""
    asked = []
    for number in range(3):
        asked.append(asyncio.create_task(gathered(shared, [number])))
        await turns(10)
    assert server.requests == [[0], [1], [2]]
    return asked


async def test_photos_share_the_next_request_while_triton_has_enough_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LONGEST_S", DEADLINE_S)
    gate = Gate()
    server = Server(turn=gate.turn)
    shared = server.batches()
    asked = await busy(shared, server)
    for number in range(3, 8):
        asked.append(asyncio.create_task(gathered(shared, [number])))
        await turns(10)
    assert len(server.requests) == 3
    gate.held[1].set_result(None)
    await turns(10)
    assert server.requests[3:] == [[3, 4, 5, 6, 7]]
    for held in gate.held:
        held.done() or held.set_result(None)
    assert await asyncio.gather(*asked) == [[number] for number in range(8)]


async def test_a_full_request_waits_for_no_answer() -> None:
    gate = Gate()
    server = Server(turn=gate.turn)
    shared = server.batches()
    asked = await busy(shared, server)
    asked.append(asyncio.create_task(gathered(shared, range(10, 18))))
    await turns(10)
    assert server.requests[3:] == [list(range(10, 18))]
    for task in asked:
        task.cancel()


async def test_photos_wait_for_the_answers_of_another_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LONGEST_S", DEADLINE_S)
    gate, models = Gate(), list[Batches]()
    slow, quick = Server(turn=gate.turn), Server()
    others, shared = slow.batches(models), quick.batches(models)
    asked = await busy(others, slow)
    asked.append(asyncio.create_task(gathered(shared, [10, 11])))
    await turns(10)
    assert quick.requests == []
    gate.held[0].set_result(None)
    assert await asked[3] == [10, 11]
    assert quick.requests == [[10, 11]]
    for task in asked:
        task.cancel()


async def test_photos_do_not_wait_for_ever_for_answers_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LONGEST_S", 0.01)
    gate = Gate()
    server = Server(turn=gate.turn)
    shared = server.batches()
    asked = await busy(shared, server)
    asked.append(asyncio.create_task(gathered(shared, [3])))
    await eventually(lambda: server.requests[3:] == [[3]], deadline_s=DEADLINE_S)
    for task in asked:
        task.cancel()


@pytest.mark.parametrize(("expected", "bound_s"), [(1, 0.03), (5, 0.15), (1000, 0.5)])
async def test_no_photo_waits_longer_than_its_bound_for_those_that_do_not_come(
    expected: int, bound_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda delay, *rest: (waits.append(delay), call_later(delay, *rest))[1])
    server = Server(expected=expected)
    assert await gathered(server.batches(), [1]) == [1]
    assert waits == [pytest.approx(bound_s)]


@pytest.mark.parametrize(
    "failure", [PhotoRejected("inference_rejected", "no"), Retryable("inference_failed", "no")], ids=str
)
async def test_a_fault_of_one_photo_stays_its_own(failure: TaggerError) -> None:
    server = Server(refuses={3: failure})
    assert await gathered(server.batches(), range(8)) == [0, 1, 2, failure, 4, 5, 6, 7]
    assert server.requests == [[0, 1, 2, 3, 4, 5, 6, 7], *([number] for number in range(8))]


async def test_a_failure_of_a_photo_that_was_asked_for_alone_is_not_asked_for_again() -> None:
    server = Server(refuses={3: Retryable("inference_failed", "no")})
    await gathered(server.batches(), [3])
    assert server.requests == [[3]]


async def test_an_outage_is_told_to_every_photo_and_costs_no_more_requests() -> None:
    down = DependencyDown("triton", "away")
    server = Server(refuses={3: down})
    assert await gathered(server.batches(), range(8)) == [down] * 8
    assert len(server.requests) == 1


async def test_a_photo_that_is_given_up_takes_none_with_it_and_leaves_nothing(unhandled: list[object]) -> None:
    go = asyncio.Event()
    server = Server(turn=lambda _: go.wait(), refuses={1: Retryable("inference_failed", "no")})
    shared = server.batches()
    tasks = [asyncio.create_task(shared.ask(photo(number))) for number in range(3)]
    await eventually(lambda: len(server.requests) == 1)
    tasks[1].cancel()
    await asyncio.wait({tasks[1]})
    assert not server.cancelled
    go.set()
    assert [int((await task)[0]) for task in (tasks[0], tasks[2])] == [0, 2]
    assert unhandled == []


async def test_a_request_that_nobody_waits_for_is_given_up(unhandled: list[object]) -> None:
    server = Server(turn=lambda _: asyncio.Event().wait())
    shared = server.batches()
    tasks = [asyncio.create_task(shared.ask(photo(number))) for number in range(3)]
    await eventually(lambda: len(server.requests) == 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: server.cancelled == [[0, 1, 2]])
    assert unhandled == []


async def test_a_photo_that_is_given_up_before_its_request_is_not_sent() -> None:
    server = Server(expected=4)
    shared = server.batches()
    task = asyncio.create_task(shared.ask(photo(1)))
    await asyncio.sleep(0)
    task.cancel()
    server.expected = 0
    assert await gathered(shared, [2]) == [2]
    assert server.requests == [[2]]


@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["waits", "leaves", "bad"])), min_size=1, max_size=30
    ),
    most=st.integers(1, 8),
    expected=st.integers(0, 12),
    order=st.randoms(use_true_random=False),
)
def test_whatever_arrives_fails_or_leaves_each_photo_gets_its_own_answer(
    arrivals: list[tuple[int, str]], most: int, expected: int, order: Random
) -> None:
    failure = Retryable("inference_failed", "no")

    async def scene() -> None:
        server = Server(most=most, expected=expected, turn=lambda _: turns(order.randint(0, 5)))
        server.refuses = {number: failure for number, (_, fate) in enumerate(arrivals) if fate == "bad"}
        shared = server.batches()
        told, tasks = told_of_this_loop(), []
        for number, (after, _) in enumerate(arrivals):
            await turns(after)
            tasks.append(asyncio.create_task(shared.ask(photo(number))))
        for task, (after, fate) in zip(tasks, arrivals, strict=True):
            if fate == "leaves":
                await turns(after)
                task.cancel()
        server.expected = 0
        async with asyncio.timeout(DEADLINE_S):
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (answer, (_, fate)) in enumerate(zip(answers, arrivals, strict=True)):
            left = fate == "leaves" and isinstance(answer, asyncio.CancelledError)
            refused = fate == "bad" and answer is failure
            assert left or refused or (fate != "bad" and not isinstance(answer, BaseException) and answer[0] == number)
        assert max(map(len, server.requests), default=0) <= most
        assert not shared._open
        assert told == []

    asyncio.run(scene())


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
