"""Plans: which records a source reads, a share of a topic with the consumer group or fixed ranges of offsets."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumer.kafka import starts
from consumer.kafka.offsets import Partition

if TYPE_CHECKING:
    from consumer.kafka.source import Source

#: Kafka's timestamp of a record that has none.
NO_TIME_MS: Final = -1
_AGAIN_S: Final = 1.0
#: Under KIP-848 a member that gets no partition is told nothing; an assignment takes a few seconds.
_STANDBY_S: Final = 10.0


class Plan(ABC):
    """Which records a source reads: all that it is assigned, unless a subclass says less. Called in its thread alone.

    `properties` are librdkafka's settings that the plan needs, `topics` those that it reads.
    """

    # The end of the log is needed: markers, and what compaction removed, can be all that is left before it.
    properties: Mapping[str, object] = {"enable.partition.eof": True}
    topics: Sequence[str]

    @abstractmethod
    def begin(self, consumer: Consumer, source: "Source") -> None:
        """Subscribes or assigns; called once."""

    @property
    def waiting(self) -> bool:
        """Whether partitions are not read yet, because it is not known from where."""
        return False

    def attend(self, consumer: Consumer, source: "Source") -> None:  # noqa: B027 - for subclasses
        """Called in each turn of the thread."""

    def accepts(self, partition: Partition, offset: int, timestamp_ms: int) -> bool:  # noqa: ARG002 - for subclasses
        """Whether this record is part of the plan."""
        return True

    def next_of(self, partition: Partition, read: int | None) -> int | None:  # noqa: ARG002 - for subclasses
        """The offset that is read next, where `read` is that after the last record; None where no more is wanted."""
        return read

    def delivered(self, partition: Partition, offset: int) -> None:  # noqa: B027 - a live topic keeps no count
        """An accepted record is in flight."""

    def ended(self, partition: Partition, end: int) -> None:  # noqa: B027 - a live topic has no end
        """The end of a partition's log was reached."""

    def restarted(self, partition: Partition) -> None:  # noqa: B027 - a live topic goes on
        """The position in a partition was none, and reading began elsewhere."""

    def gone(self, topic: str) -> None:  # noqa: B027 - a live topic may be created again
        """A topic was deleted."""


