"""Rebuild: restores Redis from the compacted result topic, or compares the two.

Every record is written by the script of the service, so that versions decide and not the order in the topic: a live
service may run meanwhile, and duplicates or late records change nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Final

from consumer import events, versions
from consumer.events import Deletion, Record, Source, Tags
from consumer.kafka.scan import Scan
from consumer.redis import schema
from consumer.redis.store import Difference, Store
from consumer.resilience import Dependencies
from consumer.settings import Settings
from consumer.tags import is_version, parse_time
from consumer.telemetry import Log, Metrics

Decision = Tags | Deletion
Progress = Callable[[int, int], None]
_Handler = Callable[[Store, Sequence[Decision]], Awaitable[Sequence[str]]]

#: The last millisecond of the calendar: a producer may stamp a record with any number.
_LAST_MS: Final = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Erasure:
    """A deletion without a version that can be read, such as the bare null of another program.

    It deletes what was tagged before it.
    """

    photo_id: str
    source: Source
    written_at: datetime
    deleted_at: datetime
    #: Of the result topic.
    partition: int


#: What a record decides, and its partition.
_Read = tuple[Decision | Erasure, int]


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """Counts of the topic's records: `malformed` ones were skipped, the others written or compared.

    `outcomes` counts `written`, `unchanged`, `mended`, `superseded` and `wrong type` in a rebuild (see
    `WriteOutcome`), `same` and each difference in a check.
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


def decision_of(record: Record, note: Callable[[str], None]) -> Decision | Erasure:
    """The tags or the deletion in a record of the result topic; a deletion has no value, but headers.

    A deletion counts even where its headers cannot be read: source and time are then the record's own. `note` is
    called with what could not be read.

    Raises:
        ValueError: it is neither, or of no photo; the message has the reason.
    """
    photo_id = (record.key or b"").decode()
    if not photo_id:
        raise ValueError("the record has no key")
    if record.value is None:
        return _deletion_of(photo_id, record, note)
    tags = events.decode_tags(record.value)
    if tags.photo_id != photo_id:
        raise ValueError(f"key {photo_id!r} is not the photo id {tags.photo_id!r}")
    # What could not be read back from Redis is refused here.
    schema.decision_of(photo_id, schema.fields_of(tags))
    return tags


def _deletion_of(photo_id: str, record: Record, note: Callable[[str], None]) -> Deletion | Erasure:
    version = record.header(events.VERSION_HEADER, "")
    written_at = datetime.fromtimestamp(min(max(record.timestamp_ms, 0), _LAST_MS) / 1000, UTC)
    source, deleted_at = events.source_of(record), written_at
    try:
        source = events.parse_source(record.header(events.SOURCE_HEADER, ""))
        deleted_at = parse_time(record.header(events.DELETED_AT_HEADER, ""))
    except ValueError as error:
        note(f"the deletion is restored, but {error}")
    if is_version(version):
        return Deletion(photo_id, version, source, deleted_at)
    note(f"the deletion deletes what was tagged before it, since version {version!r} cannot be compared")
    return Erasure(photo_id, source, written_at, deleted_at, record.partition)


async def _deletions(store: Store, erasures: Mapping[str, Erasure], *, at_end: bool) -> dict[str, Deletion | None]:
    """The deletions of what Redis still holds though it was erased; None where nothing is to be deleted.

    Redis keeps whole seconds: what was tagged in the second of its erasure waits for the end of the topic, as a later
    record may tell that it was tagged again.
    """
    decided: dict[str, Deletion | None] = {}
    for photo_id, erasure in erasures.items():
        held = await store.in_force(photo_id)
        if not isinstance(held, Tags) or held.tagged_at > erasure.written_at:
            decided[photo_id] = None
        elif at_end or erasure.written_at - held.tagged_at >= timedelta(seconds=1):
            version = versions.above_rescorings(held.version)
            decided[photo_id] = Deletion(photo_id, version, erasure.source, erasure.deleted_at)
    return decided


