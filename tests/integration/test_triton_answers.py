"""The service before a Triton that answers as a test decides: never a wrong tag, and blame only where it belongs.

Photos are of one colour, so each test knows what it must be told: red is crimson, blue is azure.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.embedded.kafka import Kafka
from consumer.operations.replay import replay
from consumer.releases import ModelVersion
from consumer.service import in_force
from consumer.service.run import Service
from consumer.telemetry import configure_logging
from tests.fake_triton import FakeTriton, Pixels, Row, honest, serving
from tests.harness import BLUE, RED, PhotoServer, World, eventually, make_world

SWAPPED = ("azure", "crimson", "no_logo")
Spoil = Callable[[str, Pixels, Row], Awaitable[Row]]


class Bench:
    """A world on a fake Triton; `spoil` may change, hold or refuse an answer."""

    def __init__(self, world: World, fake: FakeTriton) -> None:
        self.world, self.fake = world, fake
        self.spoil: Spoil | None = None
        fake.row = self._row

    async def _row(self, model: str, pixels: Pixels) -> Row:
        row = honest(self.fake, model, pixels)
        return row if self.spoil is None else await self.spoil(model, pixels, row)

    def upload(self, prefix: str, count: int, *colours: str) -> None:
        """Photos of these colours in turn; the id of each says its colour."""
        for number in range(count):
            colour = (colours or ("red",))[number % len(colours or "1")]
            self.world.upload(f"{prefix}{number}-{colour}", f"{colour}/{prefix}{number}")

    def check_names(self) -> None:
        """Every published photo has the brand of its colour, and no other."""
        for value in self.published():
            expected = "crimson" if value["photo_id"].endswith("red") else "azure"
            assert [brand["brand"] for brand in value["brands"]] == [expected], value["photo_id"]

    def published(self) -> list[dict[str, Any]]:
        return [json.loads(message.value()) for message in self.world.tags()]

    async def promote(self) -> int:
        """Puts what is served now into force."""
        return await self.world.promote(self.settings())

    def settings(self, *, dedupe: bool = False, deadline_s: float = 5.0) -> Any:
        settings = self.world.settings
        triton = settings.triton.model_copy(update={"deadline_s": deadline_s, "url": self.fake.url})
        known = settings.dedupe.model_copy(update={"enabled": dedupe})
        return settings.model_copy(update={"triton": triton, "dedupe": known})


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other models are looked for more often."""
    monkeypatch.setattr(in_force, "_LOOK_S", 0.1)


@pytest.fixture
async def bench(kafka: Kafka, redis_db: str, photos: PhotoServer) -> AsyncIterator[Bench]:
    async with serving(FakeTriton(size=32)) as fake:
        photos.answers.update(red=RED, blue=BLUE)
        yield Bench(make_world(kafka.bootstrap_servers, redis_db, fake.url, photos), fake)


def tagged(service: Service, count: int) -> Callable[[], bool]:
    """Whether so many have tags; what was being written when other models came may be found unchanged."""
    return lambda: service.outcomes().get("tagged", 0) + service.outcomes().get("unchanged", 0) == count


def waits_for(service: Service, words: str) -> Callable[[], bool]:
    """Whether /ready says that Triton is waited for, and these words."""
    return lambda: any(reason.startswith("triton: ") and words in reason for reason in service.not_ready())


async def swap_in_place(fake: FakeTriton, labels: tuple[str, ...]) -> None:
    fake.labels = labels


async def swap_by_restart(fake: FakeTriton, labels: tuple[str, ...]) -> None:
    port = int(fake.url.rpartition(":")[2])
    await fake.stop()
    fake.labels = labels
    await fake.start(port)


async def test_photos_of_a_backlog_share_requests(bench: Bench) -> None:
    async with bench.world.service(bench.settings()) as service:
        bench.upload("photo", 120, "red", "blue")
        await eventually(tagged(service, 120))
    bench.check_names()
    assert len(bench.fake.requests) <= 100  # of 240 without sharing


