"""Blocking sends for the command line and the demo: each returns once the brokers have acknowledged the records."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message

from consumer.errors import DependencyDown
from consumer.events import Headers, Source
from consumer.kafka import clients
from consumer.kafka.reasons import REASONS

_TIMEOUT_S: Final = 10.0
_FULL_QUEUE_WAIT_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to send; a `timestamp_ms` of 0 means the time of sending, a `partition` of -1 that of the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0
    partition: int = -1


class Sender:
    """Sends records to topics that exist and waits for the acknowledgements. Blocking, for one thread."""

    def __init__(self, bootstrap_servers: str, extra: clients.Properties, topics: Iterable[str]) -> None:
        """Connects.

        Raises:
            DependencyDown: the cluster does not answer, or one of the topics is missing.
        """
        self._producer = clients.producer_client(bootstrap_servers, extra)
        clients.require_topics(self._producer, bootstrap_servers, topics)

    def send(self, records: Iterable[NewRecord], timeout_s: float = _TIMEOUT_S) -> list[Source]:
        """Sends records and returns where each was stored, in their order.

        Raises:
            DependencyDown: the brokers refused some, or did not acknowledge all within `timeout_s`. Others may be
                stored; none is sent after this.
        """
        stored, count, errors = self._attempt(records, timeout_s)
        if len(stored) < count:
            reason = _reason(errors, timeout_s)
            raise DependencyDown("kafka", f"{reason} ({count - len(stored)} of {count} records)")
        return [stored[number] for number in range(1, count + 1)]

    def takes(self, record: NewRecord) -> bool:
        """Sends one record; False where it is refused for its own sake, such as its size, for good.

        Raises:
            DependencyDown: as `send`.
        """
        stored, _, errors = self._attempt([record], _TIMEOUT_S)
        if not stored and errors and errors[0].code() in clients.FOR_THE_RECORD:
            return False
        if not stored:
            raise DependencyDown("kafka", _reason(errors, _TIMEOUT_S))
        return True

    def _attempt(
        self, records: Iterable[NewRecord], timeout_s: float
    ) -> tuple[dict[int, Source], int, list[KafkaError]]:
        """Sends records; returns the place of each that is stored, by its number, how many there are, and errors."""
        deadline = monotonic() + timeout_s
        stored: dict[int, Source] = {}
        refusals: list[KafkaError] = []

        def delivered(number: int, error: KafkaError | None, message: Message) -> None:
            answer = clients.answer_of(error, message)
            if isinstance(answer, Source):
                stored[number] = answer
            else:
                refusals.append(answer)

        count, faults = 0, list[KafkaError]()
        try:
            for record in records:
                count += 1
                faults += self._produce(record, partial(delivered, count), deadline)
        except KafkaException as error:
            faults.append(error.args[0])
        faults += clients.await_answers(self._producer, deadline - monotonic())
        errors = [*faults, *refusals]
        if len(stored) + len(refusals) < count:
            # The caller is told that those without an answer failed, so none may be sent later.
            self._producer.purge()
            clients.await_answers(self._producer, 0)
        return stored, count, errors

    def _produce(self, record: NewRecord, on_delivery: Callable[..., None], deadline: float) -> list[KafkaError]:
        """Queues a record, waiting until the deadline while librdkafka's queue is full; returns fatal errors."""
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    headers=list(record.headers),
                    timestamp=record.timestamp_ms,
                    partition=record.partition,
                    on_delivery=on_delivery,
                )
            except BufferError:
                if monotonic() >= deadline:
                    return []
                self._producer.poll(_FULL_QUEUE_WAIT_S)
            else:
                return clients.await_answers(self._producer, 0)


def _reason(errors: list[KafkaError], timeout_s: float) -> str:
    """Why a record is not stored, as far as known: a producer that has ended says so without its reason."""
    told = [error for error in errors if error.code() != KafkaError._FATAL] or errors  # noqa: SLF001 - it has no public name
    return clients.explain(told[0]) if told else str(REASONS) or f"no acknowledgement within {timeout_s:g} s"
