"""The Kafka clients with the configuration that all share, their messages, and what their errors mean."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import methodcaller
from time import monotonic
from typing import Final, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from consumer.errors import DependencyDown, SettingsError, TopicMissing
from consumer.events import Headers, Record, Source
from consumer.kafka.offsets import Partition
from consumer.kafka.reasons import BLIND, FORBIDDEN, REASONS

Properties = Mapping[str, str | int | float | bool]
Client = TypeVar("Client")


class Logger(Protocol):
    """What takes the lines that librdkafka logs, while its client is polled."""

    def log(self, level: int, form: str, facility: str, client: str, text: str, /) -> None:
        """Takes a line."""


_METADATA_TIMEOUT_S: Final = 3.0
_ANSWER_POLL_S: Final = 0.05
_READER: Final[Mapping[str, object]] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    # A scan is fast: with the service's small prefetch it would wait a second whenever that is full.
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.message.max.bytes": 1_048_576,
    "fetch.queue.backoff.ms": 20,
}

_NO_HEADERS: Final = "the name of a header is not UTF-8, so the type of the event is unknown"
#: What the brokers, or librdkafka before them, answer for the sake of a record. Anything else (authorisation, a missing
#: topic, too few replicas, a time-out, a refused format) concerns the cluster, its settings or the network, and with
#: them every record: that is waited for, visibly, and costs no photo its place.
FOR_THE_RECORD: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
        KafkaError._INVALID_DIFFERENT_RECORD,  # noqa: SLF001 - librdkafka's local errors have no public name
    }
)

#: Where a name is not UTF-8, the client returns a list with NULL pointers while an exception is set. A call in plain
#: Python skips the check for that once the interpreter has specialised it (3.11); this one is always checked.
_read_headers: Final = methodcaller("headers")


def consumer_client(
    bootstrap_servers: str, group_id: str, extra: Properties, special: Mapping[str, object]
) -> Consumer:
    """A consumer that commits only stored positions, in the background; `special` overrides `extra`.

    `auto.offset.reset=error` turns an out-of-range position into a visible error instead of silent loss or a full
    replay. The prefetch is small, because photos are the slow part.
    """
    classic: dict[str, object] = {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 10_000}
    return _made(
        Consumer,
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group_id,
            "client.id": "photo-tagger",
            **({} if special.get("group.protocol") == "consumer" else classic),
            "enable.auto.commit": True,
            "auto.commit.interval.ms": 1_000,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            # Partitions that are added are seen so soon; the default is five minutes.
            "topic.metadata.refresh.interval.ms": 5_000,
            "queued.max.messages.kbytes": 8_192,
            "queued.min.messages": 1_000,
            # Of each partition at once, compressed: a MiB of small events alike becomes 20 of them in memory.
            "fetch.message.max.bytes": 65_536,
            **extra,
            **special,
        },
    )


def reader_client(bootstrap_servers: str, extra: Properties) -> Consumer:
    """A consumer outside any group, which commits nothing and reports the ends of partitions.

    librdkafka wants a group id all the same. A position that retention removed becomes the first one left.
    """
    return consumer_client(bootstrap_servers, "photo-tagger-reader", extra, _READER)


def producer_client(bootstrap_servers: str, extra: Properties) -> Producer:
    """An idempotent producer; `acks=all` comes with idempotence."""
    return _made(
        Producer,
        {
            "bootstrap.servers": bootstrap_servers,
            "client.id": "photo-tagger",
            "enable.idempotence": True,
            "linger.ms": 5,
            # The compression that every client reads by itself; the others need packages in some languages.
            "compression.type": "gzip",
            # A dead letter is an event and more headers: what the topic's limit lets in must fit out again.
            "message.max.bytes": 16 * 1024 * 1024,
            **extra,
        },
    )


def await_answers(producer: Producer, timeout_s: float) -> list[KafkaError]:
    """Serves acknowledgements until none is awaited or the time is over; returns a fatal error that came meanwhile.

    `flush` goes on to call the callbacks after a fatal error, whose exception they then find set: a SystemError.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    deadline, fatal = monotonic() + timeout_s, list[KafkaError]()
    while True:
        try:
            producer.poll(max(0.0, min(_ANSWER_POLL_S, deadline - monotonic())))
        except KafkaException as error:
            fatal.append(error.args[0])
        except SystemError:  # Ctrl-C while a callback ran, whose exception the client drops
            raise KeyboardInterrupt from None
        if not len(producer) or monotonic() >= deadline:
            return fatal


def admin_client(bootstrap_servers: str, extra: Properties, logger: Logger = REASONS) -> AdminClient:
    """An admin client; it is the one that notices the end of an outage, so it tries again each second."""
    properties = {"bootstrap.servers": bootstrap_servers, "reconnect.backoff.max.ms": 1_000, **extra}
    return _made(AdminClient, properties, logger)


