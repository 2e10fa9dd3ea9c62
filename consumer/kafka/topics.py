"""Creation of the topics that the service reads and writes."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.errors import DependencyDown
from consumer.kafka import clients
from consumer.kafka.reasons import REASONS
from consumer.topic_names import TopicNames

_CREATE_TIMEOUT_S: Final = 15.0
#: How often it is looked for reasons meanwhile; one address of several that fails at first is none.
_LOOK_S: Final = 1.0
#: How long the retry and dead-letter topics keep records.
KEPT_MS: Final = 90 * 24 * 3600 * 1000
#: Tombstones stay for as long as an old upload may be replayed; Kafka's default is a day.
RELEASES: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
#: A run's definition may list many ids.
COMPACTED: Final = {"cleanup.policy": "compact", "max.message.bytes": str(16 * 1024 * 1024)}
_DEFAULT: Final = -1
_ABSENT: Final = frozenset(
    {
        KafkaError.GROUP_ID_NOT_FOUND,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - librdkafka's local errors have no public name
    }
)
RESULTS: Final = {"cleanup.policy": "compact", "delete.retention.ms": str(30 * 24 * 3600 * 1000)}


def create_topics(
    bootstrap_servers: str,
    names: TopicNames,
    *,
    partitions: int = 4,
    replication: int = 1,
    extra: clients.Properties | None = None,
    waits: Callable[[str], object] = str,
) -> list[str]:
    """Creates the missing topics and returns their names; existing ones stay as they are.

    The result topic is compacted, so that Redis can be rebuilt from it, and keeps tombstones for 30 days; the retry and
    dead-letter topics keep records for 90 days, and releases never expire. While no broker can be used, `waits` is
    called with the reason.

    Raises:
        DependencyDown: the cluster does not answer, or refuses a topic.
    """
    admin = clients.admin_client(bootstrap_servers, extra or {})
    wanted = [
        NewTopic(names.uploads, partitions, replication),
        NewTopic(names.tags, partitions, replication, config=RESULTS),
        NewTopic(names.retry, partitions, replication, config={"retention.ms": str(KEPT_MS)}),
        NewTopic(names.dead, 1, replication, config={"retention.ms": str(KEPT_MS)}),
        # One partition: the place of a release is its number. It is the history too, so nothing of it expires.
        NewTopic(names.releases, 1, replication, config=RELEASES),
        NewTopic(names.runs, 1, replication, config=COMPACTED),
    ]
    return _created(admin, wanted, waits)


def create_answers(bootstrap_servers: str, topic: str, partitions: int, extra: clients.Properties) -> None:
    """Creates the topic of a run's answers, compacted, unless it is there.

    Raises:
        DependencyDown: as `create_topics`.
    """
    admin = clients.admin_client(bootstrap_servers, extra)
    # As many copies as the cluster makes by default.
    _created(admin, [NewTopic(topic, partitions, _DEFAULT, config=COMPACTED)], str)


def delete_run(bootstrap_servers: str, topic: str, group_id: str, extra: clients.Properties) -> None:
    """Deletes the consumer group and then the topic of a run; what is not there is no error.

    Raises:
        DependencyDown: the cluster does not answer, or refuses; the group has members while a worker is at it, which
            needs the topic still.
    """
    admin = clients.admin_client(bootstrap_servers, extra)
    _delete(admin.delete_consumer_groups([group_id], request_timeout=_CREATE_TIMEOUT_S))
    _delete(admin.delete_topics([topic], operation_timeout=_CREATE_TIMEOUT_S))


def _delete(asked: Mapping[str, Future[None]]) -> None:
    """Waits for deletions.

    Raises:
        DependencyDown: as `delete_run`.
    """
    for name, future in asked.items():
        try:
            future.result(timeout=_CREATE_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.NON_EMPTY_GROUP:
                raise DependencyDown(
                    "kafka", f"workers are still at it, by group {name}: try again in a while"
                ) from None
            if error.args[0].code() not in _ABSENT:
                raise DependencyDown("kafka", clients.explain(error.args[0], name)) from None
        except FutureTimeout:
            raise DependencyDown("kafka", f"no answer in {_CREATE_TIMEOUT_S:g} s on {name}") from None


def _created(admin: AdminClient, wanted: list[NewTopic], waits: Callable[[str], object]) -> list[str]:
    """Creates those that are missing, and returns their names.

    Raises:
        DependencyDown: as `create_topics`.
    """
    created = []
    for name, future in admin.create_topics(wanted, operation_timeout=_CREATE_TIMEOUT_S).items():
        try:
            _answer(admin, future, waits)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue
            admin.poll(0)  # hands over the reasons
            raise DependencyDown("kafka", clients.explain(error.args[0], f"topic {name}")) from None
        except FutureTimeout:
            silence = f"no answer in {_CREATE_TIMEOUT_S:.0f} s"
            raise DependencyDown("kafka", str(REASONS) or silence) from None
        created.append(str(name))
    return created


def _answer(admin: AdminClient, future: Future[None], waits: Callable[[str], object]) -> None:
    """Waits for the answer to one topic, as `create_topics`.

    Raises:
        TimeoutError: there is none.
        KafkaException: the cluster refuses the topic.
    """
    deadline = monotonic() + _CREATE_TIMEOUT_S
    while True:
        try:
            return future.result(timeout=min(_LOOK_S, _CREATE_TIMEOUT_S))
        except FutureTimeout:
            admin.poll(0)  # hands over the reasons
            if reasons := str(REASONS):
                waits(reasons)
            if monotonic() >= deadline:
                raise
