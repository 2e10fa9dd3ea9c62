"""Positions that are no position any more: records that retention took, a log that shrank, a topic made anew.

A topic that was deleted and made anew is recognised by its id, which each commit carries: a position of the old topic
means nothing in the new one, whether or not it lies in its log. The new position is committed by hand, because
librdkafka commits none that is lower than the last.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.kafka import clients
from consumer.kafka.commits import Commits
from consumer.kafka.offsets import Partition, PartitionOffsets
from consumer.kafka.topic_ids import Answer, TopicIds
from consumer.telemetry import Log, Metrics

_ASK_S: Final = 5.0
_SOON_S: Final = 1.0
_BOUNDS_TIMEOUT_S: Final = 2.0
#: So long a reset waits to learn whether the topic was made anew.
_IDENTITY_S: Final = 3.0
_NO_POSITION: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001 - librdkafka's local errors have no public name
_TRUNCATED: Final = KafkaError._LOG_TRUNCATION  # noqa: SLF001 - as above


@dataclass(frozen=True, slots=True)
class Restart:
    """Where a partition goes on, how many offsets vanished unread, and what happened, in words."""

    position: int
    lost: int
    words: str


def restart_of(window: PartitionOffsets, first: int, end: int, *, anew: bool, truncated: bool, old_end: int) -> Restart:
    """Where to go on in a log from `first` to `end`.

    Args:
        window: What was read of the partition, in its old log.
        first: The first offset that the log has.
        end: The offset after its last.
        anew: The topic was deleted and made anew.
        truncated: The brokers say that the log has changed below the position.
        old_end: The last end of the log that is known from before; 0 where none is.
    """
    read = window.next
    if anew:
        return Restart(first, window.unread_below(old_end), "the topic was deleted and made anew")
    if read is None:
        return Restart(first, 0, "there was no position")
    if read < first:
        return Restart(first, window.unread_below(first), f"the records before {first} are gone")
    if read > end or truncated:
        words = f"the log was truncated: it ends at {end}, and was read up to {read}"
        return Restart(first, window.unread_below(old_end), words)
    # What is in flight may have left the log meanwhile.
    position = read if window.position is None else max(window.position, first)
    return Restart(position, 0, "the position is in the log after all")


@dataclass(frozen=True, slots=True)
class _Due:
    detail: str
    reported_s: float
    truncated: bool = False
    anew: bool = False


class Resets:
    """Notices positions that are none, and resets them. For the consumer's thread.

    `topics` are those that may be assigned; `restarted` is called for each partition that begins elsewhere.
    """

    def __init__(
        self,
        commits: Commits,
        ids: TopicIds,
        topics: Sequence[str],
        restarted: Callable[[Consumer, Partition], None],
        *,
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._tracker = commits.tracker
        self._commits = commits
        self._ids = ids
        self._topics = topics
        self._log = log
        self._metrics = metrics
        self._restarted = restarted
        self._due: dict[Partition, _Due] = {}
        self._tried_s = self._asked_s = self._answered_s = 0.0
        #: Answers to earlier questions may be older than what is committed.
        self._assigned_s = 0.0
        self._known: dict[str, str] = {}
        #: What was unread of partitions when they were given up, until their topic is known to be there after that.
        self._left: dict[Partition, int] = {}
        #: Topics that do not exist, by the last answer, and by the last two: one broker may be late to hear of a topic.
        self._absent: frozenset[str] = frozenset()
        self.missing: frozenset[str] = frozenset()

    def assigned(self) -> None:
        """Partitions were assigned: asks anew which topics they belong to."""
        self._assigned_s = monotonic()
        self._asked_s = 0.0

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Partitions are no longer assigned."""
        self._asked_s = 0.0
        for partition in partitions:
            self._due.pop(partition, None)
            end = self._commits.ends.get(partition, 0)
            self._left[partition] = self._tracker.window(partition).unread_below(end)

    def concerns(self, partition: Partition, error: KafkaError) -> bool:
        """Whether an error says that the position of a partition does not exist; that will be reset."""
        if error.code() not in {_NO_POSITION, _TRUNCATED}:
            return False
        self._asked_s = 0.0
        due = _Due(clients.explain(error), monotonic(), truncated=error.code() == _TRUNCATED)
        self._due.setdefault(partition, due)
        return True

    def went_back(self, consumer: Consumer, partition: Partition, offset: int) -> None:
        """An offset was delivered that is below what was read already: the log begins there anew."""
        self._apply(consumer, partition, Restart(offset, 0, "an earlier offset was delivered"), "")

    def attend(self, consumer: Consumer, *, eager: bool) -> float | None:
        """Compares topic ids and resets what is due; asks once a second if `eager`, or while a topic is missing.

        Returns:
            When the question was asked that brokers have answered now; None if there is no such answer.
        """
        now_s = monotonic()
        answer = self._ids.take()
        if answer is not None:
            self._note_missing(answer)
            if answer.asked_s >= self._assigned_s:
                self._compare(answer)
        if now_s - self._asked_s > (_SOON_S if eager or self._due or self._absent else _ASK_S) and not self._ids.asking:
            self._asked_s = now_s
            self._ids.ask(self._topics)
        if self._due and now_s - self._tried_s > _SOON_S / 10:
            self._tried_s = now_s
            self._reset_due(consumer)
        return answer.asked_s if answer is not None and answer.answered else None

    def _note_missing(self, answer: Answer) -> None:
        if not answer.answered:
            return
        missing, self._absent = answer.missing & self._absent, answer.missing
        for topic in missing - self.missing:
            detail = f"topic {topic} was deleted, with what was not read of it; create it with `photo-tagger topics`"
            self._log.error("kafka.errored", detail=detail, topic=topic)
        self.missing = missing

    def _compare(self, answer: Answer) -> None:
        self._answered_s = answer.asked_s
        for topic, current in answer.ids.items():
            self._settle_left(topic, self._known.get(topic, current), current)
        self._known.update(answer.ids)
        for partition in self._tracker.partitions:
            window, current = self._tracker.window(partition), answer.ids.get(partition[0], "")
            if not current or window.topic_id == current:
                continue
            if window.topic_id:
                detail = f"topic {window.topic_id} is now {current}"
                self._due[partition] = _Due(detail, answer.asked_s, anew=True)
            else:
                self._tracker.identify(partition, current)

    def _settle_left(self, topic: str, known: str, current: str) -> None:
        """A deletion takes the partitions and the committed positions away before the topic is there anew."""
        left = {partition: self._left.pop(partition) for partition in list(self._left) if partition[0] == topic}
        if known == current:
            # Another member reads on.
            return
        detail = f"the topic was deleted and made anew: topic {known} is now {current}"
        for (_, number), lost in left.items():
            self._log.error("offsets.reset", topic=topic, partition=number, detail=detail, lost=lost)
            self._metrics.lost.labels(topic).inc(lost)

    def _reset_due(self, consumer: Consumer) -> None:
        for partition, due in list(self._due.items()):
            if self._answered_s < due.reported_s and monotonic() - due.reported_s < _IDENTITY_S:
                continue
            place = TopicPartition(*partition)
            try:
                first, end = consumer.get_watermark_offsets(place, timeout=_BOUNDS_TIMEOUT_S)
            except KafkaException as error:
                # The partition stands still until the broker answers.
                self._tried_s = monotonic() + _SOON_S
                self._log.debug("kafka.errored", detail=str(error), topic=partition[0], partition=partition[1])
                return
            del self._due[partition]
            window, old_end = self._tracker.window(partition), self._commits.ends.get(partition, 0)
            restart = restart_of(window, first, end, anew=due.anew, truncated=due.truncated, old_end=old_end)
            # A stopped partition refuses `seek`, so it is assigned again.
            try:
                consumer.incremental_unassign([place])
                consumer.incremental_assign([TopicPartition(*partition, restart.position)])
            except KafkaException as error:
                self._log.debug("kafka.errored", detail=str(error), topic=partition[0], partition=partition[1])
            else:
                self._apply(consumer, partition, restart, due.detail)

    def _apply(self, consumer: Consumer, partition: Partition, restart: Restart, detail: str) -> None:
        window = self._tracker.window(partition)
        topic, number = partition
        self._log.error(
            "offsets.reset",
            topic=topic,
            partition=number,
            detail=f"{restart.words}; {detail}" if detail else restart.words,
            read_up_to=window.next,
            position=restart.position,
            lost=restart.lost,
        )
        self._metrics.lost.labels(topic).inc(restart.lost)
        self._tracker.assign(partition, restart.position, topic_id=self._known.get(topic, window.topic_id))
        self._commits.assigned(partition, None)
        self._tracker.refused(partition)
        self._commits.store(consumer)
        self._restarted(consumer, partition)
