"""Records in, offsets out: one thread owns the Kafka consumer, and every call on it happens there.

The thread polls for at most 50 ms, hands records over, and takes completions back through a queue. While the window is
full it waits for a completion; a second later it pauses the partitions and polls again, because a group member that
does not poll loses its partitions, and resumes at half of the window. Only positions below which every record has an
outcome are stored, and librdkafka commits what is stored.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.errors import SourceFailed
from consumer.events import Record
from consumer.kafka import clients, offset_map
from consumer.kafka.backpressure import Backpressure, Flag
from consumer.kafka.clients import coordinates, next_messages, record_of
from consumer.kafka.headers import Delivery, DeliveryReader
from consumer.kafka.offsets import OffsetTracker, Partition
from consumer.kafka.plans import Plan
from consumer.telemetry import Log, Metrics

_POLL_S: Final = 0.05
_BATCH: Final = 256
_REVOKE_DRAIN_S: Final = 5.0
_LAG_S: Final = 1.0
_STORE_S: Final = 0.25
_ALIVE_S: Final = 10.0

_PERMANENT: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._INVALID_ARG,  # noqa: SLF001 - librdkafka's local errors have no public name
        # How a fatal error (a fenced static member) reaches a consumer: its own `fatal()` is false.
        KafkaError._FATAL,  # noqa: SLF001 - as above
    }
)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A record that was read and has no outcome yet: where it is, for how long, and what it waits for."""

    topic: str
    partition: int
    offset: int
    age_s: float
    waits_for: str


