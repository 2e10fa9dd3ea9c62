"""Fixtures of the real servers: they start when a test first asks for them, once per session."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis as redis_client
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.embedded.kafka import Kafka
from consumer.embedded.mock_kafka import MockKafka
from consumer.embedded.paths import repository_root
from consumer.embedded.redis import Redis
from consumer.embedded.servers import Servers
from consumer.embedded.triton import Triton

_ADMIN_TIMEOUT_S = 10

# An example may take long on a busy machine; a wrong answer is what these tests look for.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")

# A background job of a shell ignores Ctrl-C, and so would every process that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What nohup starts ignores the end of its terminal, and so would they; a handler is this process's alone.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

pytest_plugins = ["tests.secure_fixtures", "tests.world_fixtures"]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The owner of the session's servers; start more with its `start_*` methods, under another name."""
    with Servers() as owner:
        yield owner


@pytest.fixture(scope="session")
def kafka(servers: Servers) -> Kafka | MockKafka:
    """A real Kafka, shared by the session: use a topic of your own (fixture `topic`) and a group of your own."""
    return servers.start_kafka("real")


@pytest.fixture(scope="session")
def redis_server(servers: Servers) -> Redis:
    """A Redis, shared by the session: use fixture `redis_db`."""
    return servers.start_redis()


@pytest.fixture(scope="session")
def triton(servers: Servers) -> Triton:
    """A Triton that serves the repository's own models on the CPU, shared by the session: leave its models alone."""
    return servers.start_triton(repository_root() / "triton_models")


@pytest.fixture
def topic(kafka: Kafka | MockKafka) -> str:
    """The name of a fresh, empty topic with 4 partitions on the real Kafka."""
    name = f"test-{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(name, num_partitions=4, replication_factor=1)])[name].result(_ADMIN_TIMEOUT_S)
    return name


@pytest.fixture
def redis_db(redis_server: Redis) -> str:
    """The URL of an empty Redis: the session's, flushed before the test."""
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def logs_dir(tmp_path: Path) -> Path:
    """A folder for the logs of a test's own servers."""
    return tmp_path / "logs"


_TINY_CONFIG = """\
name: "tiny"
backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
"""
_TINY_MODEL = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x + x)]) for x in inputs]
"""


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of one Python model, `tiny`, that doubles; for tests of Triton itself."""
    repository = tmp_path_factory.mktemp("repository")
    model = repository / "tiny"
    (model / "1").mkdir(parents=True)
    (model / "configs").mkdir()
    (model / "1" / "model.py").write_text(_TINY_MODEL, encoding="utf-8")
    for config in (model / "config.pbtxt", model / "configs" / "cpu.pbtxt"):
        config.write_text(_TINY_CONFIG, encoding="utf-8")
    return repository
