"""A Triton with predictable models, Redis of several kinds, and a world of one's own for each test."""

import uuid
from collections.abc import AsyncIterator, Callable
from functools import cache

import pytest

from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton
from consumer.kafka.topics import create_topics
from consumer.operations import live_traffic, promotion, run_retag, run_work
from consumer.settings import Settings
from tests.change_bench import FIRST, ChangeBench
from tests.fake_models import write_repository
from tests.harness import PhotoServer, World, make_world, photo_server
from tests.harness_redis import KINDS, RedisPlace, start_place
from tests.photo_host import Host, hosting


@pytest.fixture(scope="session")
def predictable_triton(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Triton:
    """A real Triton over the models of `tests/fake_models.py`."""
    return servers.start_triton(write_repository(tmp_path_factory.mktemp("models")), name="predictable")


@pytest.fixture(scope="session")
def operated_triton(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Settings of a real Triton with versions to change between: retire those that you load; 1 and 2 are loaded."""
    from tests.tiny_models import start_operated  # noqa: PLC0415 - training takes seconds to import

    return start_operated(servers, tmp_path_factory.mktemp("operated"))


@pytest.fixture
def operated(kafka: Kafka, operated_triton: dict[str, object]) -> Settings:
    """The settings of an operator of that Triton, with topics of its own."""
    mark = uuid.uuid4().hex[:12]
    names = {f"{kind}_topic": f"{kind}-{mark}" for kind in ("uploads", "tags", "dead", "retry", "releases")}
    settings = Settings(kafka={"bootstrap_servers": kafka.bootstrap_servers, **names}, triton=operated_triton)
    create_topics(kafka.bootstrap_servers, settings.kafka.topics, partitions=1)
    return settings


@pytest.fixture
async def photos() -> AsyncIterator[PhotoServer]:
    """A photo host whose answers the test decides."""
    async with photo_server() as server:
        yield server


@pytest.fixture
def changing(kafka: Kafka, redis_db: str, operated_triton: dict[str, object], photos: PhotoServer) -> World:
    """A world on the Triton that has versions to change between, as its operator sees it."""
    world = make_world(kafka.bootstrap_servers, redis_db, str(operated_triton["url"]), photos)
    world.settings = world.settings.model_copy(update={"triton": Settings(triton=operated_triton).triton})
    return world


@pytest.fixture
async def change(changing: World, monkeypatch: pytest.MonkeyPatch) -> ChangeBench:
    """That world, in which the first versions judge, and work on a run looks five times as often how far it is."""
    for module, name in ((run_work, "_LOOK_S"), (run_retag, "_LOOK_S"), (live_traffic, "_APART_S")):
        monkeypatch.setattr(module, name, getattr(module, name) / 5)
    found = ChangeBench(changing)
    await promotion.promote(found.settings, FIRST, "the first", forced=True)
    return found


@pytest.fixture
def world(kafka: Kafka, redis_db: str, predictable_triton: Triton, photos: PhotoServer) -> World:
    """Fresh topics, a fresh group and an empty Redis on the session's servers."""
    return make_world(kafka.bootstrap_servers, redis_db, predictable_triton.grpc_url, photos)


@pytest.fixture(scope="session")
def place_of(servers: Servers) -> Callable[[str], RedisPlace]:
    """The Redis of a kind, shared by the session."""
    return cache(lambda kind: start_place(servers, kind))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, redis_db: str, place_of: Callable[[str], RedisPlace]) -> RedisPlace:
    """An empty Redis, one of each kind after the other."""
    kind = str(request.param)
    found = RedisPlace(redis_db) if kind == "default" else place_of(kind)
    found.flush()
    return found


@pytest.fixture
def cluster(place_of: Callable[[str], RedisPlace]) -> RedisPlace:
    """The session's cluster of three masters, empty; leave it as whole as it was."""
    found = place_of("cluster")
    found.flush()
    return found


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A photo host that may misbehave down to its last byte."""
    async with hosting() as running:
        yield running
