"""Where partitions end that are not read at the moment: librdkafka learns the end of what it fetches alone.

A partition that is paused for an hour would otherwise seem to end where it ended when it was paused.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # its types leave one out

from consumer.kafka.offsets import Partition

if TYPE_CHECKING:
    from concurrent.futures import Future

_TIMEOUT_S: Final = 5.0


class Ends:
    """Asks for the ends of partitions, one question at a time; for one thread, which is never held up.

    `connect` makes the client, when something is asked for the first time.
    """

    def __init__(self, connect: Callable[[], AdminClient]) -> None:
        self._connect = connect
        self._client: AdminClient | None = None
        self._asked: Mapping[TopicPartition, Future[Any]] = {}
        self._asked_s = 0.0

    def ask(self, partitions: Iterable[Partition]) -> None:
        """Asks for the ends of these partitions, unless there is a question that may still be answered."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        question = {TopicPartition(*partition): latest for partition in partitions}
        lapsed = monotonic() - self._asked_s > 2 * _TIMEOUT_S
        if question and (lapsed or not self._asked):
            self._asked_s = monotonic()
            with suppress(KafkaException):  # this host has no thread or descriptor left, maybe for a moment
                self._client = self._client or self._connect()
                self._asked = self._client.list_offsets(question, request_timeout=_TIMEOUT_S)

    def take(self) -> dict[Partition, int]:
        """The ends that the brokers have told; none while one is awaited."""
        if not all(answer.done() for answer in self._asked.values()):
            return {}
        answers, self._asked = self._asked, {}
        return {
            (place.topic, place.partition): answer.result().offset
            for place, answer in answers.items()
            if answer.exception() is None
        }

    def forget(self) -> None:
        """What was asked is no longer wanted: the partitions may belong to another log by now."""
        self._asked = {}
