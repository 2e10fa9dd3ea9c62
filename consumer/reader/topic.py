"""The result topic, read outside any group. The one module of the reader that needs `confluent-kafka`."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from consumer.reader.changes import WatchError

_POLL_S: Final = 0.2
_TIMEOUT_S: Final = 5.0
_LOOK_TIMEOUT_S: Final = 2.0
_BATCH: Final = 500
#: Errors at one offset before its record is passed over: what came to harm on its way is right the next time.
_TRIES: Final = 3
#: What brokers before topic ids (Kafka 2.8) answer.
_NO_ID: Final = "A" * 22
_UNREADABLE: Final = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})  # noqa: SLF001 - they have no other name
_REFUSED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._FATAL,  # noqa: SLF001 - as above
    }
)
#: A call in plain Python skips a check once the interpreter has specialised it (3.11), and a name of a header that is
#: not UTF-8 would give a list with NULL pointers.
_read_headers: Final = methodcaller("headers")


@dataclass(frozen=True, slots=True)
class Read:
    """A record, or the place of one that Kafka's client cannot read: `unreadable` says why then."""

    partition: int
    offset: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    written_ms: int = 0
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """A topic as brokers know it: which one of that name (empty before Kafka 2.8), and its partitions."""

    topic_id: str
    partitions: tuple[int, ...] = field(default=())


class ResultTopic:
    """One topic; for one thread. Close it."""

    def __init__(self, bootstrap_servers: str, name: str, properties: Mapping[str, str | int | float | bool]) -> None:
        """Makes the clients, which connect in the background.

        Raises:
            WatchError: librdkafka refuses a property.
        """
        self._name, self._servers = name, bootstrap_servers
        self._reason = ""
        # It would write to standard error otherwise; the reasons come by `error_cb`.
        silent = logging.getLogger("consumer.reader.silent")
        silent.setLevel(logging.CRITICAL + 1)
        shared: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "client.id": "photo-tagger-reader",
            **properties,
            "error_cb": self._failed,
        }
        own = {
            "group.id": "photo-tagger-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
        try:
            self._admin = AdminClient(shared, logger=silent)
            self._consumer = Consumer({**shared, **own}, logger=silent)
        except KafkaException as error:
            raise WatchError(f"{error.args[0].str()}") from None
        self._next: dict[int, int] = {}
        self._errors: dict[int, tuple[int, int]] = {}
        #: Partitions whose end has not been seen since reading began.
        self._behind: set[int] = set()

    @property
    def caught_up(self) -> bool:
        """Whether each partition has been read to its end at least once."""
        return not self._behind

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()

    def describe(self, *, patiently: bool = False) -> Described | None:
        """The topic; None where no broker says anything of it, and without partitions where there is none (any more).

        With `patiently`, no answer is an error.

        Raises:
            WatchError: brokers refuse to tell, or do not answer.
        """
        self._admin.poll(0)
        timeout_s = _TIMEOUT_S if patiently else _LOOK_TIMEOUT_S
        try:
            if patiently:
                self._admin.list_topics(timeout=timeout_s)
            asked = self._admin.describe_topics(TopicCollection([self._name]), request_timeout=timeout_s)
            told = asked[self._name].result(2 * timeout_s)
        except KafkaException as failure:
            error = failure.args[0]
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return Described("")
            if patiently or error.code() in _REFUSED:
                self._admin.poll(0)
                raise WatchError(f"{self._servers}: {self._reason or error.str()}") from None
            return None
        except TimeoutError:
            return None
        topic_id = str(told.topic_id)
        return Described("" if topic_id == _NO_ID else topic_id, tuple(sorted(each.id for each in told.partitions)))

    def start(self, offsets: Mapping[int, int]) -> None:
        """Reads these partitions from these offsets on, and no others; where one is gone, from the first one left."""
        self._next, self._errors, self._behind = dict(offsets), {}, set(offsets)
        self._consumer.assign([self._place(partition, offset) for partition, offset in offsets.items()])

    def add(self, partitions: set[int]) -> None:
        """Reads further partitions, from their beginning."""
        self._next.update(dict.fromkeys(partitions, 0))
        self._behind |= partitions
        self._consumer.incremental_assign([self._place(partition, 0) for partition in partitions])

    def read(self) -> list[Read]:
        """The next records; none after a short wait.

        Raises:
            WatchError: brokers refuse to be read.
        """
        first = self._consumer.poll(_POLL_S)
        messages = [] if first is None else [first, *self._consumer.consume(_BATCH - 1, 0)]
        found, passed_over = list[Read](), set[int]()
        for message in messages:
            partition, error = int(message.partition() or 0), message.error()
            if error is None:
                found.append(_read(message))
                self._next[partition] = int(message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - as above
                self._behind.discard(partition)
            elif error.fatal() or error.code() in _REFUSED:
                raise WatchError(f"{self._servers}: {error.str()}")
            elif error.code() in _UNREADABLE and partition not in passed_over and self._gives_up(partition):
                passed_over.add(partition)
                found.append(Read(partition, self._next[partition], unreadable=error.str()))
                self._next[partition] += 1
                self._consumer.seek(self._place(partition, self._next[partition]))
        return found

    def _gives_up(self, partition: int) -> bool:
        offset = self._next.setdefault(partition, 0)
        at, count = self._errors.get(partition, (offset, 0))
        self._errors[partition] = offset, count + 1 if at == offset else 1
        return self._errors[partition][1] >= _TRIES

    def _place(self, partition: int, offset: int) -> TopicPartition:
        return TopicPartition(self._name, partition, offset or OFFSET_BEGINNING)

    def _failed(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self._reason:  # noqa: SLF001 - as above
            self._reason = error.str()


def _read(message: Message) -> Read:
    try:
        headers = tuple(_read_headers(message) or ())
    except (UnicodeError, SystemError):
        headers = ()
    return Read(
        int(message.partition() or 0),
        int(message.offset() or 0),
        message.key(),
        message.value(),
        headers,
        message.timestamp()[1],
    )