async def _through(settings: Settings, log: Log, handle: _Handler, progress: Progress) -> RebuildResult:
    began, outcomes, records = monotonic(), Counter[str](), 0
    dependencies = Dependencies(log, Metrics())
    kafka = settings.kafka
    connect = partial(Scan, kafka.bootstrap_servers, kafka.extra, kafka.tags_topic)
    with await dependencies.retry_until_available("kafka", lambda: asyncio.to_thread(connect)) as scan:
        log.info("rebuild.started", topic=kafka.tags_topic, offsets=scan.total)
        async with Store(**settings.redis.model_dump()) as store:
            progress(0, scan.total)
            erasures: dict[str, Erasure] = {}
            while not scan.finished:
                batch = await asyncio.to_thread(scan.read)
                records += len(batch)
                call = partial(_handle_batch, store, _well_formed(batch, log), handle, log, erasures)
                outcomes.update(await dependencies.retry_until_available("redis", call))
                progress(scan.done, scan.total)
            call = partial(_erase, store, handle, log, erasures, at_end=True)
            outcomes.update(await dependencies.retry_until_available("redis", call))
    duration_s, malformed = round(monotonic() - began, 3), records - outcomes.total()
    log.info("rebuild.finished", outcomes=dict(outcomes), malformed=malformed, duration_s=duration_s)
    return RebuildResult(records, malformed, dict(sorted(outcomes.items())), duration_s)


async def _handle_batch(
    store: Store, read: Sequence[_Read], handle: _Handler, log: Log, erasures: dict[str, Erasure]
) -> list[str]:
    """The outcomes of a batch; an erasure that erases nothing has none. May be repeated.

    `erasures` are those that are not decided yet, by photo id; it is changed in place.
    """
    outcomes = await _handled(store, [each for each, _ in read if not isinstance(each, Erasure)], handle, log)
    for each, partition in read:
        if isinstance(each, Erasure):
            erasures[each.photo_id] = each
        elif each.photo_id in erasures and _may_follow(each, partition, erasures[each.photo_id]):
            del erasures[each.photo_id]
    return [*outcomes, *await _erase(store, handle, log, erasures)]


async def _erase(
    store: Store, handle: _Handler, log: Log, erasures: dict[str, Erasure], *, at_end: bool = False
) -> list[str]:
    """The outcomes of the erasures that can be decided, which leave `erasures`."""
    decided = await _deletions(store, erasures, at_end=at_end)
    outcomes = await _handled(store, [each for each in decided.values() if each is not None], handle, log)
    for photo_id in decided:
        del erasures[photo_id]
    return outcomes


def _may_follow(decision: Decision, partition: int, erasure: Erasure) -> bool:
    """Whether a decision, read after an erasure, is tags that can be of after it: not tagged in an earlier second."""
    later = isinstance(decision, Tags) and decision.tagged_at >= erasure.written_at.replace(microsecond=0)
    return later and partition == erasure.partition


async def _handled(store: Store, decisions: Sequence[Decision], handle: _Handler, log: Log) -> list[str]:
    outcomes = [*await handle(store, decisions)]
    for decision, outcome in zip(decisions, outcomes, strict=True):
        if outcome == "wrong type":
            place = f"{schema.photo_key(decision.photo_id)} or of one of its brand indexes"
            detail = f"a key that the tagger did not write is in the place of {place}"
            log.warning("rebuild.record_skipped", photo_id=decision.photo_id, detail=detail)
    return outcomes


def _well_formed(records: Sequence[Record], log: Log) -> list[_Read]:
    """What the records decide, with their partitions; malformed ones are logged and left out."""
    decisions: list[_Read] = []
    for record in records:
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        note = partial(_note, log, place)
        try:
            decisions.append((decision_of(record, note), record.partition))
        except ValueError as error:
            log.warning("rebuild.record_skipped", **place, detail=str(error))
    return decisions


def _note(log: Log, place: dict[str, object], detail: str) -> None:
    log.warning("rebuild.record_incomplete", **place, detail=detail)
