"""A photo host that is gone is an outage like any other: its photos wait, those of other hosts do not."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web

from consumer import events
from consumer.events import PhotoUploaded
from consumer.service.run import Service
from consumer.settings import Settings
from tests.faults.experiment import Experiment
from tests.harness import BRIGHT, RED, PhotoServer, World, eventually
from tests.ledger import Ledger


class Host:
    """A photo host that can be stopped and started on the same port, or made to hang."""

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.awake.set()
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{name}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        await self.awake.wait()
        # Photos of different bytes, so that each needs Triton.
        return web.Response(body=RED + request.path.encode())


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.start()
    yield host
    host.awake.set()
    await host.stop()


def settings_for(world: World, host: Host) -> Settings:
    fetch = world.settings.fetch
    places = (*fetch.allow_addresses, f"127.0.0.1:{host.port}")
    return world.settings.model_copy(
        update={"fetch": fetch.model_copy(update={"allow_addresses": places, "read_timeout_s": 1.0})}
    )


def upload(ledger: Ledger, host: Host, prefix: str, count: int) -> None:
    for number in range(count):
        photo_id = f"{prefix}{number}"
        event = PhotoUploaded(photo_id, f"http://127.0.0.1:{host.port}/{photo_id}", datetime.now(UTC))
        ledger.world.send(photo_id, events.encode(event), events.UPLOADED)
        ledger.produced[photo_id] += 1


def tagged(service: Service) -> int:
    return service.outcomes().get("tagged", 0)


@pytest.mark.experiment(13, "the photo host is gone, or hangs")
@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_photos_wait_for_their_host_and_none_of_them_becomes_a_dead_letter(
    world: World, host: Host, how: str, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    async with world.service(settings_for(world, host)) as service:
        upload(ledger, host, "before", 5)
        await eventually(lambda: tagged(service) == 5)
        if how == "refuses":
            await host.stop()
        else:
            host.awake.clear()
        upload(ledger, host, "during", 150)
        await eventually(lambda: "photos" in service.dependencies.lost)
        await eventually(lambda: service.metrics.paused._value.get() == 1)
        assert service.live()
        if how == "refuses":
            await host.start()
        else:
            host.awake.set()
        since_s, before = time.monotonic(), tagged(service)
        await eventually(lambda: tagged(service) > before, deadline_s=60)
        experiment.recovered(time.monotonic() - since_s)
        await eventually(lambda: tagged(service) == 155, deadline_s=60)
        assert service.not_ready() == []
        await ledger.settle()
    experiment.close(ledger)


@pytest.mark.experiment(13, "one photo host of two is gone")
async def test_photos_of_other_hosts_go_on_and_the_photos_of_the_lost_one_come_back(
    world: World, host: Host, photos: PhotoServer, experiment: Experiment
) -> None:
    ledger = Ledger(world)
    photos.answers["elsewhere"] = BRIGHT
    async with world.service(settings_for(world, host)) as service:
        upload(ledger, host, "before", 3)
        ledger.upload("elsewhere", "elsewhere")
        await eventually(lambda: tagged(service) == 4)
        await host.stop()
        for number in range(50):
            upload(ledger, host, f"lost{number}-", 1)
            ledger.upload(f"elsewhere{number}", "elsewhere")
        await eventually(lambda: tagged(service) == 54)
        await eventually(lambda: service.outcomes().keys() == {"tagged", "deferred"})
        await host.start()
        await eventually(lambda: tagged(service) == 104, deadline_s=60)
        await ledger.settle()
    experiment.close(ledger)


async def test_one_address_where_nobody_ever_answered_is_a_dead_letter_and_not_an_outage(
    world: World, host: Host
) -> None:
    ledger = Ledger(world)
    closed = Host()
    await closed.start()
    await closed.stop()
    settings = settings_for(world, host)
    places = (*settings.fetch.allow_addresses, f"127.0.0.1:{closed.port}")
    settings = settings.model_copy(
        update={"fetch": settings.fetch.model_copy(update={"allow_addresses": places, "attempts": 1})}
    )
    async with world.service(settings) as service:
        upload(ledger, host, "good", 10)
        upload(ledger, closed, "typing-error", 10)
        await eventually(lambda: service.outcomes().get("dead_lettered") == 10, deadline_s=60)
        await ledger.settle()
    ledger.close(dead=10)