@pytest.mark.parametrize("swap", [swap_in_place, swap_by_restart])
@pytest.mark.parametrize("dedupe", [True, False])
async def test_labels_that_change_places_twice_in_a_burst_are_never_named_wrongly(
    bench: Bench, swap: Callable[..., Awaitable[None]], dedupe: bool
) -> None:
    first = bench.fake.labels

    async def spoil(_: str, __: Pixels, row: Row) -> Row:
        await asyncio.sleep(0.05)
        return row

    bench.spoil = spoil
    async with bench.world.service(bench.settings(dedupe=dedupe)) as service:
        bench.upload("a", 30, "red", "blue")
        for number, labels in enumerate((SWAPPED, first)):
            await eventually(lambda number=number: service.outcomes().get("tagged", 0) > 5 + 30 * number)
            await swap(bench.fake, labels)
            await bench.promote()
            # The same bytes again: what an older contract said of them must not be believed.
            for photo in range(5):
                bench.world.upload(f"{number}-copy{photo}-red", "red/a0")
            bench.upload(f"b{number}", 25, "red", "blue")
        await eventually(tagged(service, 90), deadline_s=60)
        await eventually(lambda: service.not_ready() == [])
    bench.check_names()
    assert bench.world.dead() == bench.world.waiting() == []
    assert [line["release"] for line in bench.world.events_logged("release.enforced")] == [1, 2, 3]
    versions = {value["version"].split(".")[1] for value in bench.published()}
    assert versions == {"000001", "000002", "000003"}


