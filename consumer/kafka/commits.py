"""Commits of positions: what is stored for librdkafka to commit, what is committed by hand, and what became of it."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from time import monotonic
from types import MappingProxyType
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.kafka import clients, offset_map
from consumer.kafka.headers import Unread
from consumer.kafka.offsets import Commit, OffsetTracker, Partition
from consumer.telemetry import Log, Metrics

_WARN_EVERY_S: Final = 60.0


class _Detail(Enum):
    """How much the commit metadata says; less once the cluster has refused more."""

    ALL = "the finished offsets behind the position are kept"
    TOPIC = "records that are finished behind the position will be repeated after a rebalance"
    NOTHING = "they will be, and a topic that is made anew is not recognised after a restart"


class Commits:
    """The commits of the positions in `tracker`, for the consumer's thread.

    A position counts as committed when the coordinator acknowledged it: refusals are counted, told once a minute,
    and tried again each second. `on_commit` is librdkafka's callback, which runs in the same thread.
    """

    def __init__(self, tracker: OffsetTracker, log: Log, metrics: Metrics) -> None:
        self.tracker = tracker
        self._log = log
        self._metrics = metrics
        self._detail = _Detail.ALL
        self._acknowledged: dict[Partition, int] = {}
        self._sent: dict[Partition, Commit] = {}
        self._refused: set[Partition] = set()
        #: Since when a position is ahead of what was acknowledged, with no acknowledgement in between.
        self._ahead_since_s: dict[Partition, float] = {}
        self._warned_s = -_WARN_EVERY_S
        #: The highest end of each partition's log that was seen since its assignment.
        self.ends: dict[Partition, int] = {}
        #: The end that was seen last, which is lower once records were lost with a leader.
        self.last_ends: dict[Partition, int] = {}

    def assigned(self, partition: Partition, committed: int | None) -> None:
        """A partition was assigned, whose committed position is known or not."""
        self.forget(partition)
        if committed is not None:
            self._acknowledged[partition] = committed

    def forget(self, partition: Partition) -> None:
        """A partition is no longer assigned."""
        for known in (self._acknowledged, self._sent, self._ahead_since_s, self.ends, self.last_ends):
            known.pop(partition, None)
        self._refused.discard(partition)
        topic, number = partition
        self._metrics.lag.labels(topic, str(number)).set(0)
        self._metrics.commit_overdue.labels(topic).set(0)

    def store(self, consumer: Consumer) -> None:
        """Stores what changed; librdkafka commits it on its timer, at a revoke and at the end.

        It does not commit an unchanged position again because its metadata changed, nor a lower one: those are
        committed explicitly, only in the owner thread, and only for partitions that are assigned to this member.
        """
        moved, others = self.tracker.take_commits()
        self._store(consumer, moved)
        # Stored as well: an older stored position would replace the one that is committed here.
        self._commit(consumer, self._store(consumer, others))

    def first(self, consumer: Consumer, positions: Iterable[TopicPartition]) -> None:
        """Commits at once the positions at which a group starts, in one request for all of them."""
        self._commit(consumer, [TopicPartition(entry.topic, entry.partition, entry.offset) for entry in positions])

    def on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """The coordinator answered a commit, or librdkafka gave it up."""
        entries = [entry for entry in partitions if entry.offset >= 0]
        refused = [entry for entry in entries if entry.error is not None] or (entries if error else [])
        for entry in entries:
            partition = (entry.topic, entry.partition)
            if entry not in refused and partition in self.tracker.partitions:
                self._acknowledged[partition] = entry.offset
                self._ahead_since_s.pop(partition, None)
        if refused:
            self._on_refusal(refused[0].error or error, refused)

    def measure(self, consumer: Consumer, told: Mapping[Partition, int] = MappingProxyType({})) -> None:
        """Updates the lag and the age of what is not committed, and lets `store` repeat what was refused.

        `told` are ends of partitions that are not read at the moment, of which librdkafka learns none.
        """
        now_s = monotonic()
        overdue: dict[str, float] = {}
        for partition in self.tracker.partitions:
            topic, number = partition
            committed = self._acknowledged.get(partition)
            with suppress(KafkaException):
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
                if end >= 0:
                    self.last_ends[partition] = end
                if (end := max(end, told.get(partition, -1))) >= 0:
                    self.ends[partition] = max(end, self.ends.get(partition, 0))
                    if committed is not None:
                        self._metrics.lag.labels(topic, str(number)).set(max(0, end - committed))
            if committed == self.tracker.window(partition).position:
                self._ahead_since_s.pop(partition, None)
            else:
                since_s = self._ahead_since_s.setdefault(partition, now_s)
                overdue[topic] = max(overdue.get(topic, 0.0), now_s - since_s)
        for topic in {topic for topic, _ in self.tracker.partitions}:
            self._metrics.commit_overdue.labels(topic).set(overdue.get(topic, 0.0))
        for partition in self._refused:
            self._sent.pop(partition, None)
            self.tracker.refused(partition)
        self._refused.clear()

    def unread(self) -> dict[Partition, Unread]:
        """What of each partition is still to be read, as `measure` saw it."""
        windows = {partition: self.tracker.window(partition) for partition in self.tracker.partitions}
        return {
            partition: Unread(window.epoch, window.next, self.ends.get(partition), window.restored)
            for partition, window in windows.items()
        }

    def _store(self, consumer: Consumer, commits: Mapping[Partition, Commit]) -> list[TopicPartition]:
        """Stores these; returns those that differ from what was stored last."""
        stored = []
        for partition, commit in commits.items():
            shown = self._shown(commit)
            if self._sent.get(partition) == shown:
                continue
            offsets = TopicPartition(*partition, shown.position, shown.metadata)
            try:
                consumer.store_offsets(offsets=[offsets])
            except KafkaException as error:
                # The partition is being revoked: its new owner starts from what was committed.
                self._log.debug("kafka.errored", detail=str(error), topic=partition[0], partition=partition[1])
            else:
                self._sent[partition] = shown
                stored.append(offsets)
        return stored

    def _commit(self, consumer: Consumer, offsets: list[TopicPartition]) -> None:
        if not offsets:
            return
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._on_refusal(error.args[0], offsets)

    def _shown(self, commit: Commit) -> Commit:
        """The commit with as much of its metadata as the cluster takes."""
        if self._detail is _Detail.ALL:
            return commit
        topic_id = offset_map.topic_of(commit.position, commit.metadata) if self._detail is _Detail.TOPIC else ""
        return Commit(commit.position, offset_map.encode(commit.position, (), topic_id))

    def _on_refusal(self, error: KafkaError | None, refused: Sequence[TopicPartition]) -> None:
        if error is None or error.code() == KafkaError._NO_OFFSET:  # noqa: SLF001 - librdkafka's own have no public name
            return
        self._metrics.commits_refused.labels(error.name()).inc()
        self._refused.update((entry.topic, entry.partition) for entry in refused)
        if error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE and self._says_less(refused[0]):
            self._warned_s = -_WARN_EVERY_S
        if monotonic() - self._warned_s < _WARN_EVERY_S:
            return
        self._warned_s = monotonic()
        places = [f"{entry.topic}[{entry.partition}]@{entry.offset}" for entry in refused]
        self._log.warning(
            "commit.refused", detail=clients.explain(error), positions=places, metadata=self._detail.value
        )

    def _says_less(self, refused: TopicPartition) -> bool:
        """Leaves out more of the metadata, unless that was decided since the refused commit was sent."""
        sent = Commit(refused.offset, refused.metadata or "")
        if self._detail is _Detail.NOTHING or self._shown(sent) != sent:
            return False
        self._detail = _Detail.TOPIC if self._detail is _Detail.ALL else _Detail.NOTHING
        return True
