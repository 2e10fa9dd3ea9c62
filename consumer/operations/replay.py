"""Replay: reads a time range of the upload topic again and tags it through the same path and version rule."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from consumer.events import milliseconds
from consumer.kafka.offsets import Partition
from consumer.kafka.ranges import FixedRanges, Range
from consumer.kafka.scan import TopicReader
from consumer.service.construction import Job
from consumer.service.run import Service, StopRequested, stop_on_signal
from consumer.settings import Settings
from consumer.telemetry import Log

_PROGRESS_S: Final = 0.2


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
        "kafka", lambda: asyncio.to_thread(ranges_between, settings, since, until)
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


def ranges_between(settings: Settings, since: datetime, until: datetime) -> dict[Partition, Range]:
    """The offsets of each partition of the uploads topic that were written at or after `since` and before `until`.

    Raises:
        DependencyDown: Kafka does not answer, or the topic is missing.
    """
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [kafka.uploads_topic]) as reader:
        return reader.ranges(since, until)
