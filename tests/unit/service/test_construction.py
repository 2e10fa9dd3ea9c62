import asyncio
from dataclasses import replace
from threading import Event
from time import monotonic
from typing import Any, cast

import numpy as np
import pytest

from consumer import releases
from consumer.contract import Geometry, ModelContract
from consumer.events import Pixels
from consumer.fetch.hosts import Hosts
from consumer.fetch.limits import FetchLimits, HostLimits
from consumer.kafka.backpressure import Flag
from consumer.kafka.plans import FixedRanges
from consumer.pipeline import Pipeline
from consumer.releases import Numbered
from consumer.resilience import Dependencies, StuckRecords
from consumer.service import construction
from consumer.service.construction import Connections, Parts
from consumer.service.streams import Job, Runtime
from consumer.settings import Settings
from consumer.telemetry import Metrics
from consumer.triton.inference import alone
from tests.fake_triton import FakeTriton, Row, contract_of, honest, serving
from tests.fakes import CONTRACT, MOMENT, RecordingLog, World

HOSTS = {
    "failure_threshold": 7,
    "startup_failure_threshold": 8,
    "healthy_s": 9.5,
    "max_wait_s": 10.5,
    "max_outage_s": 11.5,
    "probe_interval_s": 12.5,
    "overdue_s": 13.5,
    "max_share": 0.125,
    "max_total_share": 0.625,
}


def hosts_of(settings: Settings, places: int = 64) -> Hosts:
    """The photo hosts of a pipeline of these settings."""
    nothing = cast("Any", None)
    runtime = Runtime(nothing, RecordingLog(), Metrics(), dependencies=nothing, stuck=nothing, failed=nothing)
    return construction._pipeline_of(settings, World().steps(), runtime, places).hosts


def test_photo_hosts_are_judged_by_the_limits_of_the_settings() -> None:
    assert hosts_of(Settings())._limits == HostLimits()
    assert hosts_of(Settings.model_validate({"hosts": HOSTS}))._limits == HostLimits(**HOSTS)


def test_photo_hosts_share_the_places_that_there_are() -> None:
    assert hosts_of(Settings(), places=40)._health.crowd._places == 40


def test_photos_are_fetched_within_the_limits_of_the_settings() -> None:
    assert construction.fetch_limits(Settings()) == FetchLimits()
    changed = {"schemes": ("file",), "stores": {"s3://abc": {}}, "max_bytes": 5, "total_timeout_s": 6.5}
    assert construction.fetch_limits(Settings.model_validate({"fetch": changed})) == FetchLimits(**changed)


def parts_of(settings: Settings, *, yields: Flag | None = None) -> tuple[Connections, Parts]:
    """The parts of a job that reads nothing."""
    metrics, log = Metrics(), RecordingLog()
    runtime = Runtime(
        asyncio.get_running_loop(), log, metrics, Dependencies(log, metrics), StuckRecords(metrics), lambda _: None
    )
    connections = construction.connections_of(settings, runtime)
    job = Job(FixedRanges({}, range(0)), "group", 64, yields=yields)
    return connections, construction.parts_of(settings, job, connections, runtime)


async def test_without_traces_the_path_has_nothing_around_it() -> None:
    connections, parts = parts_of(Settings())
    pipeline = parts.admission._handle.__self__  # type: ignore[attr-defined]  # a method
    assert type(pipeline) is Pipeline
    assert pipeline.steps.fetch == parts.fetcher.fetch
    assert pipeline.steps.judgement == parts.in_force.judgement
    assert (pipeline.steps.store, pipeline.steps.publish) == (connections.store, connections.publisher)
    assert connections.triton._around is alone
    assert parts.fetcher._web._watchers == ()


def release_of(contract: ModelContract) -> Numbered:
    return Numbered(1, releases.release_of(contract, reason="", by="", at=MOMENT))


@pytest.mark.parametrize(
    ("geometry", "expected"), [(Geometry(32, 32), 81), (Geometry(1024, 1024), 81), (Geometry(1000, 1024), 41)]
)
async def test_the_pixels_of_all_photos_in_flight_fit_into_the_bytes_in_flight(
    geometry: Geometry, expected: int
) -> None:
    """Under all releases together: a promotion may bring larger pixels."""
    _, parts = parts_of(Settings.model_validate({"service": {"max_in_flight_bytes": 256 * 10**6}}))
    small = parts.in_force._make(release_of(CONTRACT), CONTRACT).judgement
    contract = replace(CONTRACT, quality_geometry=Geometry(1024, 1024), brand_geometry=geometry)
    large = parts.in_force._make(release_of(contract), contract).judgement
    held, permit = 0, await small.room()
    while True:
        try:
            async with asyncio.timeout(0):
                await large.room()
        except TimeoutError:
            break
        held += 1
    assert held == expected
    permit.release()


@pytest.mark.parametrize(("yields", "expected"), [(Event(), 1), (None, 12)])
async def test_only_a_job_that_yields_leaves_a_triton_that_others_keep_busy(yields: Flag | None, expected: int) -> None:
    slow_s, asked, most = 0.0, 0, 0

    async def row(model: str, pixels: Pixels) -> Row:
        nonlocal asked, most
        if model != "brand_logo":
            return honest(fake, model, pixels)
        asked += 1
        most = max(most, asked)
        await asyncio.sleep(slow_s)
        asked -= 1
        return honest(fake, model, pixels)

    async with serving(FakeTriton(row=row)) as fake:
        settings = Settings.model_validate({"triton": {"url": fake.url, "deadline_s": 30}})
        connections, parts = parts_of(settings, yields=yields)
        async with connections.triton:
            contract = await contract_of(connections.triton)
            models = parts.in_force._make(release_of(contract), contract).serving

            async def judge(count: int) -> None:
                photos = [{Geometry(8, 8): np.full((8, 8, 3), 7, np.uint8)} for _ in range(count)]
                await asyncio.gather(*map(models.infer, photos))

            began_s = monotonic()
            await judge(1)
            slow_s = 10 * (monotonic() - began_s)
            for _ in range(8):
                await judge(2)
            most = 0
            await judge(12)
    assert most == expected
