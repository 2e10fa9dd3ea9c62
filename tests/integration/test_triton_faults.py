"""The real Triton: its faults are never a photo's. What any Triton may answer is in `test_triton_answers.py`."""

import asyncio
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, get_args

import pytest

from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.service.run import Service
from consumer.settings import Settings
from tests.fake_models import SIZE, Contract, write_repository
from tests.harness import BLUE, RED, PhotoServer, World, eventually, headers_of, make_world

pytestmark = pytest.mark.timeout(120)

SWAPPED = ("azure", "crimson", "no_logo")
_IMAGES = "pb_utils.get_input_tensor_by_name(r, 'images').as_numpy()"
_PHOTOS = f"np.concatenate([{_IMAGES}.reshape(-1, {SIZE}, {SIZE}, 3) for r in requests])"
_BLUE = f"({_PHOTOS}[..., 2].min(axis=(1, 2)) > 200).any()"


class Own:
    """A Triton of this file's own, over models that run the code in a file before each answer."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.repository, self._code = folder / "models", folder / "code"
        self.write()
        self.server = servers.start_triton(self.repository, name="own")

    def write(self, *, batching: str = "", **models: Any) -> None:
        """Writes the models anew, which answer rightly."""
        self.run("pass")
        shutil.rmtree(self.repository, ignore_errors=True)
        run = f"scope = {{**globals(), 'requests': requests}}; exec(open({str(self._code)!r}).read(), scope)"
        write_repository(
            self.repository, first=f"{run}\n        if 'answers' in scope: return scope['answers']", **models
        )
        for config in self.repository.glob("*/configs/cpu.pbtxt"):
            config.write_text(f"{config.read_text()}\n{batching}\n")

    def run(self, code: str) -> None:
        """Lets the models run this from now on; what it calls `answers` they answer."""
        new = self._code.with_suffix(".new")
        new.write_text(code)
        new.rename(self._code)

    async def restart(self, **models: Any) -> None:
        """Triton goes away and comes back with other models, or the same ones."""
        await asyncio.to_thread(self.server.kill)
        self.write(**models)
        await asyncio.to_thread(self.server.start)

    async def control(self, verb: str, model: str, **parameters: str) -> None:
        """Loads or unloads a model by Triton's control interface."""
        options = self.server._spec.argv
        port = next(option.partition("=")[2] for option in options if option.startswith("--http-port="))
        url = f"http://127.0.0.1:{port}/v2/repository/models/{model}/{verb}"
        body = json.dumps({"parameters": parameters}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=30).close())


