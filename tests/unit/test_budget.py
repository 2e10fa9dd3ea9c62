import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumer.budget import Budget, Permit

TOTAL = 10


class Holders(RuleBasedStateMachine):
    """A budget beside the plainest model of it: a list of who holds what and a queue of who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.budget = Budget(TOTAL)
        self.held: list[Permit] = []
        self.queue: list[tuple[int, asyncio.Task[Permit]]] = []

    def settle(self) -> None:
        """Let every task run as far as it can, then move what the model says is granted."""
        self.loop.run_until_complete(self.turns())
        while self.queue and sum(permit.amount for permit in self.held) + self.queue[0][0] <= TOTAL:
            amount, task = self.queue.pop(0)
            assert task.done(), "a request that fits at the head of the queue still waits"
            assert task.result().amount == amount
            self.held.append(task.result())

    async def turns(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    def started(self, work: Coroutine[Any, Any, Permit]) -> asyncio.Task[Permit]:
        return self.loop.create_task(work)

    @rule(amount=st.integers(0, TOTAL + 5))
    def request(self, amount: int) -> None:
        self.queue.append((min(amount, TOTAL), self.started(self.budget.acquire(amount))))
        self.settle()

    @rule(amount=st.integers(0, TOTAL + 5))
    def request_at_once(self, amount: int) -> None:
        free = TOTAL - sum(permit.amount for permit in self.held)
        permit = self.budget.try_acquire(amount)
        assert (permit is not None) == (not self.queue and min(amount, TOTAL) <= free)
        if permit is not None:
            self.held.append(permit)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        permit = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        permit.release()
        permit.release()
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), amount=st.integers(0, TOTAL))
    def shrink(self, data: st.DataObject, amount: int) -> None:
        permit = data.draw(st.sampled_from(self.held))
        before = permit.amount
        permit.shrink(amount)
        assert permit.amount == min(before, amount)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), amount=st.integers(0, TOTAL + 5))
    def grow(self, data: st.DataObject, amount: int) -> None:
        permit = data.draw(st.sampled_from(self.held))
        before, free = permit.amount, TOTAL - sum(other.amount for other in self.held)
        fits = amount <= before or (not self.queue and amount - before <= free)
        assert permit.try_grow(amount) == fits
        assert permit.amount == (max(before, amount) if fits else before)

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
        for permit in self.held:
            permit.release()
        self.held.clear()
        _, task = self.queue.pop(0)
        task.cancel()
        self.settle()
        assert task.cancelled()

    @invariant()
    def permits_add_up_and_fit(self) -> None:
        assert self.budget.used == sum(permit.amount for permit in self.held) <= TOTAL

    @invariant()
    def nobody_waits_who_could_be_served(self) -> None:
        assert len(self.budget._queue) == len(self.queue)
        assert not any(task.done() for _, task in self.queue), "a request overtook one before it"

    def teardown(self) -> None:
        for _, task in self.queue:
            task.cancel()
        self.loop.run_until_complete(self.turns())
        self.loop.close()


TestAnyOrderOfRequests = Holders.TestCase
TestAnyOrderOfRequests.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


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
