"""Asks a cluster what it is, what its topics are like, and what this user may do. Blocking; nothing is written."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource, OffsetSpec  # type: ignore[attr-defined]  # its types leave them out

from consumer.errors import DependencyDown
from consumer.kafka import clients
from consumer.kafka.inspection.protocol import ProtocolLog, Takes
from consumer.kafka.reasons import BLIND, FORBIDDEN, REASONS

#: A broker that is there answers within this.
_PATIENCE_S: Final = 3.0
_ABSENT: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND})
#: A coordinator that was just chosen.
_BEGINNING: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
_AGAIN_S: Final = 0.1


class _NotYet(Exception):
    """The broker asks for patience."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as this user sees it; `copies` and `in_sync` are those of the partition that has fewest.

    `allowed` are the operations that the broker lets this user do, in Kafka's words (`READ`, `WRITE`, ...).
    """

    partitions: int
    copies: int
    in_sync: int
    leaderless: int
    allowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Group:
    """What this user may do with a consumer group; None where the broker does not say, since there is no such group."""

    allowed: frozenset[str] | None


class Cluster:
    """The questions to a cluster; each is answered, or refused, within `deadline_s` (monotonic)."""

    def __init__(self, bootstrap_servers: str, extra: clients.Properties, deadline_s: float) -> None:
        """Connects.

        Raises:
            DependencyDown: no broker answers, or none lets this client in.
        """
        self._servers = bootstrap_servers
        self._deadline_s = deadline_s
        self._log = ProtocolLog()
        self._admin = clients.admin_client(bootstrap_servers, {**extra, "debug": "feature"}, self._log)
        try:
            self.brokers = len(self._admin.list_topics(timeout=self._left_s()).brokers)
        except KafkaException as error:
            self._admin.poll(0)  # hands over the reasons
            silent = error.args[0].code() in BLIND and not str(REASONS)
            silence = f"{bootstrap_servers} did not answer in time"
            raise DependencyDown("kafka", silence if silent else clients.explain(error.args[0])) from None

    @property
    def takes(self) -> Takes:
        """The requests that the brokers take; empty where they did not say."""
        self._admin.poll(0)  # hands over the lines
        return self._log.takes

    def topics(self, names: Iterable[str]) -> dict[str, Topic | None]:
        """The topics; None for one that is not there, or that this user may not even see.

        Raises:
            DependencyDown: there is no answer.
        """
        asked = self._admin.describe_topics(
            TopicCollection(list(names)), include_authorized_operations=True, request_timeout=self._left_s()
        )
        return {name: self._answer(future, _topic) for name, future in asked.items()}

    def groups(self, names: Iterable[str]) -> dict[str, Group | None]:
        """The consumer groups; None for one that this user may not see.

        Raises:
            DependencyDown: there is no answer.
        """
        found: dict[str, Group | None] = {}
        for name in names:
            found[name] = self._patiently(name)
        return found

    def configurations(self, names: Iterable[str]) -> dict[str, Mapping[str, str]]:
        """The settings of the topics whose settings this user may read.

        Raises:
            DependencyDown: there is no answer.
        """
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        if not resources:  # which the client does not take
            return {}
        asked = self._admin.describe_configs(resources, request_timeout=self._left_s())
        answers = {resource.name: self._answer(future, _settings) for resource, future in asked.items()}
        return {name: settings for name, settings in answers.items() if settings is not None}

    def newest_ms(self, partitions: Mapping[str, int]) -> dict[str, int]:
        """The highest time of a record in each of these topics, by their numbers of partitions.

        A topic without records, or that may not be read, has none; brokers before 3.0 know of none.

        Raises:
            DependencyDown: there is no answer.
        """
        wanted = {
            TopicPartition(name, number): OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]  # as above
            for name, count in partitions.items()
            for number in range(count)
        }
        found: dict[str, int] = {}
        for place, future in self._admin.list_offsets(wanted, request_timeout=self._left_s()).items():
            at_ms = self._answer(future, lambda result: int(result.timestamp))
            if at_ms is not None and at_ms > 0:
                found[place.topic] = max(at_ms, found.get(place.topic, 0))
        return found

    def _patiently(self, group: str) -> Group | None:
        """A consumer group; whoever keeps it may have begun a moment ago.

        Raises:
            DependencyDown: there is no answer.
        """
        while True:
            asked = self._admin.describe_consumer_groups(
                [group], include_authorized_operations=True, request_timeout=self._left_s()
            )
            try:
                found: Group | None = self._answer(asked[group], _group, absent=Group(None))
            except _NotYet as again:
                if monotonic() >= self._deadline_s:
                    raise DependencyDown("kafka", f"group {group}: {again}") from None
                sleep(_AGAIN_S)
            else:
                return found

    def _left_s(self) -> float:
        return max(0.1, min(_PATIENCE_S, self._deadline_s - monotonic()))

    def _answer(self, future: "Future[Any]", read: Any, absent: Any = None) -> Any:  # noqa: ANN401 - whatever is asked
        """What an answer says; None where it is refused, and `absent` where there is no such thing.

        Raises:
            DependencyDown: there is no answer, or it is another error.
            _NotYet: it is to be asked again.
        """
        try:
            return read(future.result(timeout=self._left_s() + 0.5))
        except FutureTimeout:
            self._admin.poll(0)  # hands over the reasons
            raise DependencyDown("kafka", str(REASONS) or f"{self._servers} did not answer in time") from None
        except KafkaException as error:
            code = error.args[0].code()
            if code in _ABSENT:
                return absent
            if code in FORBIDDEN or code in {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}:  # noqa: SLF001 - librdkafka's local errors have no public name
                return None
            self._admin.poll(0)  # as above
            if code in _BEGINNING:
                raise _NotYet(clients.explain(error.args[0])) from None
            raise DependencyDown("kafka", clients.explain(error.args[0])) from None


def _topic(answer: Any) -> Topic:  # noqa: ANN401 - it has no types
    copies = [len(each.replicas) for each in answer.partitions]
    in_sync = [len(each.isr) for each in answer.partitions]
    leaderless = sum(each.leader is None or each.leader.id < 0 for each in answer.partitions)
    return Topic(len(copies), min(copies, default=0), min(in_sync, default=0), leaderless, _allowed(answer))


def _group(answer: Any) -> Group:  # noqa: ANN401 - as above
    return Group(_allowed(answer) or None)


def _settings(answer: Any) -> dict[str, str]:  # noqa: ANN401 - as above
    return {name: str(entry.value) for name, entry in answer.items()}


def _allowed(answer: Any) -> frozenset[str]:  # noqa: ANN401 - as above
    return frozenset(str(each.name) for each in answer.authorized_operations or ())
