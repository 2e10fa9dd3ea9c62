"""Triton's own faults are never a photo's: other models, broken models, slow models."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consumer.contract import label_checksum
from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton
from consumer.errors import ContractMismatch
from consumer.operations.replay import replay
from consumer.service.run import Service
from consumer.telemetry import configure_logging
from tests.fake_models import write_repository
from tests.harness import BLUE, RED, PhotoServer, World, eventually, headers_of, make_world

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def start(servers: Servers, repository: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], Triton]]:
    """Starts a Triton of the test's own, over what the test wrote."""
    started: list[Triton] = []

    def start() -> Triton:
        started.append(servers.start_triton(repository, name=f"own-{abs(hash(request.node.nodeid)):x}"))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def world_on(kafka: Kafka, redis_db: str, photos: PhotoServer) -> Callable[..., World]:
    """A world without a score cache, so that each photo needs Triton."""

    def make(triton: Triton, **settings: object) -> World:
        photos.answers.update(red=RED, blue=BLUE)
        world = make_world(kafka.bootstrap_servers, redis_db, triton.grpc_url, photos)
        dedupe = world.settings.dedupe.model_copy(update={"enabled": False})
        settings = {"triton": world.settings.triton.model_copy(update=settings)}
        world.settings = world.settings.model_copy(update={"dedupe": dedupe, **settings})
        return world

    return make


async def restarted(triton: Triton, repository: Path, **models: Any) -> None:
    """Triton goes away and comes back with other models."""
    await asyncio.to_thread(triton.kill)
    shutil.rmtree(repository)
    write_repository(repository, **models)
    await asyncio.to_thread(triton.start)


def size_of(path: Path) -> int:
    return path.stat().st_size


def brands_of(world: World) -> dict[str, list[str]]:
    """The brands of each photo, as published last."""
    values = [json.loads(message.value()) for message in world.tags()]
    return {value["photo_id"]: [brand["brand"] for brand in value["brands"]] for value in values}


def tagged(service: Service, count: int) -> Callable[[], bool]:
    return lambda: service.outcomes().get("tagged") == count


SWAPPED = ("azure", "crimson", "no_logo")

#: What comes back in place of version 1 of `BRANDS`, and what a red photo then shows.
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "the same labels in another order": ({"brands": SWAPPED}, "azure"),
    "one brand more": ({"brands": ("crimson", "azure", "extra", "no_logo")}, "crimson"),
    "another input size": ({"size": 48}, "crimson"),
    "a newer version": ({"version": 3}, "crimson"),
    "a higher threshold": ({"brand": {"decision.1": '{"threshold": 0.99}'}}, ""),
}


@pytest.mark.parametrize(("other", "busy"), [*((other, False) for other in OTHERS), (next(iter(OTHERS)), True)])
async def test_other_models_are_taken_over_and_never_named_wrongly(
    start: Callable[[], Triton], world_on: Callable[..., World], repository: Path, other: str, busy: bool
) -> None:
    write_repository(repository)
    triton = start()
    world = world_on(triton)
    models, expected = OTHERS[other]
    async with world.service() as service:
        world.upload("before", "red/before")
        await eventually(tagged(service, 1))
        if busy:
            await asyncio.to_thread(triton.kill)
            for number in range(10):
                world.upload(f"during{number}", f"red/{number}")
            await eventually(lambda: "triton" in service.not_ready())
        await restarted(triton, repository, **models)
        world.upload("after", "red/after")
        await eventually(tagged(service, 12 if busy else 2))
        await eventually(lambda: not service.not_ready())
        assert service.live()
    found = brands_of(world)
    assert found.pop("before") == ["crimson"]
    assert list(found.values()) == [[expected] if expected else []] * (11 if busy else 1)
    assert world.dead() == world.waiting() == []
    assert len(world.events_logged("contract.changed")) == 1


async def test_a_version_that_is_still_loaded_stays_in_force_beside_a_newer_one(
    start: Callable[[], Triton], world_on: Callable[..., World], repository: Path
) -> None:
    write_repository(repository)
    triton = start()
    world = world_on(triton)
    async with world.service() as service:
        world.upload("before", "red/before")
        await eventually(tagged(service, 1))
        await asyncio.to_thread(triton.kill)
        shutil.rmtree(repository)
        both = {f"decision.{number}": '{"threshold": 0.6, "good_threshold": 0.5}' for number in (1, 2)}
        for version in (1, 2):
            write_repository(repository, version=version, quality=both, brand=both)
        add_to_configs(repository, "version_policy { latest { num_versions: 2 } }")
        await asyncio.to_thread(triton.start)
        world.upload("after", "red/after")
        await eventually(tagged(service, 2))
    assert [json.loads(message.value())["models"]["brand_logo"] for message in world.tags()] == ["1", "1"]


async def test_a_replay_ends_where_other_models_are_served_than_it_began_with(
    start: Callable[[], Triton], world_on: Callable[..., World], repository: Path
) -> None:
    write_repository(repository)
    triton = start()
    world = world_on(triton)
    world.photos.delay_s = 0.2
    began = datetime.now(UTC)
    for number in range(200):
        world.upload(f"photo{number}", f"red/{number}")
    log = configure_logging("debug", "json", world.log)
    until = datetime.now(UTC) + timedelta(seconds=1)
    job = asyncio.create_task(replay(world.settings, log, since=began, until=until, progress=lambda _, __: None))
    await eventually(lambda: world.events_logged("service.started"))
    await restarted(triton, repository, brands=SWAPPED)
    with pytest.raises(ContractMismatch, match="label_checksum"):
        await job
    assert all(brands == ["crimson"] for brands in brands_of(world).values())
    assert world.dead() == world.waiting() == []


