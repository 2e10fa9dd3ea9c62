"""Replay: processes a part of the upload topic again under the release in force, by the same pipeline and version rule.

It is a run whose answers are the tags: any number of hosts may work on it, and one that is killed loses nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from consumer.errors import SettingsError
from consumer.events import format_time
from consumer.kafka.offsets import Partition
from consumer.kafka.plans import FixedRanges
from consumer.operations import run_log, run_work, runs
from consumer.operations.live_traffic import LiveTraffic
from consumer.operations.promotion import Wish
from consumer.operations.runs import Plan
from consumer.runs.definition import Run
from consumer.service.run import Service
from consumer.service.signals import stop_on_signals
from consumer.service.starting import StopRequested
from consumer.service.streams import Job
from consumer.settings import Settings
from consumer.telemetry import Log

_PROGRESS_S: Final = 0.2
#: For how long ended replays are listed: as long as Kafka keeps the positions of their groups.
_LISTED: Final = timedelta(days=7)
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Records in range, how many of them reached each outcome, and whether all did.

    Not complete is a replay that was stopped.
    """

    total: int
    outcomes: dict[str, int]
    complete: bool


async def begin(settings: Settings, since: datetime, until: datetime, name: str | None = None) -> Run:
    """Writes the run of a replay of the records between two times, whose end offsets are fixed now.

    Ended replays that were started a week or more before it are deleted.

    Each record from the first one in the range of times on is looked at, since senders' clocks decide the times and not
    the order of the log.

    Raises:
        SettingsError: the range ends before it begins.
        ContractMismatch: no release is in force yet, and what is loaded makes none.
        DependencyDown: Kafka or Triton does not answer.
    """
    if until <= since:
        ends = f"the range ends at {format_time(until)}, before it begins at {format_time(since)}"
        raise SettingsError(ends, setting="--to")
    plan = Plan("replay", None if since <= _BEGINNING else since, until)
    run = await runs.prepare(settings, Wish(), plan, "replay", name)
    await asyncio.to_thread(runs.start, settings, run)
    await asyncio.to_thread(run_log.forget_replays, settings.kafka, run.at - _LISTED)
    return run


async def replay(
    settings: Settings, log: Log, *, since: datetime, until: datetime, progress: Callable[[int, int], None]
) -> ReplayResult:
    """Processes every record of the upload topic between two times again; later records are left to the live service.

    `progress` is called with (finished, total) offsets.

    Raises:
        SettingsError: as `begin`.
        SourceFailed: Kafka refuses the consumer.
        ProducerFailed: no Kafka producer can be kept running.
        DependencyDown: as `begin`.
    """
    run = await begin(settings, since, until)
    return await resume(settings, log, run, progress)


async def resume(settings: Settings, log: Log, run: Run, progress: Callable[[int, int], None]) -> ReplayResult:
    """Works on a replay that has begun, maybe with others, as `replay`.

    Raises:
        SourceFailed: as `replay`.
        ProducerFailed: as `replay`.
        DependencyDown: as `replay`.
    """
    log.info("replay.started", run=run.run_id, offsets=run.total)
    progress(0, run.total)
    worked = await run_work.work(settings, log, run, lambda done: progress(done.done, done.total))
    log.info("replay.finished", run=run.run_id, outcomes=worked.outcomes, complete=worked.complete)
    return ReplayResult(run.total, worked.outcomes, worked.complete)


async def replay_ranges(
    settings: Settings, log: Log, ranges: Mapping[Partition, range], name: str, progress: Callable[[int, int], None]
) -> ReplayResult:
    """As `replay`, for ranges of offsets of the upload topic, here alone; `name` is part of its group's.

    Raises:
        SourceFailed: as `replay`.
        ProducerFailed: as `replay`.
    """
    service, plan = run_work.job_service(settings, log), FixedRanges(ranges)
    group_id = f"{settings.kafka.group_id}-replay-{name}"
    progress(0, plan.total)
    live = LiveTraffic(settings)
    yields = live.present if settings.service.replay_yields else None
    job = Job(plan, group_id, settings.service.replay_in_flight, yields=yields)
    if plan.total:
        with stop_on_signals(service.stop), suppress(StopRequested):
            async with service.working(job):
                await _until_done(service, plan, live, progress)
    if service.failure is not None:
        raise service.failure
    outcomes = service.outcomes()
    complete = plan.finished and plan.intact and not service.stopping.is_set()
    return ReplayResult(plan.total, outcomes, complete)


async def _until_done(
    service: Service, plan: FixedRanges, live: LiveTraffic, progress: Callable[[int, int], None]
) -> None:
    look = partial(asyncio.to_thread, live.look)
    while not service.stopping.is_set() and not (plan.finished and service.idle):
        with suppress(TimeoutError):
            await asyncio.wait_for(service.stopping.wait(), _PROGRESS_S)
        await service.dependencies.retry_until_available("kafka", look)
        progress(min(sum(service.outcomes().values()), plan.total), plan.total)
