import asyncio
import threading
from typing import get_args

import pytest

from consumer.errors import Reason
from consumer.events import Record
from consumer.kafka.headers import Delivery, Unread, delivery_of
from consumer.service.admission import Admission
from consumer.service.breaker import BreakerLimits
from consumer.telemetry import Metrics, Outcome
from tests.fakes import RecordingLog, record
from tests.harness import eventually

LIMITS = BreakerLimits(0.5, cool_down_s=0.02, least=4, probes=2)
LIMITS_OF_A_LONG_ROUND = BreakerLimits(0.5, cool_down_s=0.02, least=4, probes=2, window_s=3600.0)


class FakeEvent(threading.Event):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def set(self) -> None:
        super().set()
        self.told.append("suspend")

    def clear(self) -> None:
        super().clear()
        self.told.append("resume")


class Bench:
    """An admission whose photos end as `outcome` says, unless `waits` holds them up."""

    def __init__(self, limits: BreakerLimits = LIMITS) -> None:
        self.outcome: Outcome = "tagged"
        self.reason: Reason | None = None
        self.handled: list[Record] = []
        self.waits: asyncio.Event | None = None
        self.log, self.metrics, self.suspended, self.ours = RecordingLog(), Metrics(), FakeEvent(), True
        self.admission = Admission(
            self.handle,
            limits,
            suspended=self.suspended,
            log=self.log,
            metrics=self.metrics,
        )

    def done(self, _: Record) -> None:
        raise AssertionError("the pipeline reports that, not the admission")

    def holds(self, _: Record) -> bool:
        return self.ours

    @property
    def unread(self) -> dict[tuple[str, int], Unread]:
        raise AssertionError("that concerns the waiting retries alone")

    def delivery(self, one: Record) -> Delivery:
        return delivery_of(one, self)

    async def handle(self, one: Delivery) -> Outcome:
        self.handled.append(one.record)
        if self.waits is not None:
            await self.waits.wait()
        one.wait.rejected = self.reason
        return self.outcome

    async def open(self) -> None:
        self.outcome = "dead_lettered"
        for _ in range(LIMITS.least):
            await self.admission.handle(self.delivery(record()))
        self.handled.clear()


async def test_the_stop_lets_go_of_all_that_wait_at_once() -> None:
    bench = Bench(BreakerLimits(0.5, cool_down_s=3600.0, least=4))
    await bench.open()
    one = bench.delivery(record())
    waiting = asyncio.create_task(bench.admission.handle(one))
    await asyncio.sleep(0)
    assert one.wait.what == "the breaker"
    bench.admission.close()
    await asyncio.gather(waiting, bench.admission.handle(bench.delivery(record())))
    assert bench.handled == []


async def test_it_opens_loudly_once_suspends_delivery_and_says_why() -> None:
    bench = Bench()
    assert bench.admission.complaint is None
    await bench.open()
    assert bench.suspended.told == ["suspend"]
    assert bench.admission.complaint == "breaker: 4 of 4 photos became dead letters"
    assert [level for level, event, _ in bench.log.lines if event == "breaker.opened"] == ["error"]
    assert bench.metrics.registry.get_sample_value("tagger_breaker_open") == 1


async def test_after_the_cool_down_it_probes_by_itself_and_a_good_photo_closes_it() -> None:
    bench = Bench()
    await bench.open()
    bench.outcome = "tagged"
    await asyncio.gather(*(bench.admission.handle(bench.delivery(record())) for _ in range(6)))
    assert len(bench.handled) == 6
    assert bench.suspended.told == ["suspend", "resume"]
    assert bench.admission.complaint is None
    assert len(bench.log.named("breaker.closed")) == 1
    assert bench.metrics.registry.get_sample_value("tagger_breaker_open") == 0


async def test_bad_probes_let_only_a_few_through_each_time() -> None:
    bench = Bench()
    await bench.open()
    tasks = [asyncio.create_task(bench.admission.handle(bench.delivery(record()))) for _ in range(5)]
    await eventually(lambda: len(bench.log.named("breaker.probed")) >= 2)
    bench.admission.close()
    await asyncio.gather(*tasks)
    releases = bench.suspended.told.count("resume")
    assert LIMITS.probes < len(bench.handled) <= releases * LIMITS.least
    assert len(bench.log.named("breaker.opened")) == 1


async def test_a_probe_that_is_cancelled_gives_its_place_to_another() -> None:
    bench = Bench()
    await bench.open()
    bench.waits = asyncio.Event()
    probes = [asyncio.create_task(bench.admission.handle(bench.delivery(record()))) for _ in range(LIMITS.probes)]
    await eventually(lambda: len(bench.handled) >= LIMITS.probes)
    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    bench.waits, bench.outcome = None, "tagged"
    await bench.admission.handle(bench.delivery(record()))
    assert bench.admission.complaint is None


async def test_skipped_records_neither_open_the_breaker_nor_hide_the_dead_letters_among_them() -> None:
    bench = Bench()
    bench.outcome = "skipped"
    for _ in range(100):
        await bench.admission.handle(bench.delivery(record()))
    assert bench.admission.complaint is None
    await bench.open()
    assert bench.admission.complaint == "breaker: 4 of 4 photos became dead letters"


@pytest.mark.parametrize("reason", ["invalid_event", "url_not_allowed", "too_many_pixels"])
async def test_dead_letters_that_are_the_senders_fault_never_stop_the_intake(reason: Reason) -> None:
    bench = Bench()
    bench.reason = reason
    await bench.open()
    assert bench.admission.complaint is None
    assert bench.suspended.told == []


@pytest.mark.parametrize("outcome", [name for name in get_args(Outcome) if name not in {"tagged", "unchanged"}])
async def test_records_that_ask_no_model_do_not_close_it(outcome: Outcome) -> None:
    bench = Bench(LIMITS_OF_A_LONG_ROUND)
    await bench.open()
    bench.outcome, bench.reason = outcome, "invalid_event"
    await asyncio.gather(*(bench.admission.handle(bench.delivery(record())) for _ in range(20)))
    assert len(bench.handled) == 20
    assert bench.admission.complaint is not None


@pytest.mark.parametrize("bad", [0, 1])
async def test_too_few_records_to_probe_lead_to_a_decision_without_any_more(bad: int) -> None:
    bench = Bench(BreakerLimits(0.5, cool_down_s=0.02, least=4, window_s=0.1, probes=3))
    await bench.open()
    for _ in range(bad):
        await bench.admission.handle(bench.delivery(record()))
    await eventually(lambda: bench.log.named("breaker.probed" if bad else "breaker.closed"))
    assert (bench.admission.complaint is None) == (bad == 0)
