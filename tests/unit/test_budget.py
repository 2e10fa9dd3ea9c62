import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumer.budget import Budget, Share

TOTAL = 10


class Holders(RuleBasedStateMachine):
    """A budget beside the plainest model of it: a list of who holds what and a queue of who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.budget = Budget(TOTAL)
        self.held: list[Share] = []
        self.queue: list[tuple[int, asyncio.Task[Share]]] = []

    def settle(self) -> None:
        """Let every task run as far as it can, then move what the model says is granted."""
        self.loop.run_until_complete(self.turns())
        while self.queue and sum(share.amount for share in self.held) + self.queue[0][0] <= TOTAL:
            amount, task = self.queue.pop(0)
            assert task.done(), "a request that fits at the head of the queue still waits"
            assert task.result().amount == amount
            self.held.append(task.result())

    async def turns(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    def started(self, work: Coroutine[Any, Any, Share]) -> asyncio.Task[Share]:
        return self.loop.create_task(work)

    @rule(amount=st.integers(0, TOTAL + 5))
    def request(self, amount: int) -> None:
        self.queue.append((min(amount, TOTAL), self.started(self.budget.acquire(amount))))
        self.settle()

    @rule(amount=st.integers(0, TOTAL + 5))
    def request_at_once(self, amount: int) -> None:
        free = TOTAL - sum(share.amount for share in self.held)
        share = self.budget.try_acquire(amount)
        assert (share is not None) == (not self.queue and min(amount, TOTAL) <= free)
        if share is not None:
            self.held.append(share)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        share = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        share.release()
        share.release()
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), amount=st.integers(0, TOTAL))
    def shrink(self, data: st.DataObject, amount: int) -> None:
        share = data.draw(st.sampled_from(self.held))
        before = share.amount
        share.shrink(amount)
        assert share.amount == min(before, amount)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), amount=st.integers(0, TOTAL + 5))
    def grow(self, data: st.DataObject, amount: int) -> None:
        share = data.draw(st.sampled_from(self.held))
        before, free = share.amount, TOTAL - sum(other.amount for other in self.held)
        fits = amount <= before or (not self.queue and amount - before <= free)
        assert share.try_grow(amount) == fits
        assert share.amount == (max(before, amount) if fits else before)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        _, task = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        task.cancel()
        self.settle()
        assert task.cancelled()

    @precondition(lambda self: self.queue)
    @rule()
    def cancel_all(self) -> None:
        for _, task in self.queue:
            task.cancel()
        cancelled, self.queue = self.queue, []
        self.settle()
        assert all(task.cancelled() for _, task in cancelled)

    @precondition(lambda self: self.held and self.queue)
    @rule()
    def cancel_in_the_turn_of_the_grant(self) -> None:
        for share in self.held:
            share.release()
        self.held.clear()
        _, task = self.queue.pop(0)
        task.cancel()
        self.settle()
        assert task.cancelled()

    @invariant()
    def shares_add_up_and_fit(self) -> None:
        assert self.budget.used == sum(share.amount for share in self.held) <= TOTAL

    @invariant()
    def nobody_waits_who_could_be_served(self) -> None:
        assert self.budget.waiting == len(self.queue)
        assert not any(task.done() for _, task in self.queue), "a request overtook one before it"

    def teardown(self) -> None:
        for _, task in self.queue:
            task.cancel()
        self.loop.run_until_complete(self.turns())
        self.loop.close()


TestAnyOrderOfRequests = Holders.TestCase
TestAnyOrderOfRequests.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


async def test_a_share_is_held_within_the_block_even_if_it_fails() -> None:
    budget = Budget(10)

    async def fail() -> None:
        async with budget.take(7) as share:
            assert (share.amount, budget.used) == (7, 7)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert budget.used == 0


async def test_a_request_beyond_the_total_is_served_alone() -> None:
    budget = Budget(10)
    small = await budget.acquire(1)
    large = asyncio.ensure_future(budget.acquire(1000))
    behind = asyncio.ensure_future(budget.acquire(1))
    await asyncio.sleep(0)
    assert not large.done()
    small.release()
    assert (await large).amount == 10
    assert not behind.done()
    large.result().release()
    (await behind).release()
    assert budget.used == 0
