"""Rebuild: restores Redis from the compacted result topic, or compares the two.

Every record goes through the script that the service writes with, so that versions decide and not the order in the
topic: a live service may run meanwhile, and duplicates or late records take nothing back.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import MAXYEAR, datetime
from functools import partial
from time import monotonic
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from consumer import events, versions
from consumer.errors import DependencyDown
from consumer.events import Deletion, Record, Tags
from consumer.kafka import clients
from consumer.redis.store import Difference, Store
from consumer.resilience import Dependencies
from consumer.settings import Settings
from consumer.telemetry import Log, Metrics

Decision = Tags | Deletion
Progress = Callable[[int, int], None]
_Handle = Callable[[Store, Sequence[Decision]], Awaitable[list[str]]]

_BATCH: Final = 500
_POLL_S: Final = 0.2
_METADATA_TIMEOUT_S: Final = 10.0
#: Results are small and Redis is fast: the service's small prefetch would pause a second whenever it is full.
_AHEAD: Final = {
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.queue.backoff.ms": 20,
}
#: Kafka's client reconnects by itself; a topic that says nothing for so long before its end is given up.
_SILENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """What became of the topic's records: `malformed` ones were skipped, the rest were written or compared.

    `outcomes` counts `written`, `unchanged` and `superseded` after a rebuild, `same` and each difference after a check.
    """

    records: int
    malformed: int
    outcomes: dict[str, int]
    duration_s: float


async def rebuild(settings: Settings, log: Log, progress: Progress) -> RebuildResult:
    """Writes every tag and tombstone of the result topic to Redis, up to the ends that it has now.

    `progress` is called with (finished, total) offsets. Redis is waited for, and Kafka until it has the topic.

    Raises:
        DependencyDown: Kafka refuses the records or falls silent on the way.
    """

    async def write(store: Store, decisions: Sequence[Decision]) -> list[str]:
        return list(await store.write_all(decisions))

    return await _through(settings, log, write, progress)


async def check(
    settings: Settings, log: Log, progress: Progress, differs: Callable[[str, Difference], None]
) -> RebuildResult:
    """Compares Redis with every record of the topic; `differs` is called with the photo and what Redis lacks.

    What is newer in Redis is no difference: a live service may run meanwhile. Photos that Redis alone knows are not
    looked for.

    Raises:
        DependencyDown: as `rebuild`.
    """

    async def compare(store: Store, decisions: Sequence[Decision]) -> list[str]:
        answers = await store.differences(decisions)
        for decision, difference in zip(decisions, answers, strict=True):
            if difference is not None:
                differs(decision.photo_id, difference)
        return [difference or "same" for difference in answers]

    return await _through(settings, log, compare, progress)


def decision_of(record: Record) -> Decision:
    """The tags or the deletion in a record of the result topic; a deletion has no value and stands in the headers.

    Raises:
        ValueError: it is neither; the message says why.
    """
    photo_id = (record.key or b"").decode()
    decision = events.decode_tags(record.value) if record.value else _deletion_of(photo_id, record)
    moment = decision.tagged_at if isinstance(decision, Tags) else decision.deleted_at
    if not photo_id or decision.photo_id != photo_id:
        raise ValueError(f"key {photo_id!r} is not the photo id {decision.photo_id!r}")
    if not versions.is_version(decision.version):
        raise ValueError(f"version {decision.version!r} cannot be compared")
    if moment.utcoffset() is None or not 1 < moment.year < MAXYEAR:
        raise ValueError(f"time {moment} is none in UTC")
    if isinstance(decision, Tags) and not 0 <= decision.quality.score <= 1:
        raise ValueError(f"quality {decision.quality.score} is outside 0..1")
    return decision


def _deletion_of(photo_id: str, record: Record) -> Deletion:
    names = (events.VERSION_HEADER, events.SOURCE_HEADER, events.DELETED_AT_HEADER)
    version, source, deleted_at = (record.header(name, "") for name in names)
    if not (version and source and deleted_at):
        raise ValueError(f"a tombstone needs the headers {', '.join(names)}")
    return Deletion(photo_id, version, events.parse_source(source), datetime.fromisoformat(deleted_at))


async def _through(settings: Settings, log: Log, handle: _Handle, progress: Progress) -> RebuildResult:
    began, outcomes, malformed = monotonic(), Counter[str](), 0
    dependencies = Dependencies(log, Metrics())
    topic = await dependencies.retry_until_available("kafka", lambda: asyncio.to_thread(_ResultTopic, settings))
    with closing(topic):
        log.info("rebuild.started", topic=settings.kafka.tags_topic, offsets=topic.total)
        async with Store(**settings.redis.model_dump()) as store:
            progress(0, topic.total)
            while not topic.finished:
                records = await asyncio.to_thread(topic.read)
                decisions = _well_formed(records, log)
                malformed += len(records) - len(decisions)
                if decisions:
                    outcomes.update(
                        await dependencies.retry_until_available("redis", partial(handle, store, decisions))
                    )
                progress(topic.passed, topic.total)
    duration_s = round(monotonic() - began, 3)
    log.info("rebuild.finished", outcomes=dict(outcomes), malformed=malformed, duration_s=duration_s)
    return RebuildResult(outcomes.total() + malformed, malformed, dict(sorted(outcomes.items())), duration_s)


def _well_formed(records: Sequence[Record], log: Log) -> list[Decision]:
    """The decisions in the records; what is none is logged and left out."""
    decisions = []
    for record in records:
        try:
            decisions.append(decision_of(record))
        except ValueError as error:
            log.warning(
                "rebuild.record_skipped",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                detail=str(error),
            )
    return decisions


class _ResultTopic:
    """The result topic from its beginning to the ends that it has when this is made. Blocking; close it."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        # No group is joined and nothing committed: the id is librdkafka's formality.
        special = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "enable.partition.eof": True, **_AHEAD}
        self._topic = kafka.tags_topic
        self._consumer = clients.consumer_client(
            kafka.bootstrap_servers, f"{kafka.group_id}-rebuild", kafka.extra, special
        )
        try:
            clients.require_topics(self._consumer, kafka.bootstrap_servers, [self._topic])
            self._ends = self._watermarks()
            self._consumer.incremental_assign(
                [TopicPartition(self._topic, partition, OFFSET_BEGINNING) for partition in self._ends]
            )
        except KafkaException as error:
            self.close()
            raise DependencyDown("kafka", clients.explain(error.args[0])) from None
        except DependencyDown:
            self.close()
            raise
        self._left = {partition: end - start for partition, (start, end) in self._ends.items()}
        self._heard_s = monotonic()
        #: Offsets between the beginning and the end; compaction leaves fewer records.
        self.total = sum(self._left.values())

    @property
    def passed(self) -> int:
        """How many of the offsets lie behind."""
        return self.total - sum(self._left.values())

    @property
    def finished(self) -> bool:
        """Whether every partition was read to its end."""
        return not self._left

    def read(self) -> list[Record]:
        """The next records, some hundred at most and none where they are slow.

        Raises:
            DependencyDown: Kafka refuses them or has been silent for too long.
        """
        messages = self._consumer.consume(_BATCH, _POLL_S)
        if messages:
            self._heard_s = monotonic()
        elif monotonic() - self._heard_s > _SILENCE_S:
            raise DependencyDown("kafka", f"{self._topic}: nothing came for {_SILENCE_S:.0f} s")
        records = [self._accept(message) for message in messages]
        return [record for record in records if record is not None]

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()

    def _accept(self, message: Message) -> Record | None:
        partition, offset, error = message.partition() or 0, message.offset() or 0, message.error()
        if error is not None:
            self._on_error(error, partition)
            return None
        if partition not in self._left or offset >= self._ends[partition][1]:
            self._end(partition)
            return None
        self._left[partition] = self._ends[partition][1] - offset - 1
        if not self._left[partition]:
            self._end(partition)
        return Record(
            topic=self._topic,
            partition=partition,
            offset=offset,
            key=message.key(),
            value=message.value(),
            headers=tuple(message.headers() or ()),  # type: ignore[arg-type]  # values are bytes or None as read
        )

    def _on_error(self, error: KafkaError, partition: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local errors have no public name
            self._end(partition)
        elif error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise DependencyDown("kafka", clients.explain(error))

    def _end(self, partition: int) -> None:
        if self._left.pop(partition, None) is not None:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def _watermarks(self) -> dict[int, tuple[int, int]]:
        """First and next offset of each partition that holds records."""
        metadata = self._consumer.list_topics(self._topic, timeout=_METADATA_TIMEOUT_S)
        ranges = {
            partition: self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=_METADATA_TIMEOUT_S
            )
            for partition in metadata.topics[self._topic].partitions
        }
        return {partition: (start, end) for partition, (start, end) in ranges.items() if start < end}