async def test_models_that_do_not_fit_are_waited_for_in_words(
    start: Callable[[], Triton], world_on: Callable[..., World], repository: Path
) -> None:
    write_repository(repository)
    triton = start()
    world = world_on(triton)
    async with world.service() as service:
        world.upload("before", "red/before")
        await eventually(tagged(service, 1))
        await restarted(triton, repository, version=2, brand={"label_checksum": label_checksum(SWAPPED)})
        world.upload("during", "red/during")
        said = "label_checksum"
        await eventually(lambda: any(said in line["detail"] for line in world.events_logged("dependency.lost")))
        assert "triton" in service.not_ready()
        assert tagged(service, 1)()
        await restarted(triton, repository, version=2)
        await eventually(tagged(service, 2))
    assert world.dead() == world.waiting() == []


DIES = "its process dies"
BROKEN = {
    "the model fails": "raise RuntimeError('CUDA error: out of memory')",
    "its answers are no numbers": "globals()['answer'] = broken(float('nan'))",
    "its answers are out of range": "globals()['answer'] = broken(17.0)",
    "every request is refused": (
        "refusal = pb_utils.TritonError('no', pb_utils.TritonError.INVALID_ARG); "
        "return [pb_utils.InferenceResponse(error=refusal) for r in requests]"
    ),
    "its answers have another length": "globals()['answer'] = broken(0.25, 7)",
    DIES: "import os; os._exit(1)",
}
_TOOL = """
healthy = answer
def broken(value, count=None):
    def answer(images):
        good = healthy(images)
        size = count or good[0].as_numpy().shape[1]
        return [pb_utils.Tensor(good[0].name(), np.full((len(images), size), value, np.float32)), *good[1:]]
    return answer
"""


def write_breakable(repository: Path, flag: Path, fault: str) -> None:
    """Models that are broken in this way while the flag exists."""
    breaks = f"if os.path.exists({str(flag)!r}):\n            {BROKEN[fault]}"
    write_repository(repository, first=f"import os\n        globals()['answer'] = healthy\n        {breaks}")
    for path in repository.glob("*/1/model.py"):
        path.write_text(path.read_text() + _TOOL)


def add_to_configs(repository: Path, line: str) -> None:
    for config in repository.glob("*/configs/cpu.pbtxt"):
        config.write_text(f"{config.read_text()}\n{line}\n")


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_model_that_fails_on_everything_is_waited_for(
    start: Callable[[], Triton], world_on: Callable[..., World], repository: Path, tmp_path: Path, fault: str
) -> None:
    flag = tmp_path / "broken"
    write_breakable(repository, flag, fault)
    triton = start()
    world = world_on(triton)
    async with world.service() as service:
        world.upload("before", "red/before")
        await eventually(tagged(service, 1))
        flag.touch()
        for number in range(20):
            world.upload(f"during{number}", f"red/{number}")
        await eventually(lambda: "triton" in service.not_ready())
        # The attempts and the rounds of a photo that is blamed would be spent by now.
        await asyncio.sleep(3)
        assert "triton" in service.not_ready()
        assert world.dead() == world.waiting() == []
        flag.unlink()
        if fault == DIES:  # Triton does not replace a process that died several times
            await asyncio.to_thread(triton.kill)
            await asyncio.to_thread(triton.start)
        await eventually(tagged(service, 21))
        await eventually(lambda: not service.not_ready())
    assert set(service.outcomes()) == {"tagged"}


@pytest.mark.parametrize("known", [True, False], ids=["after a good one", "as the first"])
async def test_a_photo_on_which_a_model_that_works_fails_is_its_own_dead_letter(
    start: Callable[[], Triton], world_on: Callable[..., World], repository: Path, known: bool
) -> None:
    blue = "pb_utils.get_input_tensor_by_name(r, 'images').as_numpy()[..., 2].min() > 200"
    write_repository(repository, first=f"if any({blue} for r in requests): raise RuntimeError('bad photo')")
    world = world_on(start())
    async with world.service() as service:
        if known:
            world.upload("before", "red/before")
            await eventually(tagged(service, 1))
        world.upload("bad", "blue/bad")
        await eventually(lambda: service.outcomes().get("dead_lettered") == 1)
        world.upload("after", "red/after")
        await eventually(tagged(service, 2 if known else 1))
    assert headers_of(world.dead()[0])["reason"] == "inference_failed"


@pytest.mark.parametrize("batching", ["", "dynamic_batching { max_queue_delay_microseconds: 1000 }"])
async def test_a_slow_triton_computes_each_photo_once(
    start: Callable[[], Triton], world_on: Callable[..., World], repository: Path, tmp_path: Path, batching: str
) -> None:
    """Two instances of 0.1 s give 20 photos a second: the 64 in flight need 3.2 s, and the deadline is 0.4 s."""
    photos = 120
    count = f"open({str(tmp_path)!r} + '/' + answer.__name__, 'a').write('x' * len(requests))"
    slow = f"import time; time.sleep(0.1 * len(requests)); {count}"
    write_repository(repository, first=slow)
    add_to_configs(repository, batching)
    world = world_on(start(), deadline_s=0.4)
    async with world.service() as service:
        for number in range(photos):
            world.upload(f"photo{number}", f"red/{number}")
        await eventually(tagged(service, photos), deadline_s=15)
    for model in ("quality", "brand"):
        assert size_of(tmp_path / model) <= 1.05 * photos
    assert world.dead() == world.waiting() == []
