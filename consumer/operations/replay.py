"""Replay: reads a time range of the upload topic again and tags it through the same path and version rule."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from consumer.errors import DependencyDown
from consumer.events import milliseconds
from consumer.kafka import clients
from consumer.kafka.offsets import Partition
from consumer.kafka.source import Source
from consumer.service.construction import Job
from consumer.service.run import Service, StopRequested, stop_on_signal
from consumer.settings import Settings
from consumer.telemetry import Log

_METADATA_TIMEOUT_S: Final = 10.0
_PROGRESS_S: Final = 0.2
#: Records carry whole milliseconds, cut off: one of this very millisecond was written before a later moment in it.
_ROUND_UP: Final = timedelta(microseconds=999)


@dataclass(frozen=True, slots=True)
class Range:
    """The offsets of one partition that are replayed: `start` inclusive, `end` exclusive."""

    start: int
    end: int


class FixedRanges:
    """A plan that reads given ranges once, outside any group's assignment; `finished` when all were delivered."""

    def __init__(self, ranges: dict[Partition, Range]) -> None:
        self._open = {partition: entry for partition, entry in ranges.items() if entry.start < entry.end}
        self._ranges = ranges
        self.total = sum(max(0, entry.end - entry.start) for entry in ranges.values())
        #: The end of the log may lie before `end` in compacted or aborted stretches, so its event is needed.
        self.properties: dict[str, object] = {"enable.partition.eof": True}

    @property
    def finished(self) -> bool:
        """Whether every range was delivered to its end."""
        return not self._open

    def begin(self, consumer: Consumer, source: Source) -> None:
        """Assigns the ranges; no group member is asked."""
        partitions = [TopicPartition(*partition, entry.start) for partition, entry in self._open.items()]
        consumer.incremental_assign(partitions)
        source.assigned(consumer, partitions)

    def accepts(self, partition: Partition, offset: int) -> bool:
        """Whether the record lies inside its range; one behind it ends the range."""
        inside = offset < self._ranges[partition].end
        if not inside:
            self.ended(partition)
        return inside

    def delivered(self, partition: Partition, offset: int) -> None:
        """The last record of a range ends it."""
        if offset == self._ranges[partition].end - 1:
            self.ended(partition)

    def ended(self, partition: Partition) -> None:
        """Nothing of the range is left."""
        self._open.pop(partition, None)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did: records in range, and how many of them reached each outcome."""

    total: int
    outcomes: dict[str, int]
    complete: bool


async def replay(
    settings: Settings, log: Log, *, since: datetime, until: datetime, progress: Callable[[int, int], None]
) -> ReplayResult:
    """Tags every record of the uploads topic between two times again, and ends.

    The end offsets are fixed at the start, so that records which arrive meanwhile are left to the live service.
    `progress` is called with (finished, total) records.

    Raises:
        SourceFailed: Kafka refuses the consumer.
    """
    # A stretch of bad events must not stop a run that ends by itself.
    unbroken = settings.service.model_copy(update={"dead_letter_limit": 0.0})
    settings = settings.model_copy(update={"service": unbroken})
    service = Service(settings, log)
    group_id = f"{settings.kafka.group_id}-replay-{milliseconds(since)}-{milliseconds(until)}"
    ranges = await service.dependencies.retry_until_available(
        "kafka", lambda: asyncio.to_thread(ranges_between, settings, group_id, since, until)
    )
    plan = FixedRanges(ranges)
    log.info("replay.started", records=plan.total, since=since.isoformat(), until=until.isoformat())
    progress(0, plan.total)
    if plan.total:
        with stop_on_signal(service), suppress(StopRequested):
            async with service.working(Job(plan, group_id, settings.service.replay_in_flight)):
                await _until_done(service, plan, progress)
    if service.failure is not None:
        raise service.failure
    outcomes = service.outcomes()
    complete = plan.finished and not service.stopping.is_set()
    log.info("replay.finished", outcomes=outcomes, complete=complete)
    return ReplayResult(plan.total, outcomes, complete)


async def _until_done(service: Service, plan: FixedRanges, progress: Callable[[int, int], None]) -> None:
    while not service.stopping.is_set() and not (plan.finished and service.idle):
        with suppress(TimeoutError):
            await asyncio.wait_for(service.stopping.wait(), _PROGRESS_S)
        progress(min(sum(service.outcomes().values()), plan.total), plan.total)


def ranges_between(settings: Settings, group_id: str, since: datetime, until: datetime) -> dict[Partition, Range]:
    """The offsets of each partition whose records were written at or after `since` and before `until`.

    Raises:
        DependencyDown: Kafka does not answer, or the topic is missing.
    """
    kafka = settings.kafka
    consumer = clients.consumer_client(kafka.bootstrap_servers, group_id, kafka.extra, {})
    try:
        clients.require_topics(consumer, kafka.bootstrap_servers, [kafka.uploads_topic])
        metadata = consumer.list_topics(kafka.uploads_topic, timeout=_METADATA_TIMEOUT_S)
        partitions = sorted(metadata.topics[kafka.uploads_topic].partitions)
        starts = _offsets_at(consumer, kafka.uploads_topic, partitions, milliseconds(since))
        ends = _offsets_at(consumer, kafka.uploads_topic, partitions, milliseconds(until + _ROUND_UP))
    except KafkaException as error:
        raise DependencyDown("kafka", clients.explain(error.args[0])) from None
    finally:
        consumer.close()
    return {(kafka.uploads_topic, partition): Range(starts[partition], ends[partition]) for partition in partitions}


def _offsets_at(consumer: Consumer, topic: str, partitions: list[int], time_ms: int) -> dict[int, int]:
    """The first offset at or after a time; the present end of the log where there is none."""
    asked = [TopicPartition(topic, partition, time_ms) for partition in partitions]
    answers = consumer.offsets_for_times(asked, timeout=_METADATA_TIMEOUT_S)
    offsets = {}
    for answer in answers:
        if answer.offset in {-1, OFFSET_END}:
            _, offsets[answer.partition] = consumer.get_watermark_offsets(answer, timeout=_METADATA_TIMEOUT_S)
        else:
            offsets[answer.partition] = answer.offset
    return offsets
