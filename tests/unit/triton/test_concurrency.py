import asyncio
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import DependencyDown, Retryable
from consumer.triton.concurrency import Concurrency, Limit
from consumer.triton.failures import Overloaded


def settled(rate: float, *, window: int, slow_s: float, latency_s: float = 0.01) -> tuple[Limit, float]:
    """The limit and the time of an answer once a server of so many answers a second was kept busy for a while."""
    limit, now_s, took_s = Limit(slow_s), 0.0, latency_s
    for _ in range(400):
        sent = min(int(limit.allowed), window)
        took_s = max(latency_s, sent / rate)
        for place in range(1, sent + 1):
            answered_s = now_s + max(latency_s, place / rate)
            limit.answered(now_s, answered_s, in_use=sent >= int(limit.allowed))
        now_s += took_s
    return limit, took_s


@pytest.mark.parametrize("rate", [1_000, 10_000])
def test_a_server_that_keeps_up_gets_all_that_there_is(rate: float) -> None:
    limit, _ = settled(rate, window=64, slow_s=2.5)
    assert limit.allowed >= 64


def test_the_whole_window_is_reached_within_three_round_trips() -> None:
    limit = Limit(2.5)
    for trip in range(3):
        for _ in range(int(limit.allowed)):
            limit.answered(trip, trip + 0.01, in_use=True)
    assert limit.allowed >= 64


@pytest.mark.parametrize("rate", [2, 5, 20])
def test_a_slow_server_answers_within_the_bound(rate: float) -> None:
    limit, took_s = settled(rate, window=64, slow_s=2.5, latency_s=0.2)
    assert 2 <= limit.allowed < 64
    assert took_s <= 1.5 * 2.5


def test_a_large_model_on_many_instances_is_not_a_crowded_one() -> None:
    limit, _ = settled(1_000, window=64, slow_s=2.5, latency_s=4.0)
    assert limit.allowed >= 64


@dataclass
class Shared:
    """A server of so many answers a second, whose queue has photos of others ahead of those of one job."""

    limit: Limit
    rate: float
    latency_s: float = 0.004
    now_s: float = 0.0

    def keep_busy(self, trips: int, *, others: int) -> float:
        """Sends all that is allowed so many times; how many photos of the job there were at once, on average."""
        allowed = 0
        for _ in range(trips):
            sent = int(self.limit.allowed)
            allowed += sent
            for place in range(others + 1, others + sent + 1):
                answered_s = self.now_s + max(self.latency_s, place / self.rate)
                self.limit.answered(self.now_s, answered_s, in_use=True)
            self.now_s += max(self.latency_s, (others + sent) / self.rate)
        return allowed / trips


def test_a_job_that_yields_goes_down_to_one_photo_while_others_wait_and_comes_back() -> None:
    server = Shared(Limit(2.5, yields=True), rate=1_000)
    alone = server.keep_busy(200, others=0)
    assert alone > 2 * server.rate * server.latency_s, "the server is kept busy"
    server.keep_busy(10, others=100)
    assert server.keep_busy(50, others=100) == 1
    server.keep_busy(30, others=0)
    assert server.keep_busy(50, others=0) > 0.8 * alone


def test_a_job_that_yields_keeps_the_queue_short_for_whoever_comes_next() -> None:
    server = Shared(Limit(2.5, yields=True), rate=1_000)
    server.keep_busy(100, others=0)
    longest_s = max(server.keep_busy(1, others=0) / server.rate for _ in range(100))
    assert longest_s <= 4 * server.latency_s
    assert server.limit.allowed < 20, "others send 64"


@pytest.mark.parametrize("rate", [5, 50, 5_000])
def test_a_job_that_yields_measures_by_the_model(rate: float) -> None:
    server = Shared(Limit(60.0, yields=True), rate=rate, latency_s=4 / rate)
    assert 8 <= server.keep_busy(200, others=0) <= 16


def test_one_lucky_answer_does_not_make_all_others_slow_for_ever() -> None:
    server = Shared(Limit(2.5, yields=True), rate=1_000)
    server.limit.answered(0.0, 0.000_01, in_use=True)
    server.keep_busy(5_000, others=0)
    assert server.keep_busy(50, others=0) > 4


def test_requests_that_were_sent_together_lower_it_once() -> None:
    limit = Limit(1.0)
    limit.answered(0.0, 0.1, in_use=False)
    for number in range(16):
        limit.answered(0.0, 5.0 + number / 100, in_use=True)
    assert limit.allowed == pytest.approx(16 * 0.7)


def test_a_server_that_comes_back_is_not_met_by_everything_at_once() -> None:
    limit, _ = settled(10_000, window=64, slow_s=2.5)
    limit.lost()
    assert limit.allowed == 16
    limit.answered(0.0, 0.01, in_use=True)
    assert limit.allowed == 17


@given(st.lists(st.tuples(st.sampled_from(["answer", "crowded", "lost"]), st.floats(0, 100)), max_size=200))
def test_in_any_history_at_least_two_requests_are_allowed(history: list[tuple[str, float]]) -> None:
    limit = Limit(2.5)
    for now_s, (what, took_s) in zip(count(), history, strict=False):
        if what == "answer":
            limit.answered(now_s - took_s, now_s, in_use=True)
        elif what == "crowded":
            limit.crowded(now_s - took_s, now_s)
        else:
            limit.lost()
        assert 2 <= limit.allowed <= 4096


@pytest.mark.parametrize(
    "failure", [Overloaded("triton", "full"), DependencyDown("triton", "away"), Retryable("inference_failed", "no")]
)
async def test_a_place_is_free_again_however_its_request_ends(failure: Exception) -> None:
    places = Concurrency(2.5)
    for _ in range(50):
        with pytest.raises(type(failure)):
            async with asyncio.timeout(1), places.place():
                raise failure
    assert places.sent == 0
    assert places.silent_s() == 0


async def test_a_photo_on_which_a_model_failed_after_long_takes_no_places_from_the_others() -> None:
    places = Concurrency(0.001)
    for _ in range(10):
        with suppress(Retryable):
            async with places.place():
                await asyncio.sleep(0.01)
                raise Retryable("inference_failed", "no")
    assert places._limit.allowed == 16


async def test_a_cancelled_request_leaves_its_place() -> None:
    places = Concurrency(2.5)

    async def hold() -> None:
        async with places.place():
            await asyncio.Event().wait()

    holders = [asyncio.create_task(hold()) for _ in range(40)]
    await asyncio.sleep(0)
    assert places.sent == 16
    for holder in holders:
        holder.cancel()
    await asyncio.gather(*holders, return_exceptions=True)
    async with asyncio.timeout(1), places.place():
        assert places.sent == 1


@pytest.mark.parametrize(("slow_s", "fewest", "most"), [(2.5, 64, 64), (0.0005, 2, 12)], ids=["fast", "slow"])
async def test_the_number_of_places_follows_the_answers(slow_s: float, fewest: int, most: int) -> None:
    places, peak = Concurrency(slow_s), 0

    async def ask(number: int) -> None:
        nonlocal peak
        for turn in range(10):
            async with places.place():
                # The first answer is the fastest, and the later ones wait as if in a queue.
                await asyncio.sleep(0 if number == turn == 0 else 0.003)
                peak = max(peak, places.sent) if turn == 9 else peak

    await asyncio.gather(*(ask(number) for number in range(64)))
    assert fewest <= peak <= most
