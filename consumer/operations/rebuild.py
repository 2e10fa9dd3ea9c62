"""Rebuild: restores Redis from the compacted result topic, or compares the two.

Every record is written by the script of the service, so that versions decide and not the order in the topic: a live
service may run meanwhile, and duplicates or late records change nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, datetime
from functools import partial
from time import monotonic

from consumer import events, versions
from consumer.events import Deletion, Record, Tags
from consumer.kafka.scan import Scan
from consumer.redis.store import Difference, Store
from consumer.resilience import Dependencies
from consumer.settings import Settings
from consumer.telemetry import Log, Metrics

Decision = Tags | Deletion
Progress = Callable[[int, int], None]
_Handle = Callable[[Store, Sequence[Decision]], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """Counts of the topic's records: `malformed` ones were skipped, the others written or compared.

    `outcomes` counts `written`, `unchanged` and `superseded` in a rebuild, `same` and each difference in a check.
    """

    records: int
    malformed: int
    outcomes: dict[str, int]
    duration_s: float


async def rebuild(settings: Settings, log: Log, progress: Progress) -> RebuildResult:
    """Writes every tag and tombstone of the result topic to Redis, up to the ends that it has now.

    `progress` is called with (finished, total) offsets. Waits for Redis, and at the start for Kafka and the topic.

    Raises:
        DependencyDown: Kafka refuses the records or stops answering on the way.
    """
    return await _through(settings, log, Store.write_all, progress)


async def check(
    settings: Settings, log: Log, progress: Progress, differs: Callable[[str, Difference], None]
) -> RebuildResult:
    """Compares Redis with every record of the topic; `differs` is called with each photo id and its difference.

    A newer version in Redis is not a difference, since a live service may run meanwhile. Photos in Redis alone are not
    found.

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
    """The tags or the deletion in a record of the result topic; a deletion has no value, but headers.

    Raises:
        ValueError: it is neither; the message has the reason.
    """
    photo_id = (record.key or b"").decode()
    decision = events.decode_tags(record.value) if record.value else _deletion_of(photo_id, record)
    moment = decision.tagged_at if isinstance(decision, Tags) else decision.deleted_at
    if not photo_id or decision.photo_id != photo_id:
        raise ValueError(f"key {photo_id!r} is not the photo id {decision.photo_id!r}")
    if not versions.is_version(decision.version):
        raise ValueError(f"version {decision.version!r} cannot be compared")
    if moment.utcoffset() is None or not 1 < moment.year < MAXYEAR:
        raise ValueError(f"timestamp {moment} is not in UTC")
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
    kafka = settings.kafka
    connect = partial(Scan, kafka.bootstrap_servers, kafka.extra, kafka.tags_topic)
    with await dependencies.retry_until_available("kafka", lambda: asyncio.to_thread(connect)) as scan:
        log.info("rebuild.started", topic=kafka.tags_topic, offsets=scan.total)
        async with Store(**settings.redis.model_dump()) as store:
            progress(0, scan.total)
            while not scan.finished:
                records = await asyncio.to_thread(scan.read)
                decisions = _well_formed(records, log)
                malformed += len(records) - len(decisions)
                if decisions:
                    call = partial(handle, store, decisions)
                    outcomes.update(await dependencies.retry_until_available("redis", call))
                progress(scan.done, scan.total)
    duration_s = round(monotonic() - began, 3)
    log.info("rebuild.finished", outcomes=dict(outcomes), malformed=malformed, duration_s=duration_s)
    return RebuildResult(outcomes.total() + malformed, malformed, dict(sorted(outcomes.items())), duration_s)


def _well_formed(records: Sequence[Record], log: Log) -> list[Decision]:
    """The decisions in the records; malformed ones are logged and left out."""
    decisions = []
    for record in records:
        try:
            decisions.append(decision_of(record))
        except ValueError as error:
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.warning("rebuild.record_skipped", **place, detail=str(error))
    return decisions