def _made(make: Callable[..., Client], properties: Mapping[str, object], logger: Logger = REASONS) -> Client:
    """A client of these properties; what librdkafka logs goes to `logger`, and stays off standard error.

    Raises:
        SettingsError: librdkafka refuses a property, or all together.
        KafkaException: the host has no thread or descriptor left for it.
    """
    REASONS.servers = str(properties["bootstrap.servers"])
    given = {name: str(value).lower() for name, value in properties.items()}
    tokens = "oauthbearer" in {given.get("sasl.mechanism"), given.get("sasl.mechanisms")}
    if (
        tokens
        and given.get("sasl.oauthbearer.method") != "oidc"
        and "enable.sasl.oauthbearer.unsecure.jwt" not in given
    ):
        # librdkafka waits for ever for a token that nobody brings it.
        raise SettingsError(
            "tokens come from OIDC alone: set it to oidc", setting="kafka.extra.sasl.oauthbearer.method"
        )
    try:
        return make(properties, logger=logger)
    except KafkaException as error:
        if error.args[0].code() == KafkaError._INVALID_ARG:  # noqa: SLF001 - as above
            text = error.args[0].str()
            named = next((name for name in properties if f'"{name}"' in text), "")
            raise SettingsError(text, setting=f"kafka.extra.{named}".rstrip(".")) from None
        raise


def require_topics(client: Consumer | Producer, bootstrap_servers: str, topics: Iterable[str]) -> list[Partition]:
    """Checks that a client's cluster answers and has these topics, and returns their partitions.

    It also opens the connections: the first record of an idle producer would wait a second for them.

    Raises:
        TopicMissing: a topic is missing; the message says how to create it.
        DependencyDown: the cluster does not answer.
    """
    try:
        known = client.list_topics(timeout=_METADATA_TIMEOUT_S).topics
    except KafkaException as error:
        client.poll(0)  # hands over the reasons
        silent = error.args[0].code() in BLIND and not str(REASONS)
        silence = f"{bootstrap_servers} did not answer in {_METADATA_TIMEOUT_S:g} s"
        raise DependencyDown("kafka", silence if silent else explain(error.args[0], bootstrap_servers)) from None
    wanted = sorted(set(topics))
    missing = [topic for topic in wanted if topic not in known]
    if missing:
        raise TopicMissing(
            "kafka",
            # Of a topic that a user may not describe, brokers do not say whether it is there.
            f"{bootstrap_servers}: no topic {', '.join(missing)}; create it with `photo-tagger topics`, "
            f"or let this user see it",
        )
    for topic in wanted:
        if (refusal := known[topic].error) is not None:
            raise DependencyDown("kafka", explain(refusal, f"{bootstrap_servers}: topic {topic}"))
    return [(topic, partition) for topic in wanted for partition in sorted(known[topic].partitions)]


@contextmanager
def kafka_failures() -> Iterator[None]:
    """Maps the client's exceptions.

    Yields:
        Nothing.

    Raises:
        DependencyDown: Kafka did not answer or refused; the message has its reason.
    """
    try:
        yield
    except KafkaException as error:
        raise DependencyDown("kafka", explain(error.args[0])) from None


def explain(error: KafkaError, about: str = "") -> str:
    """One line on a Kafka error: the brokers' reasons, where it says nothing of them; else its text, behind `about`.

    What a user may not do is told with the servers, and where its permissions are listed; of a record's time, which is
    this machine's, what may be wrong with it.
    """
    if error.code() in BLIND and (reasons := str(REASONS)):
        return f"{reasons} ({error.name()})"
    text = ": ".join(filter(None, (about, error.name(), error.str())))
    if error.code() == KafkaError.INVALID_TIMESTAMP:
        return f"{text}; perhaps the clock of this machine, or the broker's, is wrong: see photo-tagger doctor"
    if error.code() not in FORBIDDEN:
        return text
    servers = "" if REASONS.servers in text else f"{REASONS.servers}: "
    return f"{servers}{text.rstrip('.')}; docs/how-to/secure.md lists the permissions"


def answer_of(error: KafkaError | None, message: Message) -> Source | KafkaError:
    """Where the brokers stored a record, or why it may not be stored.

    An acknowledgement without an offset is none: librdkafka gives it to a batch that it has to send again once one
    behind it was stored. A broker that does not know the producer yet stores that one though the first is missing.
    """
    if error is None and message.offset() is None:
        return KafkaError(KafkaError.UNKNOWN, "acknowledged without an offset, so it may not be stored")
    return error or Source(*coordinates(message))


def coordinates(message: Message) -> tuple[str, int, int]:
    """Topic, partition and offset; only a message that was not produced yet has None there."""
    return str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)


def record_of(message: Message, epoch: int = 0) -> Record:
    """The record in a message without an error; `epoch` numbers the assignment that delivered it."""
    topic, partition, offset = coordinates(message)
    headers = _headers_of(message)
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        key=message.key(),
        value=message.value(),
        headers=headers or (),
        timestamp_ms=message.timestamp()[1],
        epoch=epoch,
        unreadable=_NO_HEADERS if headers is None else "",
    )


def _headers_of(message: Message) -> Headers | None:
    """The headers; None where the client cannot make text of a name.

    To be called once for a message: after such a failure, a second call returns a list with NULL pointers.
    """
    try:
        return tuple(_read_headers(message) or ())
    except (UnicodeError, SystemError):
        return None


def next_messages(consumer: Consumer, wait_s: float, limit: int) -> list[Message]:
    """Up to `limit` messages as soon as there is one, none after `wait_s`; `consume` alone would wait for all."""
    first = consumer.poll(wait_s)
    if first is None:
        return []
    return [first, *(consumer.consume(limit - 1, 0) if limit > 1 else ())]