class Source:
    """Reads the records of a plan and commits their offsets.

    `connect` makes the consumer, with further properties; it is called in the owner thread, as everything on it.
    The methods may be called from any thread; `assigned`, `revoked` and `lost` are for the plan, in the owner thread.
    While `suspended`, which sources may share, is set, nothing is delivered.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        connect: Callable[[Mapping[str, object]], Consumer],
        max_in_flight: int,
        suspended: Flag,
        read: DeliveryReader,
        deliver: Callable[[Sequence[Delivery]], None],
        failed: Callable[[SourceFailed], None],
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._plan = plan
        self._connect = connect
        self._read = read
        self._deliver = deliver
        self._failed = failed
        self._log = log
        self._metrics = metrics
        self._tracker = OffsetTracker()
        self._backpressure = Backpressure(self._tracker, max_in_flight, suspended, metrics)
        #: By partition and offset, in the order of the log.
        self._unfinished: dict[Partition, dict[int, Delivery]] = {}
        self._done: deque[Record] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._joined = threading.Event()
        self._brokers_down = False
        self._ticked_s = self._stored_s = self._lag_updated_s = 0.0
        self._thread = threading.Thread(target=self._run, name="kafka-source", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether an assignment (or standby) was received, the brokers answer and the thread polls."""
        return self._joined.is_set() and not self._brokers_down and self.alive

    @property
    def alive(self) -> bool:
        """Whether the thread polled lately."""
        return self._thread.is_alive() and monotonic() - self._ticked_s < _ALIVE_S

    @property
    def in_flight(self) -> int:
        """Records that were read and have no outcome yet."""
        return self._tracker.in_flight

    @property
    def oldest(self) -> Unfinished | None:
        """The record that holds back a partition's position for the longest time; None where none is in flight."""
        heads = []
        for partition in self._tracker.partitions:
            # The owner thread may change it at this moment: then the next look finds it.
            with suppress(StopIteration, RuntimeError):
                heads.append(next(iter(self._unfinished.get(partition, {}).values())))
        if not heads:
            return None
        oldest = min(heads, key=lambda delivery: delivery.wait.since_s)
        record, wait = oldest.record, oldest.wait
        return Unfinished(record.topic, record.partition, record.offset, monotonic() - wait.since_s, wait.what)

    def start(self) -> None:
        """Starts the owner thread."""
        self._ticked_s = monotonic()
        self._thread.start()

    def done(self, record: Record) -> None:
        """A record reached its outcome; its offset may be committed once all before it have one too."""
        self._done.append(record)
        self._wake.set()

    def stop_delivery(self) -> None:
        """Delivers nothing any more; polling and commits go on."""
        self._backpressure.stop()

    def holds(self, record: Record) -> bool:
        """Whether the assignment that delivered the record still lasts; it may have ended a moment ago."""
        return self._tracker.window((record.topic, record.partition)).epoch == record.epoch

    def close(self, timeout_s: float) -> None:
        """Stores the last positions, leaves the group (which commits them) and ends the thread."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with ExitStack() as stack:
            try:
                consumer = self._connect({"error_cb": self._on_error, **self._plan.properties})
                stack.callback(consumer.close)
                self._plan.begin(consumer, self)
                while not self._closing.is_set():
                    self._ticked_s = monotonic()
                    self._settle(consumer)
                    if self._backpressure.waiting:
                        self._wake.wait(_POLL_S)
                        self._wake.clear()
                    else:
                        self._poll(consumer)
                self._settle(consumer)
                self._store(consumer)
            except KafkaException as error:
                self._failed(SourceFailed(f"Kafka consumer: {error.args[0]}"))
            except Exception as bug:  # noqa: BLE001 - if the thread just ended, the service would idle without an error
                self._log.exception("kafka.errored", detail="the Kafka thread ended by a bug")
                self._failed(SourceFailed(f"the Kafka thread ended by a bug: {bug!r}"))

    def _poll(self, consumer: Consumer) -> None:
        messages = next_messages(consumer, _POLL_S, min(self._backpressure.room, _BATCH))
        taken = [delivery for message in messages if (delivery := self._take(consumer, message)) is not None]
        if taken:
            self._deliver(taken)

    def _take(self, consumer: Consumer, message: Message) -> Delivery | None:
        if (error := message.error()) is not None:
            self._on_message_error(consumer, message, error)
            return None
        topic, partition, offset = coordinates(message)
        if not self._plan.accepts((topic, partition), offset):
            return None
        epoch = self._tracker.add((topic, partition), offset)
        self._plan.delivered((topic, partition), offset)
        if epoch is None:
            self._metrics.restored.inc()
            return None
        delivery = self._read(record_of(message, epoch), self)
        self._unfinished.setdefault((topic, partition), {})[offset] = delivery
        return delivery

    def _settle(self, consumer: Consumer) -> None:
        """Takes completions, stores positions, pauses or resumes, updates metrics."""
        while self._done:
            record = self._done.popleft()
            partition = record.topic, record.partition
            if self._tracker.finish(partition, record.offset, record.epoch):
                self._unfinished[partition].pop(record.offset, None)
            else:
                self._metrics.late.inc()
        if monotonic() - self._stored_s > _STORE_S:
            self._store(consumer)
        self._metrics.in_flight.set(self._tracker.in_flight)
        self._backpressure.update(consumer)
        if monotonic() - self._lag_updated_s > _LAG_S:
            self._lag_updated_s = monotonic()
            self._update_lag(consumer)
            if self._brokers_down:
                self._ask_brokers(consumer)

    def _store(self, consumer: Consumer) -> None:
        """Stores what changed; librdkafka commits it on its timer, at a revoke and at the end.

        It does not commit an unchanged position again because its metadata changed, so such a map is committed
        explicitly: only here, in the owner thread, and only for partitions that are assigned to this member.
        """
        self._stored_s = monotonic()
        moved, remapped = self._tracker.take_commits()
        for commits, explicitly in ((moved, False), (remapped, True)):
            for (topic, partition), commit in commits.items():
                offsets = [TopicPartition(topic, partition, commit.position, commit.metadata)]
                try:
                    # Stored as well: an older stored map would replace the one that is committed here.
                    consumer.store_offsets(offsets=offsets)
                    if explicitly:
                        consumer.commit(offsets=offsets, asynchronous=True)
                except KafkaException as error:
                    # The partition is being revoked: its new owner starts from what was committed.
                    self._log.debug("kafka.errored", detail=str(error), topic=topic, partition=partition)

    def _update_lag(self, consumer: Consumer) -> None:
        for topic, partition in self._tracker.partitions:
            position = self._tracker.window((topic, partition)).position
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            if position is not None and high >= 0:
                self._metrics.lag.labels(topic, str(partition)).set(max(0, high - position))

    def _ask_brokers(self, consumer: Consumer) -> None:
        """Asks whether a broker answers again."""
        with suppress(KafkaException):
            consumer.list_topics(timeout=_POLL_S)
            self._set_brokers_down(down=False)

    def assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Partitions were assigned to this member, each with its committed position and map."""
        for entry in partitions:
            self._unfinished.pop(_key(entry), None)
            if entry.offset >= 0:
                done = offset_map.decode(entry.offset, entry.metadata)
                self._tracker.assign(_key(entry), entry.offset, done)
            else:
                self._tracker.assign(_key(entry))
        self._backpressure.opened(consumer, partitions)
        self._joined.set()
        self._metrics.assigned.set(len(self._tracker.partitions))
        self._log.info("assignment.received", partitions=_names(partitions))

    def revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Partitions go to another member: finishes what is in flight within a deadline, then stores positions."""
        keys = list(map(_key, partitions))
        deadline = monotonic() + _REVOKE_DRAIN_S
        while (
            any(self._tracker.window(key).in_flight for key in keys)
            and monotonic() < deadline
            and not self._closing.is_set()
        ):
            self._wake.wait(_POLL_S)
            self._wake.clear()
            self._settle(consumer)
        self._store(consumer)
        self._forget(keys)
        self._log.info("assignment.revoked", partitions=_names(partitions), lost=False)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Partitions belong to another member already: stores nothing and drops late completions."""
        self._forget(list(map(_key, partitions)))
        self._log.warning("assignment.revoked", partitions=_names(partitions), lost=True)

    def _forget(self, keys: Sequence[Partition]) -> None:
        self._backpressure.forget(keys)
        for topic, partition in keys:
            self._tracker.forget((topic, partition))
            self._unfinished.pop((topic, partition), None)
            self._metrics.lag.labels(topic, str(partition)).set(0)
        self._metrics.assigned.set(len(self._tracker.partitions))

    def _on_message_error(self, consumer: Consumer, message: Message, error: KafkaError) -> None:
        topic, partition, _ = coordinates(message)
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local errors have no public name
            self._plan.ended((topic, partition))
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - as above
            self._reset(consumer, topic, partition, clients.explain(error))
        else:
            self._on_error(error)

    def _reset(self, consumer: Consumer, topic: str, partition: int, detail: str) -> None:
        """The position does not exist (retention, a recreated topic): continues from the first record that is left."""
        self._log.error("offsets.reset", topic=topic, partition=partition, detail=detail)
        self._tracker.assign((topic, partition))
        self._unfinished.pop((topic, partition), None)
        # Such a partition has stopped and refuses `seek`, so it is assigned again.
        first = [TopicPartition(topic, partition, OFFSET_BEGINNING)]
        consumer.incremental_unassign(first)
        consumer.incremental_assign(first)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in _PERMANENT:
            self._failed(SourceFailed(clients.explain(error)))
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - as above
            self._set_brokers_down(down=True, detail=error.str())
        else:
            self._log.debug("kafka.errored", detail=clients.explain(error))

    def _set_brokers_down(self, *, down: bool, detail: str = "") -> None:
        if down == self._brokers_down:
            return
        self._brokers_down = down
        self._metrics.dependency_up.labels("kafka").set(not down)
        if down:
            self._log.warning("dependency.lost", dependency="kafka", detail=detail)
        else:
            self._log.info("dependency.recovered", dependency="kafka")


def _key(entry: TopicPartition) -> Partition:
    return entry.topic, entry.partition


def _names(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{partition.topic}[{partition.partition}]" for partition in partitions]