class Subscription(Plan):
    """Reads what the group assigns to this member, from the committed positions on.

    `first_position` (`earliest` or `latest`) is where a group starts that has no position in the topic at all, unless
    it `ran_before`; an `instance_id` makes the membership static. It joins the group once `after` is true.
    """

    def __init__(
        self,
        topic: str,
        first_position: str,
        *,
        group_protocol: str = "classic",
        instance_id: str = "",
        ran_before: Callable[[], bool] = lambda: False,
        after: Callable[[], bool] = lambda: True,
    ) -> None:
        self._starts = starts.Starts(topic, from_end=first_position == "latest", ran_before=ran_before)
        self._after = after
        self._subscribed = False
        self._stands_by_s = inf
        #: Whether it was assigned partitions, or none, and knows their positions.
        self.begun = False
        self._unknown: dict[Partition, TopicPartition] = {}
        self._again_s = 0.0
        static = {"group.instance.id": instance_id} if instance_id else {}
        self.properties = {**Plan.properties, "group.protocol": group_protocol, **static}
        self.topics = [topic]

    @property
    def waiting(self) -> bool:
        """Whether the positions of assigned partitions are still to be asked."""
        return bool(self._unknown)

    def begin(self, consumer: Consumer, source: "Source") -> None:
        """Joins the group, as soon as it may; the callbacks run inside `poll`.

        They ask nothing: some calls (`list_topics`) end the process if another callback follows in the same `poll`.
        """
        if not self._after():
            return
        self._subscribed = True
        if self.properties["group.protocol"] == "consumer":
            self._stands_by_s = monotonic() + _STANDBY_S

        def on_assign(_: Consumer, partitions: list[TopicPartition]) -> None:
            self._unknown.update({(entry.topic, entry.partition): entry for entry in partitions})
            self._again_s = 0.0
            # Without a call the client would assign them all.
            consumer.incremental_assign([])
            if not self._unknown:
                self.begun = True
                source.assigned(consumer, [])

        def on_revoke(_: Consumer, partitions: list[TopicPartition]) -> None:
            held = self._held(partitions)
            source.revoked(consumer, held)
            consumer.incremental_unassign(held)

        def on_lost(_: Consumer, partitions: list[TopicPartition]) -> None:
            held = self._held(partitions)
            source.lost(held)
            consumer.incremental_unassign(held)

        consumer.subscribe([self.topics[0]], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)

    def attend(self, consumer: Consumer, source: "Source") -> None:
        """Begins to read partitions that were assigned."""
        if not self._subscribed:
            self.begin(consumer, source)
        if not self.begun and not self._unknown and monotonic() > self._stands_by_s:
            self.begun = True
            source.assigned(consumer, [])
        if self._unknown and monotonic() > self._again_s:
            self._assign(consumer, source)

    def _held(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Those of the partitions that are read; the others are not waited for any more."""
        unknown = [entry for entry in partitions if self._unknown.pop((entry.topic, entry.partition), None) is not None]
        return [entry for entry in partitions if entry not in unknown]

    def _assign(self, consumer: Consumer, source: "Source") -> None:
        """Begins to read the assigned partitions, each from its position; without an answer, none until there is one.

        librdkafka would otherwise choose a position by itself, or stop.
        """
        began_s = monotonic()
        try:
            positions, first = self._starts.of(consumer, list(self._unknown.values()))
        except KafkaException as error:
            source.delayed(error.args[0])
            # A call that waited in vain held up the other partitions: they get as much time before the next.
            self._again_s = monotonic() + max(_AGAIN_S, monotonic() - began_s)
            return
        self._unknown.clear()
        consumer.incremental_assign(positions)
        source.assigned(consumer, positions, first)
        self.begun = True


class GroupRanges(Subscription):
    """Reads the group's share of ranges; the group's positions at their beginnings are committed.

    Of these, only records with a timestamp in `times_ms` are part of it. Kafka forgets the positions of a group that is
    idle for some days: then what lies before the ranges is passed over.
    """

    def __init__(self, topic: str, ranges: Mapping[Partition, range], times_ms: range | None) -> None:
        super().__init__(topic, "earliest")
        self._ranges = ranges
        self._times_ms = times_ms

    def accepts(self, partition: Partition, offset: int, timestamp_ms: int) -> bool:
        """Whether the record lies in its range, and was written in time."""
        within = offset in self._ranges.get(partition, ())
        return within and (self._times_ms is None or timestamp_ms in self._times_ms)

    def next_of(self, partition: Partition, read: int | None) -> int | None:
        """As any plan's, up to the end of the range."""
        offsets = self._ranges.get(partition, range(0))
        return None if read is None or read >= offsets.stop else read


class FixedRanges(Plan):
    """Reads ranges of offsets once, outside any group assignment; `finished` when all were read to their ends.

    Of these, only records with a timestamp in `times_ms` are part of it: the order of a log is not that of its times.
    """

    def __init__(self, ranges: Mapping[Partition, range], times_ms: range | None = None) -> None:
        self._unfinished = {partition: offsets for partition, offsets in ranges.items() if offsets}
        self._ranges = ranges
        self._times_ms = times_ms
        self._next = {partition: offsets.start for partition, offsets in self._unfinished.items()}
        self._unread = sum(map(len, self._unfinished.values()))
        self._accepted = 0
        #: Whether every range was in the log while it was read.
        self.intact = True
        self.topics = sorted({topic for topic, _ in ranges})

    @property
    def finished(self) -> bool:
        """Whether every range was read to its end."""
        return not self._unfinished

    @property
    def total(self) -> int:
        """Records of the plan: those found, and all offsets that were not reached yet."""
        return self._accepted + self._unread

    def begin(self, consumer: Consumer, source: "Source") -> None:
        """Assigns the ranges, without joining the group."""
        partitions = [TopicPartition(*partition, offsets.start) for partition, offsets in self._unfinished.items()]
        consumer.incremental_assign(partitions)
        source.assigned(consumer, partitions)

    def accepts(self, partition: Partition, offset: int, timestamp_ms: int) -> bool:
        """Whether the record lies in its range, and was written in time; one behind the range ends it."""
        offsets = self._ranges[partition]
        if offset >= offsets.stop:
            self.ended(partition, offset)
            return False
        wanted = offset in offsets and (self._times_ms is None or timestamp_ms in self._times_ms)
        if not wanted:
            self._pass(partition, offset)
        return wanted

    def next_of(self, partition: Partition, read: int | None) -> int | None:  # noqa: ARG002 - others are passed over
        """The next offset of the range; None at its end."""
        return self._next[partition] if partition in self._unfinished else None

    def delivered(self, partition: Partition, offset: int) -> None:
        """The record counts; the last record of a range ends it."""
        self._accepted += 1
        self._pass(partition, offset)

    def ended(self, partition: Partition, end: int) -> None:
        """Nothing of the range is left; for a while after a change of leader a log may end before that."""
        offsets = self._unfinished.get(partition)
        if offsets is not None and (end >= offsets.stop or not self.intact):
            del self._unfinished[partition]
            self._unread -= offsets.stop - self._next[partition]

    def restarted(self, partition: Partition) -> None:  # noqa: ARG002 - whichever it is
        """What vanished from the range cannot be read any more."""
        self.intact = False

    def gone(self, topic: str) -> None:
        """What was not read of its ranges cannot be read any more."""
        for partition in [each for each in self._unfinished if each[0] == topic]:
            self.intact = False
            self.ended(partition, 0)

    def _pass(self, partition: Partition, offset: int) -> None:
        offsets = self._unfinished.get(partition)
        if offsets is None or offset < self._next[partition]:
            return
        self._unread -= offset + 1 - self._next[partition]
        self._next[partition] = offset + 1
        if offset + 1 == offsets.stop:
            self.ended(partition, offset + 1)