async def test_a_version_stays_in_force_until_another_is_promoted(bench: Bench) -> None:
    async with bench.world.service(bench.settings()) as service:
        for number, (versions, promoted) in enumerate(
            ((("1",), False), (("1", "2"), False), (("1", "2"), True), (("2", "3"), False), (("1", "3"), True))
        ):
            bench.fake.versions = versions
            if promoted:
                await bench.promote()
                await eventually(lambda: not service.not_ready())
                await eventually(lambda number=number: len(bench.world.events_logged("release.enforced")) > number // 2)
            bench.upload(f"v{number}", 5, "red", "blue")
            await eventually(tagged(service, 5 * (number + 1)))
        await eventually(lambda: service.not_ready() == [])
    bench.check_names()
    judged = {value["photo_id"][:2]: value["models"]["brand_logo"] for value in bench.published()}
    assert judged == {"v0": "1", "v1": "1", "v2": "2", "v3": "2", "v4": "3"}
    assert bench.world.dead() == bench.world.waiting() == []


@pytest.mark.parametrize("other", [{"labels": ("azure", "more", "crimson", "no_logo")}, {"size": 48}], ids=str)
async def test_other_models_are_waited_for_in_words_until_they_are_promoted(
    bench: Bench, other: dict[str, Any]
) -> None:
    async with bench.world.service(bench.settings()) as service:
        bench.upload("before", 1)
        await eventually(tagged(service, 1))
        for name, value in other.items():
            setattr(bench.fake, name, value)
        bench.upload("after", 10)
        await eventually(waits_for(service, "other models are served now"))
        assert tagged(service, 1)()
        await bench.promote()
        await eventually(tagged(service, 11))
        await eventually(lambda: service.not_ready() == [])
    bench.check_names()
    assert bench.world.dead() == bench.world.waiting() == []


async def test_thresholds_are_those_of_the_release(bench: Bench) -> None:
    async with bench.world.service(bench.settings()) as service:
        bench.fake.threshold = 0.99
        bench.upload("served", 1)
        await eventually(tagged(service, 1))
        number = await bench.promote()
        await eventually(lambda: len(bench.world.events_logged("release.enforced")) == number)
        bench.upload("promoted", 1)
        await eventually(tagged(service, 2))
    found = {value["photo_id"]: [brand["brand"] for brand in value["brands"]] for value in bench.published()}
    assert found == {"served0-red": ["crimson"], "promoted0-red": []}


async def test_a_release_that_triton_does_not_serve_stops_nothing(bench: Bench) -> None:
    async with bench.world.service(bench.settings()) as service:
        bench.upload("before", 1)
        await eventually(tagged(service, 1))
        missing = ModelVersion("brand_logo", "9")
        assert await bench.world.promote(bench.settings(), brand=missing) == 2
        await eventually(lambda: any("release 2 is not served yet" in reason for reason in service.not_ready()))
        bench.upload("during", 5, "red", "blue")
        await eventually(tagged(service, 6))
        bench.fake.versions = ("1", "9")
        await eventually(lambda: service.not_ready() == [])
        bench.upload("after-", 5, "red", "blue")
        await eventually(tagged(service, 11))
    bench.check_names()
    judged = {value["photo_id"][:5]: value["models"]["brand_logo"] for value in bench.published()}
    assert judged == {"befor": "1", "durin": "1", "after": "9"}


async def test_models_that_do_not_fit_are_waited_for_in_words(bench: Bench) -> None:
    labels = bench.fake.labels
    async with bench.world.service(bench.settings()) as service:
        bench.upload("before", 1)
        await eventually(tagged(service, 1))
        bench.fake.labels = ("crimson", "crimson", "no_logo")
        bench.upload("during", 10, "red", "blue")
        await eventually(waits_for(service, "labels must be distinct"))
        assert tagged(service, 1)()
        bench.fake.labels = labels
        await eventually(tagged(service, 11))
    bench.check_names()
    assert bench.world.dead() == bench.world.waiting() == []


async def test_a_replay_goes_on_under_the_release_that_comes_into_force(bench: Bench) -> None:
    bench.world.photos.delay_s = 0.05
    began = datetime.now(UTC)
    bench.upload("photo", 60, "red", "blue")
    log = configure_logging("debug", "json", bench.world.log)
    until = datetime.now(UTC) + timedelta(seconds=1)
    job = asyncio.create_task(replay(bench.settings(), log, since=began, until=until, progress=lambda _, __: None))
    await eventually(lambda: bench.world.events_logged("service.started"))
    await swap_by_restart(bench.fake, SWAPPED)
    await bench.promote()
    assert (await job).complete
    bench.check_names()
    assert bench.world.dead() == bench.world.waiting() == []


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"SSH-2.0-OpenSSH_9\r\n"])
async def test_another_program_on_the_port_is_waited_for(bench: Bench, reply: bytes) -> None:
    port = int(bench.fake.url.rpartition(":")[2])
    async with bench.world.service(bench.settings(deadline_s=1.0)) as service:
        bench.upload("before", 1)
        await eventually(tagged(service, 1))
        await bench.fake.stop()
        async with talking(reply, port):
            bench.upload("during", 10, "red", "blue")
            await eventually(waits_for(service, f"127.0.0.1:{port}"))
        await bench.fake.start(port)
        await eventually(tagged(service, 11))
    bench.check_names()
    assert bench.world.dead() == bench.world.waiting() == []


@asynccontextmanager
async def talking(reply: bytes, port: int) -> AsyncIterator[None]:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", port):
        yield


@pytest.mark.parametrize("status", ["UNIMPLEMENTED", "PERMISSION_DENIED", "INTERNAL"])
async def test_a_triton_that_does_not_describe_its_models_is_waited_for_in_words(bench: Bench, status: str) -> None:
    async with bench.world.service(bench.settings()) as service:
        bench.upload("before", 1)
        await eventually(tagged(service, 1))
        bench.fake.refuses_looks = status
        bench.upload("during", 10, "red", "blue")
        await eventually(waits_for(service, status))
        assert tagged(service, 1)()
        bench.fake.refuses_looks = None
        await eventually(tagged(service, 11))
        await eventually(lambda: service.not_ready() == [])
    bench.check_names()
    assert bench.world.dead() == bench.world.waiting() == []
