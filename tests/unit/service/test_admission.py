import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from consumer.events import Record, Source
from consumer.kafka.headers import deferral_of, retry_headers
from consumer.resilience import Deferral
from consumer.service.admission import Admission
from consumer.service.breaker import BreakerLimits
from consumer.telemetry import Metrics, Outcome
from tests.fakes import RecordingLog, record
from tests.harness import eventually

LIMITS = BreakerLimits(0.5, cool_down_s=0.02, least=4, probes=2)


class FakeGate:
    """A reader that is told when to deliver."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ours = True

    def hold(self) -> None:
        self.told.append("hold")

    def release(self) -> None:
        self.told.append("release")

    def holds(self, _: Record) -> bool:
        return self.ours


class Bench:
    """A door whose photos end as `outcome` says, unless `waits` holds them up."""

    def __init__(self, limits: BreakerLimits = LIMITS, together: int = 2) -> None:
        self.outcome: Outcome = "tagged"
        self.handled: list[Record] = []
        self.waits: asyncio.Event | None = None
        self.log, self.metrics, self.gate = RecordingLog(), Metrics(), FakeGate()
        self.door = Admission(self.handle, limits, together=together, log=self.log, metrics=self.metrics)
        self.door.gates.append(self.gate)

    async def handle(self, one: Record) -> Outcome:
        self.handled.append(one)
        if self.waits is not None:
            await self.waits.wait()
        return self.outcome

    async def open(self) -> None:
        self.outcome = "dead_lettered"
        for _ in range(LIMITS.least):
            await self.door.handle(record())
        self.handled.clear()


def due(after_s: float) -> Record:
    not_before = datetime.now(UTC) + timedelta(seconds=after_s)
    deferral = Deferral("http_5xx", "busy", 2, 1, not_before, Source("photo-uploads", 0, 0))
    return record(headers=retry_headers(record(), deferral))


async def test_a_record_that_waits_is_worked_on_at_its_time_and_not_before() -> None:
    bench, one = Bench(), due(0.05)
    deferral = deferral_of(one)
    await bench.door.handle_when_due(one, bench.gate)
    assert deferral is not None
    assert datetime.now(UTC) >= deferral.not_before
    assert bench.handled == [one]


@pytest.mark.parametrize("one", [due(-1.0), record()])
async def test_a_record_whose_time_has_come_or_that_has_none_is_worked_on_at_once(one: Record) -> None:
    bench = Bench()
    await bench.door.handle_when_due(one, bench.gate)
    assert bench.handled == [one]


async def test_a_record_of_a_partition_that_was_lost_meanwhile_is_left_to_its_new_owner() -> None:
    bench = Bench()
    bench.gate.ours = False
    await bench.door.handle_when_due(due(-1.0), bench.gate)
    assert bench.handled == []


async def test_retries_in_work_at_once_are_bounded() -> None:
    bench = Bench(together=2)
    bench.waits = asyncio.Event()
    tasks = [asyncio.create_task(bench.door.handle_when_due(due(-1.0), bench.gate)) for _ in range(5)]
    await eventually(lambda: len(bench.handled) >= 2)
    assert len(bench.handled) == 2
    bench.waits.set()
    await asyncio.gather(*tasks)
    assert len(bench.handled) == 5


async def test_the_stop_lets_go_of_all_that_wait_at_once() -> None:
    bench = Bench(BreakerLimits(0.5, cool_down_s=3600.0, least=4))
    await bench.open()
    waiting = [
        asyncio.create_task(bench.door.handle(record())),
        asyncio.create_task(bench.door.handle_when_due(due(3600.0), bench.gate)),
    ]
    await asyncio.sleep(0)
    bench.door.close()
    await asyncio.gather(*waiting, bench.door.handle(record()), bench.door.handle_when_due(due(3600.0), bench.gate))
    assert bench.handled == []


async def test_it_opens_loudly_once_holds_its_gates_and_says_why() -> None:
    bench = Bench()
    assert bench.door.complaint is None
    await bench.open()
    assert bench.gate.told == ["hold"]
    assert bench.door.complaint == "breaker: 4 of 4 photos became dead letters"
    assert [level for level, event, _ in bench.log.lines if event == "breaker.opened"] == ["error"]
    assert bench.metrics.registry.get_sample_value("tagger_breaker_open") == 1


async def test_after_the_cool_down_it_probes_by_itself_and_a_good_photo_closes_it() -> None:
    bench = Bench()
    await bench.open()
    bench.outcome = "tagged"
    await asyncio.gather(*(bench.door.handle(record()) for _ in range(6)))
    assert len(bench.handled) == 6
    assert bench.gate.told == ["hold", "release"]
    assert bench.door.complaint is None
    assert len(bench.log.named("breaker.closed")) == 1
    assert bench.metrics.registry.get_sample_value("tagger_breaker_open") == 0


async def test_bad_probes_let_only_a_few_through_each_time() -> None:
    bench = Bench()
    await bench.open()
    tasks = [asyncio.create_task(bench.door.handle(record())) for _ in range(5)]
    await eventually(lambda: len(bench.log.named("breaker.probed")) >= 2)
    bench.door.close()
    await asyncio.gather(*tasks)
    releases = bench.gate.told.count("release")
    assert 2 * LIMITS.probes <= len(bench.handled) <= releases * LIMITS.probes
    assert len(bench.log.named("breaker.opened")) == 1


async def test_a_probe_that_is_cancelled_gives_its_place_to_another() -> None:
    bench = Bench()
    await bench.open()
    bench.waits = asyncio.Event()
    probes = [asyncio.create_task(bench.door.handle(record())) for _ in range(LIMITS.probes)]
    await eventually(lambda: len(bench.handled) >= LIMITS.probes)
    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    bench.waits, bench.outcome = None, "tagged"
    await bench.door.handle(record())
    assert bench.door.complaint is None
