"""librdkafka's mock cluster inside the test's process, so that a test decides which requests fail.

Its functions have no Python names, so they are called through ctypes, in the library that the client itself has loaded.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import confluent_kafka

from consumer.topic_names import TopicNames
from tests.harness import PARTITIONS

#: Kafka's numbers of the requests that members of a group and producers send.
PRODUCE: Final = 0
OFFSET_COMMIT: Final = 8
OFFSET_FETCH: Final = 9
HEARTBEAT: Final = 12
INIT_PRODUCER_ID: Final = 22
CONSUMER_GROUP_HEARTBEAT: Final = 68

_PRODUCER: Final = 0
_BROKERS: Final = 2
_ERROR_TEXT_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class MockCluster:
    """Two mock brokers, which keep records in memory.

    Two, because librdkafka asks another broker who the coordinator is when that says it is not: with one it waits.
    """

    bootstrap_servers: str
    _library: Any
    _cluster: ctypes.c_void_p

    def create_topics(self, _: str, names: TopicNames) -> None:
        """Creates the topics; the first argument is what real brokers are reached by."""
        for name in names.required:
            count = 1 if name == names.releases else PARTITIONS
            error = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), count, 1)
            assert error == 0, f"topic {name}: error {error}"

    def set_coordinator(self, group: str, broker: int) -> None:
        """Which broker, 1 or 2, coordinates the group."""
        error = self._library.rd_kafka_mock_coordinator_set(self._cluster, b"group", group.encode(), broker)
        assert error == 0, f"error {error}"

    def fail_next(self, broker: int, request: int, errors: Sequence[int], delay_ms: int = 0) -> None:
        """A broker answers the next requests of a kind with these errors, one each, and each after a delay.

        It takes further requests meanwhile, whose answers go out behind the delayed one.
        """
        pairs = [ctypes.c_int(value) for error in errors for value in (error, delay_ms)]
        self._library.rd_kafka_mock_broker_push_request_error_rtts(
            self._cluster, broker, request, ctypes.c_size_t(len(errors)), *pairs
        )

    def failures_left(self, broker: int, request: int) -> int:
        """How many of these errors nobody has been given yet."""
        left = ctypes.c_size_t()
        error = self._library.rd_kafka_mock_broker_error_stack_cnt(self._cluster, broker, request, ctypes.byref(left))
        assert error == 0, f"error {error}"
        return left.value

    def set_round_trip(self, milliseconds: int) -> None:
        """How long each answer of the brokers takes."""
        for broker in range(1, _BROKERS + 1):
            assert self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, milliseconds) == 0


@contextmanager
def mock_cluster() -> Iterator[MockCluster]:
    """A mock cluster where groups form at once."""
    calls = library()
    text = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
    handle = ctypes.c_void_p(calls.rd_kafka_new(_PRODUCER, calls.rd_kafka_conf_new(), text, len(text)))
    assert handle, text.value
    cluster = ctypes.c_void_p(calls.rd_kafka_mock_cluster_new(handle, _BROKERS))
    assert cluster
    try:
        calls.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
        servers = calls.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        yield MockCluster(servers, calls, cluster)
    finally:
        calls.rd_kafka_mock_cluster_destroy(cluster)
        calls.rd_kafka_destroy(handle)


def library() -> Any:
    """The library that the client has loaded, with the types of the functions that are used here."""
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    (path,) = folder.glob("librdkafka-*.so*")
    library = ctypes.CDLL(str(path))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.rd_kafka_new.argtypes = [number, pointer, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_destroy.argtypes = [pointer]
    library.rd_kafka_mock_cluster_new.argtypes = [pointer, number]
    library.rd_kafka_mock_cluster_destroy.argtypes = [pointer]
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_group_initial_rebalance_delay_ms.argtypes = [pointer, ctypes.c_int32]
    library.rd_kafka_mock_topic_create.argtypes = [pointer, ctypes.c_char_p, number, number]
    library.rd_kafka_mock_coordinator_set.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int32]
    library.rd_kafka_mock_broker_error_stack_cnt.argtypes = [pointer, ctypes.c_int32, ctypes.c_int16, pointer]
    library.rd_kafka_mock_broker_set_rtt.argtypes = [pointer, ctypes.c_int32, number]
    return library
