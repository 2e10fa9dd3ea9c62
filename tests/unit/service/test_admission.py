import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from consumer.events import Record, Source
from consumer.kafka.headers import Delivery, retried_delivery_of, retry_headers
from consumer.resilience import Deferral
from consumer.service.admission import Admission
from consumer.service.breaker import BreakerLimits
from consumer.telemetry import Metrics, Outcome
from tests.fakes import RecordingLog, record
from tests.harness import eventually

LIMITS = BreakerLimits(0.5, cool_down_s=0.02, least=4, probes=2)


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

    def __init__(self, limits: BreakerLimits = LIMITS, max_retries: int = 2) -> None:
        self.outcome: Outcome = "tagged"
        self.handled: list[Record] = []
        self.waits: asyncio.Event | None = None
        self.log, self.metrics, self.suspended, self.ours = RecordingLog(), Metrics(), FakeEvent(), True
        self.admission = Admission(
            self.handle,
            limits,
            suspended=self.suspended,
            max_retries=max_retries,
            log=self.log,
            metrics=self.metrics,
        )

    def done(self, _: Record) -> None:
        raise AssertionError("the pipeline reports that, not the admission")

    def holds(self, _: Record) -> bool:
        return self.ours

    def delivery(self, one: Record) -> Delivery:
        return retried_delivery_of(one, self)

    async def handle(self, one: Delivery) -> Outcome:
        self.handled.append(one.record)
        if self.waits is not None:
            await self.waits.wait()
        return self.outcome

    async def open(self) -> None:
        self.outcome = "dead_lettered"
        for _ in range(LIMITS.least):
            await self.admission.handle(self.delivery(record()))
        self.handled.clear()


def due(after_s: float) -> Record:
    not_before = datetime.now(UTC) + timedelta(seconds=after_s)
    deferral = Deferral("http_5xx", "busy", 2, 1, not_before, Source("photo-uploads", 0, 0))
    return record(headers=retry_headers((), deferral))


async def test_a_record_that_waits_is_worked_on_at_its_time_and_not_before() -> None:
    bench, one = Bench(), due(0.05)
    deferral = bench.delivery(one).deferral
    await bench.admission.handle_when_due(bench.delivery(one))
    assert deferral is not None
    assert datetime.now(UTC) >= deferral.not_before
    assert bench.handled == [one]


@pytest.mark.parametrize("one", [due(-1.0), record()])
async def test_a_record_whose_time_has_come_or_that_has_none_is_worked_on_at_once(one: Record) -> None:
    bench = Bench()
    await bench.admission.handle_when_due(bench.delivery(one))
    assert bench.handled == [one]


async def test_a_record_of_a_partition_that_was_lost_meanwhile_is_left_to_its_new_owner() -> None:
    bench = Bench()
    bench.ours = False
    await bench.admission.handle_when_due(bench.delivery(due(-1.0)))
    assert bench.handled == []


async def test_retries_in_work_at_once_are_bounded() -> None:
    bench = Bench(max_retries=2)
    bench.waits = asyncio.Event()
    tasks = [asyncio.create_task(bench.admission.handle_when_due(bench.delivery(due(-1.0)))) for _ in range(5)]
    await eventually(lambda: len(bench.handled) >= 2)
    assert len(bench.handled) == 2
    bench.waits.set()
    await asyncio.gather(*tasks)
    assert len(bench.handled) == 5


async def test_the_stop_lets_go_of_all_that_wait_at_once() -> None:
    bench = Bench(BreakerLimits(0.5, cool_down_s=3600.0, least=4))
    await bench.open()
    waiting = [
        asyncio.create_task(bench.admission.handle(bench.delivery(record()))),
        asyncio.create_task(bench.admission.handle_when_due(bench.delivery(due(3600.0)))),
    ]
    await asyncio.sleep(0)
    bench.admission.close()
    await asyncio.gather(
        *waiting,
        bench.admission.handle(bench.delivery(record())),
        bench.admission.handle_when_due(bench.delivery(due(3600.0))),
    )
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
    assert 2 * LIMITS.probes <= len(bench.handled) <= releases * LIMITS.probes
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
