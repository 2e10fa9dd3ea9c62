"""The embedded servers start, answer real clients, keep their data over a restart, and stay on loopback."""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis as redis_client
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from tritonclient import grpc as triton_client

from consumer.embedded import leftovers
from consumer.embedded.kafka import Kafka
from consumer.embedded.mock_kafka import MockKafka
from consumer.embedded.redis import Redis
from consumer.embedded.servers import Servers, start_stack
from consumer.embedded.triton import Triton

_TIMEOUT_S = 15.0
#: 127.0.0.1 as /proc/net/tcp writes it, and as the JVM's dual-stack sockets appear in /proc/net/tcp6.
_LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.fixture(scope="module")
def tiny_triton(servers: Servers, tiny_repository: Path) -> Triton:
    return servers.start_triton(tiny_repository, name="triton-tiny")


@pytest.fixture
def own_servers(logs_dir: Path) -> Iterator[Servers]:
    with Servers(logs_dir) as owner:
        yield owner


def produce(kafka: Kafka | MockKafka, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(_TIMEOUT_S) == 0


def consume(kafka: Kafka | MockKafka, topic: str, count: int) -> set[bytes | None]:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.subscribe([topic])
        values: set[bytes | None] = set()
        deadline_s = time.monotonic() + _TIMEOUT_S
        while len(values) < count and time.monotonic() < deadline_s:
            record = consumer.poll(0.2)
            if record is not None and record.error() is None:
                values.add(record.value())
        return values
    finally:
        consumer.close()


def double(triton: Triton, model: str = "tiny") -> list[float]:
    with triton_client.InferenceServerClient(triton.grpc_url) as client:
        tensor = triton_client.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        # Empty with numpy 2 in the servers' environment: the stub was built against numpy 1.
        result = client.infer(model, [tensor], client_timeout=_TIMEOUT_S)
        return [float(value) for value in result.as_numpy("y")[0]]


def listening_addresses(pid: int) -> set[str]:
    """The local addresses, in /proc's hexadecimal, that a process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].split(":")[0])
    return found


def eventually(holds: Callable[[], bool], timeout_s: float = _TIMEOUT_S) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
    return True


def test_kafka_gives_back_what_was_produced(kafka: Kafka, topic: str) -> None:
    produce(kafka, topic, b"one", b"two")

    assert consume(kafka, topic, 2) == {b"one", b"two"}
    assert not kafka.is_mock
    assert kafka.notice == ""


def test_redis_never_evicts_and_keeps_an_append_only_file(redis_db: str) -> None:
    with redis_client.Redis.from_url(redis_db) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_triton_answers_and_lets_models_be_unloaded_and_loaded(tiny_triton: Triton) -> None:
    assert double(tiny_triton) == [2.0] * 4
    with triton_client.InferenceServerClient(tiny_triton.grpc_url) as client:
        client.unload_model("tiny")
        assert eventually(lambda: not client.is_model_ready("tiny"))
        client.load_model("tiny")
        assert client.is_model_ready("tiny")
    assert double(tiny_triton) == [2.0] * 4


def test_servers_listen_on_loopback_only(kafka: Kafka, redis_server: Redis, tiny_triton: Triton) -> None:
    for server in (kafka, redis_server, tiny_triton):
        addresses = listening_addresses(server.pid)
        assert addresses
        assert addresses <= _LOOPBACK


def test_kafka_keeps_its_records_over_a_kill_and_a_restart(kafka: Kafka, topic: str) -> None:
    produce(kafka, topic, b"kept")
    before = (kafka.bootstrap_servers, kafka.pid)

    kafka.kill()
    assert not kafka.running
    kafka.start()

    assert (kafka.bootstrap_servers, kafka.running) == (before[0], True)
    assert kafka.pid != before[1]
    assert consume(kafka, topic, 1) == {b"kept"}


def test_redis_keeps_its_keys_over_a_kill_and_a_restart(own_servers: Servers) -> None:
    redis = own_servers.start_redis()
    with redis_client.Redis.from_url(redis.url) as client:
        client.set("photo", "tags")
    redis.kill()
    redis.start()
    with redis_client.Redis.from_url(redis.url) as client:
        assert client.get("photo") == b"tags"


def test_a_paused_server_is_silent_and_a_resumed_one_answers(own_servers: Servers) -> None:
    redis = own_servers.start_redis()
    with redis_client.Redis.from_url(redis.url, socket_timeout=0.3, retry=None) as client:
        client.ping()
        redis.pause()
        with pytest.raises(redis_client.TimeoutError):
            client.ping()
        assert redis.running
        redis.resume()
        assert client.ping()


def test_a_paused_server_can_be_stopped(own_servers: Servers) -> None:
    redis = own_servers.start_redis()
    redis.pause()
    redis.stop()
    assert not redis.running


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_triton_that_ended_leaves_no_stub_and_no_shared_memory(
    own_servers: Servers, tiny_repository: Path, end: str
) -> None:
    run = own_servers.folder.name
    triton = own_servers.start_triton(tiny_repository)
    assert len(leftovers.marked_pids(run)) == 3  # the server and a stub per instance
    assert list(leftovers.SHARED_MEMORY.glob(f"{run}*"))

    getattr(triton, end)()

    assert eventually(lambda: not leftovers.marked_pids(run))
    assert not list(leftovers.SHARED_MEMORY.glob(f"{run}*"))
    triton.start()
    assert double(triton) == [2.0] * 4


def test_the_stack_starts_reports_and_leaves_only_its_logs(tiny_repository: Path, logs_dir: Path) -> None:
    lines: list[str] = []
    with start_stack(logs_dir, tiny_repository, "real", lines.append) as stack:
        with redis_client.Redis.from_url(stack.redis.url) as client:
            assert client.ping()
        assert AdminClient({"bootstrap.servers": stack.kafka.bootstrap_servers}).list_topics(timeout=_TIMEOUT_S).brokers
        assert double(stack.triton) == [2.0] * 4
        folder = Path(f"/proc/{stack.redis.pid}/cwd").readlink().parent
        run = folder.name

    assert {line.split()[0] for line in lines} == {"Kafka", "Redis", "Triton"}
    assert run.startswith("photo-tagger-")
    assert not folder.exists()
    assert not leftovers.marked_pids(run)
    assert not list(leftovers.SHARED_MEMORY.glob(f"{run}*"))
    assert {log.name for log in logs_dir.iterdir()} == {"guardian.log", "kafka.log", "redis.log", "triton.log"}


def test_a_run_leaves_other_living_runs_alone(own_servers: Servers, logs_dir: Path) -> None:
    redis = own_servers.start_redis()
    with Servers(logs_dir / "other"):
        assert redis.running
        assert own_servers.folder.is_dir()
    with redis_client.Redis.from_url(redis.url) as client:
        assert client.ping()


def test_the_cache_keeps_the_logs_of_the_last_five_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_CACHE_DIR", str(tmp_path))
    folders = []
    for _ in range(6):
        with Servers() as owner:
            folders.append(owner.logs_dir)
    assert sorted((tmp_path / "logs").iterdir()) == folders[1:]


def test_without_java_auto_starts_the_mock_and_says_so(
    own_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    kafka = own_servers.start_kafka("auto")

    assert kafka.is_mock
    assert "mock" in kafka.notice
    assert "\n" not in kafka.notice
    assert "--kafka real" in kafka.notice
    produce(kafka, "anything", b"one")
    assert consume(kafka, "anything", 1) == {b"one"}
    assert listening_addresses(kafka.pid) <= _LOOPBACK
    kafka.stop()
    kafka.start()
    produce(kafka, "anything", b"two")
    assert consume(kafka, "anything", 1) == {b"two"}


def test_with_java_auto_is_the_real_kafka(own_servers: Servers) -> None:
    if shutil.which("java") is None:
        pytest.skip("no Java here")
    assert not own_servers.start_kafka("auto").is_mock
