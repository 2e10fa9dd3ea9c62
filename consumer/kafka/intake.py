"""From what the client hands over, messages and errors in their place, to deliveries. For the consumer's thread."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.events import Record
from consumer.kafka import clients
from consumer.kafka.brokers import Brokers
from consumer.kafka.clients import coordinates, record_of
from consumer.kafka.headers import Delivery
from consumer.kafka.offsets import OffsetTracker, Partition
from consumer.kafka.plans import NO_TIME_MS, Plan
from consumer.kafka.resets import Resets
from consumer.kafka.stalls import Stalls
from consumer.kafka.unfinished import Deliveries, Unfinished
from consumer.kafka.unreadable import Unreadable, unreadable_record
from consumer.telemetry import Log, Metrics


class Intake:
    """Takes the records of a plan into the tracker; `deliver` makes the delivery of one."""

    def __init__(
        self,
        plan: Plan,
        tracker: OffsetTracker,
        unfinished: Deliveries,
        *,
        resets: Resets,
        brokers: Brokers,
        deliver: Callable[[Record], Delivery],
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._plan = plan
        self._tracker = tracker
        self._unfinished = unfinished
        self._resets = resets
        self._brokers = brokers
        self._deliver = deliver
        self._log = log
        self._metrics = metrics
        self._stalls = Stalls()
        self._unreadable = Unreadable()

    @property
    def stalled(self) -> Unfinished | None:
        """The record that Kafka does not give for the longest time; may be asked from any thread."""
        return self._stalls.oldest

    def take(self, consumer: Consumer, messages: Iterable[Message]) -> list[Delivery]:
        """The deliveries of what was polled at once."""
        self._unreadable.turn += 1
        found = (self._delivery_of(consumer, message) for message in messages)
        return [delivery for delivery in found if delivery is not None]

    def starved(self) -> None:
        """Nothing is left to be taken."""
        self._stalls.starved()

    def look(self, ends: Mapping[Partition, int], *, paused: bool) -> None:
        """Sees which partitions stand still; to be called once in a while."""
        reading = () if paused else self._tracker.idle()
        self._stalls.look({key: self._plan.next_of(key, read) for key, read in reading}, ends)

    def _delivery_of(self, consumer: Consumer, message: Message) -> Delivery | None:
        if (error := message.error()) is not None:
            return self._on_error(consumer, message, error)
        topic, number, offset = coordinates(message)
        written_ms = message.timestamp()[1]
        return self._delivery(consumer, (topic, number), offset, written_ms, partial(record_of, message))

    def _delivery(
        self, consumer: Consumer, partition: Partition, offset: int, written_ms: int, read: Callable[[int], Record]
    ) -> Delivery | None:
        """The delivery of a record that `read` makes for its epoch; None if it is not wanted or finished already."""
        if not self._plan.accepts(partition, offset, written_ms):
            self._tracker.window(partition).reach(offset + 1)  # it needs no outcome
            return None
        if (expected := self._tracker.window(partition).next) is not None and offset < expected:
            self._resets.went_back(consumer, partition, offset)
        epoch = self._tracker.add(partition, offset)
        self._plan.delivered(partition, offset)
        if epoch is None:
            self._metrics.restored.inc()
            return None
        delivery = self._deliver(read(epoch))
        self._unfinished.add(delivery)
        return delivery

    def _on_error(self, consumer: Consumer, message: Message, error: KafkaError) -> Delivery | None:
        topic, number, offset = coordinates(message)
        partition = (topic, number)
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local errors have no public name
            self._tracker.window(partition).reach(offset)
            self._plan.ended(partition, offset)
        elif not self._resets.concerns(partition, error):
            self._stalls.failed(partition, clients.explain(error))
            self._brokers.on_error(error)
            return self._pass_over(consumer, partition, error)
        return None

    def _pass_over(self, consumer: Consumer, partition: Partition, error: KafkaError) -> Delivery | None:
        """The next record of a partition, if it can never be read; what follows is read then."""
        offset = self._plan.next_of(partition, self._tracker.window(partition).next)
        if offset is None or not self._unreadable.gives_up(partition, offset, error):
            return None
        try:
            consumer.seek(TopicPartition(*partition, offset + 1))
        except KafkaException as refusal:  # as while it is revoked
            self._log.debug("kafka.errored", detail=str(refusal), topic=partition[0], partition=partition[1])
            return None
        read = partial(unreadable_record, partition, offset, error=clients.explain(error))
        return self._delivery(consumer, partition, offset, NO_TIME_MS, read)