@pytest.fixture(scope="module")
def shared(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    own = Own(servers, tmp_path_factory.mktemp("own"))
    yield own
    own.server.kill()


@pytest.fixture
def own(shared: Own) -> Own:
    shared.run("pass")
    return shared


@pytest.fixture
def world(kafka: Kafka, redis_db: str, photos: PhotoServer, own: Own) -> World:
    """A world without a score cache, so that each photo needs Triton."""
    photos.answers.update(red=RED, blue=BLUE)
    world = make_world(kafka.bootstrap_servers, redis_db, own.server.grpc_url, photos)
    dedupe = world.settings.dedupe.model_copy(update={"enabled": False})
    world.settings = world.settings.model_copy(update={"dedupe": dedupe})
    return world


def with_deadline(world: World, deadline_s: float) -> Settings:
    triton = world.settings.triton.model_copy(update={"deadline_s": deadline_s})
    return world.settings.model_copy(update={"triton": triton})


def tagged(service: Service, count: int) -> Callable[[], bool]:
    """Whether so many have tags; what was being written when other models came may be found unchanged."""
    return lambda: service.outcomes().get("tagged", 0) + service.outcomes().get("unchanged", 0) == count


def waits_for(service: Service, words: str) -> Callable[[], bool]:
    """Whether /ready says that Triton is waited for, and these words."""
    return lambda: any(reason.startswith("triton: ") and words in reason for reason in service.not_ready())


def holds_for(seconds: float, check: Callable[[], bool]) -> Callable[[], bool]:
    """Whether `check` has been true at each look for so long: a probe that is late on a busy machine passes sooner."""
    since = monotonic()

    def held() -> bool:
        nonlocal since
        if not check():
            since = monotonic()
        return monotonic() - since >= seconds

    return held


def brands_of(world: World) -> dict[str, list[str]]:
    """The brands of each photo, as published last."""
    values = [json.loads(message.value()) for message in world.tags()]
    return {value["photo_id"]: [brand["brand"] for brand in value["brands"]] for value in values}


_DIES = "its process dies"
_REFUSES = """
refusal = pb_utils.TritonError('not now', pb_utils.TritonError.INVALID_ARG)
answers = [pb_utils.InferenceResponse(error=refusal) for r in requests]
"""
BROKEN = {
    "a model fails": ("raise RuntimeError('CUDA error: out of memory')", "CUDA error"),
    "every request is refused": (_REFUSES, "not now"),
    "an output is missing": ("answers = [pb_utils.InferenceResponse([]) for r in requests]", ""),
    _DIES: ("import os; os._exit(1)", ""),
}


@asynccontextmanager
async def failing(own: Own, fault: str) -> AsyncIterator[None]:
    """The models fail so meanwhile; then they work again, also for the next test where this one failed."""
    own.run(BROKEN[fault][0])
    try:
        yield
    finally:
        own.run("pass")
        if fault == _DIES:  # Triton waits for the answer of a process that has ended
            await own.restart()


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_model_that_fails_on_everything_is_waited_for(own: Own, world: World, fault: str) -> None:
    words = BROKEN[fault][1]
    async with world.service(with_deadline(world, 1.0)) as service:
        world.upload("before", "red/before")
        await eventually(tagged(service, 1))
        async with failing(own, fault):
            for number in range(20):
                world.upload(f"during{number}", f"red/{number}")
            # The attempts and the rounds of a photo that is blamed are spent by then.
            await eventually(holds_for(2, waits_for(service, words)))
            assert world.dead() == world.waiting() == []
        await eventually(tagged(service, 21))
        await eventually(lambda: not service.not_ready())
    assert set(service.outcomes()) == {"tagged"}


async def test_a_photo_on_which_a_model_fails_is_its_own_dead_letter(own: Own, world: World) -> None:
    async with world.service() as service:
        world.upload("before", "red/before")
        await eventually(tagged(service, 1))
        own.run(f"if {_BLUE}: raise RuntimeError('bad photo')")
        world.upload("bad", "blue/bad")
        for number in range(10):
            world.upload(f"during{number}", f"red/{number}")
        await eventually(lambda: service.outcomes().get("dead_lettered") == 1)
        await eventually(tagged(service, 11))
    (letter,) = world.dead()
    assert letter.key() == b"bad"
    assert headers_of(letter)["reason"] == "inference_failed"


async def test_models_that_are_unloaded_and_loaded_again_cost_no_photo(own: Own, world: World) -> None:
    async with world.service() as service:
        world.upload("before", "red/before")
        await eventually(tagged(service, 1))
        for turn in range(2):
            await own.control("unload", "brand_logo")
            for number in range(10):
                world.upload(f"during{turn}-{number}", f"red/{turn}-{number}")
            await eventually(waits_for(service, "brand_logo"))
            await own.control("load", "brand_logo")
            await eventually(tagged(service, 11 + 10 * turn))
        await eventually(lambda: not service.not_ready())
    assert set(service.outcomes()) == {"tagged"}


@pytest.mark.parametrize("contract", get_args(Contract))
async def test_other_labels_that_are_loaded_in_place_are_never_named_wrongly(
    own: Own, world: World, contract: Contract
) -> None:
    """No request fails and no connection is lost meanwhile."""
    await own.restart(contract=contract)
    async with world.service() as service:
        for number in range(20):
            world.upload(f"before{number}", f"red/{number}")
        await eventually(lambda: service.outcomes().get("tagged", 0) > 5)
        own.write(brands=SWAPPED, contract=contract)
        await own.control("load", "brand_logo")
        world.upload("after", "red/after")
        await eventually(waits_for(service, "label_checksum"))
        await world.promote()
        await eventually(tagged(service, 21))
        await eventually(lambda: not service.not_ready())
    found = brands_of(world)
    # The models say the same as before, so a red photo has the other name now.
    assert found["after"] == ["azure"]
    assert world.dead() == world.waiting() == []


@pytest.mark.parametrize(
    "batching",
    [{"batching": "dynamic_batching { max_queue_delay_microseconds: 1000 }"}, {"max_batch_sizes": (0, 1)}],
    ids=["dynamic batching", "no batches"],
)
async def test_a_slow_triton_computes_each_photo_once(
    own: Own, world: World, tmp_path: Path, batching: dict[str, Any]
) -> None:
    """Two instances of 0.1 s give 20 photos a second: the 64 in flight need 3.2 s, and the deadline is 0.4 s."""
    photos = 80
    await own.restart(**batching)
    count = f"open({str(tmp_path)!r} + '/' + answer.__name__, 'a').write('x' * len(photos))"
    own.run(f"import time; photos = {_PHOTOS}; time.sleep(0.1 * len(photos)); {count}")
    async with world.service(with_deadline(world, 0.4)) as service:
        for number in range(photos):
            world.upload(f"photo{number}", f"red/{number}")
        await eventually(tagged(service, photos), deadline_s=15)
    for model in ("quality", "brand"):
        assert size_of(tmp_path / model) <= 1.05 * photos
    assert world.dead() == world.waiting() == []


def size_of(path: Path) -> int:
    return path.stat().st_size


#: What comes back in place of the models of version 1, and what a red photo then shows.
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "the same labels in another order": ({"brands": SWAPPED}, "azure"),
    "another input size": ({"size": 48}, "crimson"),
    "an input size for each model": ({"size": 48, "brand_size": 96}, "crimson"),
    "a newer version": ({"version": 3}, "crimson"),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_other_models_after_a_restart_wait_for_their_release_and_are_never_named_wrongly(
    own: Own, world: World, other: str
) -> None:
    models, expected = OTHERS[other]
    await own.restart()
    async with world.service() as service:
        world.upload("before", "red/before")
        await eventually(tagged(service, 1))
        await asyncio.to_thread(own.server.kill)
        for number in range(10):
            world.upload(f"during{number}", f"red/{number}")
        await eventually(waits_for(service, "UNAVAILABLE"))
        await own.restart(**models)
        await eventually(lambda: waits_for(service, "is now")() or waits_for(service, "is not loaded")())
        assert tagged(service, 1)()
        await world.promote()
        await eventually(tagged(service, 11))
        await eventually(lambda: not service.not_ready())
        assert service.live()
    found = brands_of(world)
    assert found.pop("before") == ["crimson"]
    assert list(found.values()) == [[expected]] * 10
    assert world.dead() == world.waiting() == []
