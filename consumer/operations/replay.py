"""Replay: processes a time range of the upload topic again, by the same pipeline and version rule."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from consumer.events import milliseconds
from consumer.kafka.offsets import Partition
from consumer.kafka.plans import NO_TIME_MS, FixedRanges
from consumer.kafka.scan import TopicReader
from consumer.service.run import Service
from consumer.service.signals import stop_on_signals
from consumer.service.starting import StopRequested
from consumer.service.streams import Job
from consumer.settings import Settings
from consumer.telemetry import Log

_PROGRESS_S: Final = 0.2
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Records in range, how many of them reached each outcome, and whether all did.

    Not complete is a replay that was stopped, or whose records vanished from the topic before they were read.
    """

    total: int
    outcomes: dict[str, int]
    complete: bool


async def replay(
    settings: Settings, log: Log, *, since: datetime, until: datetime, progress: Callable[[int, int], None]
) -> ReplayResult:
    """Processes every record of the upload topic between two times again.

    The end offsets are fixed at the start: later records are left to the live service. Each record from the first one
    in the range of times to that end is looked at, since senders' clocks decide the times and not the order of the log.
    `progress` is called with (finished, total) records; the total falls by those that are found to be of other times.

    Raises:
        SourceFailed: Kafka refuses the consumer.
        ProducerFailed: no Kafka producer can be kept running.
    """
    kafka = settings.kafka
    times_ms = _times_ms(since, until)

    def read_ranges() -> dict[Partition, range]:
        if not times_ms:
            return {}
        with TopicReader(kafka.bootstrap_servers, kafka.extra, [kafka.uploads_topic]) as reader:
            return reader.ranges(None if since <= _BEGINNING else since)

    service = _service(settings, log)
    ranges = await service.dependencies.retry_until_available("kafka", partial(asyncio.to_thread, read_ranges))
    log.info("replay.started", since=since.isoformat(), until=until.isoformat())
    group_id = f"{kafka.group_id}-replay-{milliseconds(since)}-{milliseconds(until)}"
    result = await _replayed(service, settings, FixedRanges(ranges, times_ms), group_id, progress)
    log.info("replay.finished", outcomes=result.outcomes, complete=result.complete)
    return result


async def replay_ranges(
    settings: Settings, log: Log, ranges: Mapping[Partition, range], name: str, progress: Callable[[int, int], None]
) -> ReplayResult:
    """As `replay`, for ranges of offsets of the upload topic; `name` is part of its group's.

    Raises:
        SourceFailed: as `replay`.
        ProducerFailed: as `replay`.
    """
    group_id = f"{settings.kafka.group_id}-replay-{name}"
    return await _replayed(_service(settings, log), settings, FixedRanges(ranges), group_id, progress)


def _service(settings: Settings, log: Log) -> Service:
    """A service that many bad events in a row do not stop: a job ends by itself."""
    unbroken = settings.service.model_copy(update={"dead_letter_limit": 0.0})
    return Service(settings.model_copy(update={"service": unbroken}), log)


async def _replayed(
    service: Service,
    settings: Settings,
    plan: FixedRanges,
    group_id: str,
    progress: Callable[[int, int], None],
) -> ReplayResult:
    progress(0, plan.total)
    job = Job(plan, group_id, settings.service.replay_in_flight, yields=settings.service.replay_yields)
    if plan.total:
        with stop_on_signals(service.stop), suppress(StopRequested):
            async with service.working(job):
                await _until_done(service, plan, progress)
    if service.failure is not None:
        raise service.failure
    outcomes = service.outcomes()
    complete = plan.finished and plan.intact and not service.stopping.is_set()
    return ReplayResult(plan.total, outcomes, complete)


async def _until_done(service: Service, plan: FixedRanges, progress: Callable[[int, int], None]) -> None:
    while not service.stopping.is_set() and not (plan.finished and service.idle):
        with suppress(TimeoutError):
            await asyncio.wait_for(service.stopping.wait(), _PROGRESS_S)
        progress(min(sum(service.outcomes().values()), plan.total), plan.total)


def _times_ms(since: datetime, until: datetime) -> range:
    """The timestamps of records from one time on to before another; a record without one is of the beginning."""
    # Timestamps are cut off to milliseconds: one of the same millisecond was written before `until`.
    end_ms = milliseconds(until) + (1 if until.microsecond % 1000 else 0)
    return range(NO_TIME_MS if since <= _BEGINNING else milliseconds(since), end_ms)
