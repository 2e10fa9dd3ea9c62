"""A Triton with predictable models, and a world of one's own for each test."""

from collections.abc import AsyncIterator

import pytest

from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton
from tests.fake_models import write_repository
from tests.harness import PhotoServer, World, make_world, photo_server
from tests.photo_host import Host, hosting


@pytest.fixture(scope="session")
def predictable_triton(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Triton:
    """A real Triton over the models of `tests/fake_models.py`."""
    return servers.start_triton(write_repository(tmp_path_factory.mktemp("models")), name="predictable")


@pytest.fixture
async def photos() -> AsyncIterator[PhotoServer]:
    """A photo host whose answers the test decides."""
    async with photo_server() as server:
        yield server


@pytest.fixture
def world(kafka: Kafka, redis_db: str, predictable_triton: Triton, photos: PhotoServer) -> World:
    """Fresh topics, a fresh group and an empty Redis on the session's servers."""
    return make_world(kafka.bootstrap_servers, redis_db, predictable_triton.grpc_url, photos)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A photo host that may misbehave down to its last byte."""
    async with hosting() as running:
        yield running
