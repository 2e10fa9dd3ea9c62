"""Records in, offsets out: one thread owns the Kafka consumer, and every call on it happens there.

The thread polls for at most 50 ms, hands records over, and takes completions back through a queue. While the window is
full it waits for some completions; a second later it pauses the partitions and polls again, because a group member that
does not poll loses its partitions, and resumes at half of the window. Only positions below which every record has an
outcome are committed.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.errors import SettingsError, SourceFailed
from consumer.events import Record
from consumer.kafka import clients, offset_map
from consumer.kafka.backpressure import Backpressure, Flag
from consumer.kafka.brokers import Brokers
from consumer.kafka.commits import Commits
from consumer.kafka.ends import Ends
from consumer.kafka.headers import Delivery, DeliveryReader, Unread
from consumer.kafka.intake import Intake
from consumer.kafka.offsets import OffsetTracker, Partition
from consumer.kafka.plans import Plan
from consumer.kafka.resets import Resets
from consumer.kafka.topic_ids import TopicIds
from consumer.kafka.unfinished import Deliveries, Unfinished
from consumer.telemetry import Log, Metrics

_POLL_S: Final = 0.05
#: A full window is filled up with as many records at once (or a quarter of it, if that is less): each wake-up of the
#: thread costs as much as a record. Fewer wait for as long as a poll.
_REFILL: Final = 16
_REFILL_PART: Final = 4
_BATCH: Final = 256
_REVOKE_DRAIN_S: Final = 5.0
_MEASURE_S: Final = 1.0
_STORE_S: Final = 0.25
_ALIVE_S: Final = 10.0


class Source:
    """Reads the records of a plan and commits their offsets.

    `connect` makes the consumer, with further properties; it is called in the owner thread, as everything on it.
    The methods may be called from any thread; those of the plan (`assigned`, `delayed`, `revoked`, `lost`) in the
    owner thread alone. While `suspended`, which sources may share, is set, nothing is delivered.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        connect: Callable[[Mapping[str, object]], Consumer],
        topic_ids: TopicIds,
        ends: Ends,
        max_in_flight: int,
        suspended: Flag,
        read: DeliveryReader,
        deliver: Callable[[Sequence[Delivery]], None],
        failed: Callable[[SourceFailed | SettingsError], None],
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._plan = plan
        self._connect = connect
        self._deliver = deliver
        self._failed = failed
        self._log = log
        self._metrics = metrics
        self._tracker = OffsetTracker()
        self._backpressure = Backpressure(self._tracker, max_in_flight, suspended, metrics)
        self._commits = Commits(self._tracker, log, metrics)
        self._ends = ends
        self._resets = Resets(self._commits, topic_ids, plan.topics, self._restarted, log=log, metrics=metrics)
        self._unfinished = Deliveries()
        self._brokers = Brokers(failed, log, metrics)
        self._intake = Intake(
            plan,
            self._tracker,
            self._unfinished,
            resets=self._resets,
            brokers=self._brokers,
            deliver=lambda record: read(record, self),
            log=log,
            metrics=metrics,
        )
        self._done: deque[Record] = deque()
        self._refill = min(_REFILL, max(1, max_in_flight // _REFILL_PART))
        self._unread: Mapping[Partition, Unread] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._joined = threading.Event()
        self._ticked_s = self._stored_s = self._measured_s = 0.0
        self._thread = threading.Thread(target=self._run, name="kafka-source", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether an assignment (or standby) was received and is read, the brokers answer and the thread polls."""
        return self._joined.is_set() and not self._plan.waiting and not self._brokers.down and self.alive

    @property
    def complaint(self) -> str | None:
        """Which topic there is none of, or that no broker answers, if so."""
        missing = self._resets.missing
        return f"no topic {', '.join(sorted(missing))}" if missing else self._brokers.complaint

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
        """The record that holds back a partition's position for the longest time, in flight or not given by Kafka."""
        found = (self._unfinished.oldest(self._tracker.partitions), self._intake.stalled)
        return max(filter(None, found), key=lambda one: one.age_s, default=None)

    @property
    def unread(self) -> Mapping[Partition, Unread]:
        """What was not read yet, by assigned partition; up to some seconds old."""
        return self._unread

    def start(self) -> None:
        """Starts the owner thread."""
        self._ticked_s = monotonic()
        self._thread.start()

    def done(self, record: Record) -> None:
        """A record reached its outcome; its offset may be committed once all before it have one too."""
        self._done.append(record)
        if len(self._done) >= self._refill:
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
                callbacks = {"error_cb": self._brokers.on_error, "on_commit": self._commits.on_commit}
                consumer = self._connect({**callbacks, **self._plan.properties})
                stack.callback(consumer.close)
                self._plan.begin(consumer, self)
                while not self._closing.is_set():
                    self._ticked_s = monotonic()
                    self._settle(consumer)
                    self._attend(consumer)
                    if self._backpressure.waiting:
                        self._wake.wait(_POLL_S)
                        self._wake.clear()
                    else:
                        self._poll(consumer)
                self._settle(consumer)
                self._store(consumer)
            except SettingsError as wrong:
                self._failed(wrong)
            except KafkaException as error:
                self._failed(SourceFailed(f"Kafka consumer: {error.args[0]}"))
            except Exception as bug:  # noqa: BLE001 - if the thread just ended, the service would idle without an error
                self._log.exception("kafka.errored", detail="the Kafka thread ended by a bug")
                self._failed(SourceFailed(f"the Kafka thread ended by a bug: {bug!r}"))

    def _poll(self, consumer: Consumer) -> None:
        # `consume` alone would wait for all, and it may call back about a rebalance: by then the first is delivered.
        first = consumer.poll(_POLL_S)
        if first is None:
            self._intake.starved()
            return
        self._take(consumer, [first])
        if (more := min(self._backpressure.room, _BATCH - 1)) > 0:
            self._take(consumer, consumer.consume(more, 0))

    def _take(self, consumer: Consumer, messages: Sequence[Message]) -> None:
        if taken := self._intake.take(consumer, messages):
            self._deliver(taken)

    def _settle(self, consumer: Consumer) -> None:
        """Takes completions, stores positions, pauses or resumes, updates metrics."""
        while self._done:
            record = self._done.popleft()
            partition = record.topic, record.partition
            # One of an assignment that has ended, or finished before.
            held = self._tracker.window(partition).holds(record.offset)
            if held and self._tracker.finish(partition, record.offset, record.epoch):
                self._unfinished.finish(partition, record.offset)
            else:
                self._metrics.late.inc()
        if monotonic() - self._stored_s > _STORE_S:
            self._store(consumer)
        self._metrics.in_flight.set(self._tracker.in_flight)
        self._backpressure.update(consumer)
        if monotonic() - self._measured_s > _MEASURE_S:
            self._measured_s = monotonic()
            self._commits.measure(consumer, self._ends.take())
            self._ends.ask(self._backpressure.idle)
            self._unread = self._commits.unread()
            self._intake.look(self._commits.last_ends, paused=self._backpressure.paused)

    def _attend(self, consumer: Consumer) -> None:
        """Does what no message asks for: positions that are unknown or none any more, and brokers that are back."""
        self._plan.attend(consumer, self)
        asked_s = self._resets.attend(consumer, eager=self._brokers.down)
        if asked_s is not None:
            self._brokers.answered(asked_s)
        for topic in self._resets.missing:
            self._plan.gone(topic)

    def _store(self, consumer: Consumer) -> None:
        self._stored_s = monotonic()
        self._commits.store(consumer)

    def assigned(
        self, consumer: Consumer, partitions: Sequence[TopicPartition], first: Sequence[TopicPartition] = ()
    ) -> None:
        """Partitions were assigned to this member, each with its committed position and metadata.

        Those in `first` have none; they are committed now, and so are others in it that are not assigned here.
        """
        for entry in partitions:
            self._unfinished.forget(_key(entry))
            known = entry.offset >= 0
            self._commits.assigned(_key(entry), entry.offset if known and entry not in first else None)
            if known:
                done = offset_map.decode(entry.offset, entry.metadata)
                topic_id = offset_map.topic_of(entry.offset, entry.metadata)
                self._tracker.assign(_key(entry), entry.offset, done, topic_id)
            else:
                self._tracker.assign(_key(entry))
        self._commits.first(consumer, first)
        self._resets.assigned()
        self._ends.forget()
        self._backpressure.opened(consumer, partitions)
        self._joined.set()
        self._metrics.assigned.set(len(self._tracker.partitions))
        self._log.info("assignment.received", partitions=_names(partitions))

    def delayed(self, error: KafkaError) -> None:
        """Partitions are assigned, but Kafka does not say yet from where they are to be read."""
        self._log.warning("kafka.errored", detail=f"positions of the group are asked again: {clients.explain(error)}")

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
        self._resets.forget(keys)
        for key in keys:
            self._tracker.forget(key)
            self._commits.forget(key)
            self._unfinished.forget(key)
        self._metrics.assigned.set(len(self._tracker.partitions))

    def _restarted(self, consumer: Consumer, partition: Partition) -> None:
        """A partition goes on elsewhere in its log, and what was in flight of it no longer counts."""
        self._unfinished.forget(partition)
        self._ends.forget()
        self._backpressure.opened(consumer, [TopicPartition(*partition)])
        self._plan.restarted(partition)


def _key(entry: TopicPartition) -> Partition:
    return entry.topic, entry.partition


def _names(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{partition.topic}[{partition.partition}]" for partition in partitions]
