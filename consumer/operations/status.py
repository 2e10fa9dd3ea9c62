"""Everything about one photo: what is in force, and which of its records wait, failed, or were not read yet."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from time import monotonic
from typing import Final, Literal

from consumer import events, versions
from consumer.errors import DependencyDown, PhotoRejected
from consumer.events import Deletion, Event, PhotoDeleted, Record, Tags, source_of
from consumer.kafka.headers import deferral_of
from consumer.kafka.scan import Scan, TopicReader
from consumer.operations import run_log
from consumer.operations.admin import read_tags
from consumer.operations.dead_letters import Query, State, list_letters, written_at
from consumer.operations.lag import behind
from consumer.redis.store import Store
from consumer.service.streams import retry_group
from consumer.settings import Settings

_LOOK_S: Final = 1.0
#: Who waits for tags sent the photo a moment before, and its dead letter may be there already.
_SENT_BEFORE: Final = timedelta(seconds=10)

#: `waiting` in the retry topic, `queued` behind what the service has read; the last letter has no tags after it.
PhotoState = Literal["tagged", "deleted", "waiting", "queued", "dead_letter", "not_seen"]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A record of the photo without an outcome: its place, and for one that waits why, until when, and its attempts."""

    place: str
    sent_at: datetime
    reason: str | None = None
    detail: str | None = None
    until: datetime | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A dead letter of the photo, as `dlq list` shows it."""

    letter_id: str
    reason: str
    detail: str
    failed_at: datetime
    state: State


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a photo; `release` is the number of the release that its tags were decided under."""

    photo_id: str
    state: PhotoState
    in_force: Tags | Deletion | None
    release: int | None
    waiting: tuple[Unfinished, ...]
    queued: tuple[Unfinished, ...]
    letters: tuple[Failed, ...]


def status(settings: Settings, photo_id: str) -> Status:
    """Looks into Redis, the retry topic, what the service has not read yet, and the dead letters.

    Raises:
        DependencyDown: Kafka or Redis does not answer.
    """
    kafka = settings.kafka
    # Bytes of a terminal that are not UTF-8 are in no photo id.
    photo_id = photo_id.encode(errors="backslashreplace").decode()
    present = asyncio.run(_in_force(settings, photo_id))
    waiting = tuple(_waiting(settings, photo_id, present))
    queued = tuple(
        Unfinished(_place(record), written_at(record))
        for record in _unread(settings, kafka.uploads_topic, kafka.group_id, photo_id)
        if _is_newer(record, present)
    )
    letters = tuple(
        Failed(
            each.letter.letter_id,
            each.letter.failure.reason,
            each.letter.failure.detail,
            each.letter.failure.failed_at,
            each.state,
        )
        for each in list_letters(settings, Query(photo_id=photo_id)).letters
    )
    state = _state(present, waiting, queued, letters)
    release = versions.release_in(present.version) if isinstance(present, Tags) else None
    return Status(photo_id, state, present, release, waiting, queued, letters)


def await_tags(
    settings: Settings, photo_ids: Sequence[str], wait_s: float, unreadable: Callable[[str], None]
) -> tuple[dict[str, Tags], dict[str, str]]:
    """The tags of photos, waiting until each has some or a new dead letter; and why those that have one were rejected.

    Who may read Redis alone learns of no dead letter.

    Raises:
        DependencyDown: Redis does not answer.
    """
    began, deadline_s, looked_s = datetime.now(UTC), monotonic() + wait_s, -inf
    rejected: dict[str, str] = {}
    while True:
        found = read_tags(settings, photo_ids, min(_LOOK_S, max(0.0, deadline_s - monotonic())), unreadable)
        missing = [photo_id for photo_id in photo_ids if photo_id not in found]
        if missing and wait_s and monotonic() >= looked_s + _LOOK_S:
            looked_s = monotonic()
            try:
                rejected |= _rejected(settings, missing, began - _SENT_BEFORE)
            except DependencyDown:
                looked_s = inf
        if rejected.keys() >= set(missing) or monotonic() >= deadline_s:
            return found, {photo_id: why for photo_id, why in rejected.items() if photo_id in missing}


def _rejected(settings: Settings, photo_ids: Sequence[str], since: datetime) -> dict[str, str]:
    """Why photos have a dead letter since a time; nothing of the others."""
    wanted = set(photo_ids)
    return {
        each.letter.photo_id: f"{each.letter.failure.reason}: {each.letter.failure.detail}"
        for each in list_letters(settings, Query(since=since)).letters
        if each.letter.photo_id in wanted
    }


def _state(
    present: Tags | Deletion | None,
    waiting: tuple[Unfinished, ...],
    queued: tuple[Unfinished, ...],
    letters: tuple[Failed, ...],
) -> PhotoState:
    if waiting or queued:
        return "waiting" if waiting else "queued"
    if letters and letters[-1].state != "succeeded" and not isinstance(present, Deletion):
        return "dead_letter"
    if present is None:
        return "not_seen"
    return "tagged" if isinstance(present, Tags) else "deleted"


async def _in_force(settings: Settings, photo_id: str) -> Tags | Deletion | None:
    async with Store(**settings.redis.model_dump()) as store:
        return await store.in_force(photo_id)


def _waiting(settings: Settings, photo_id: str, present: Tags | Deletion | None) -> Iterator[Unfinished]:
    """The records of the retry topic, each as it was moved last.

    Yields:
        Those whose content is newer than what is in force: others have their outcome.
    """
    kafka, last = settings.kafka, dict[str, Unfinished]()
    for record in _unread(settings, kafka.retry_topic, retry_group(kafka.group_id), photo_id):
        deferral = deferral_of(record.headers)
        if deferral is not None and _is_newer(record, present):
            last[events.format_source(deferral.origin)] = Unfinished(
                _place(record),
                written_at(record),
                deferral.reason,
                deferral.detail,
                deferral.not_before,
                deferral.attempt,
            )
    yield from last.values()


def _unread(settings: Settings, topic: str, group: str, photo_id: str) -> Iterator[Record]:
    """The records of a photo behind the committed positions of a group, where some may have their outcome already.

    Yields:
        Each, in the order of its partition.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [topic]) as reader:
        unread = behind(reader.ranges(), run_log.positions(kafka, group))
    with Scan(kafka.bootstrap_servers, kafka.extra, topic, ranges=unread) as scan:
        yield from (record for records in scan for record in records if _names(record, photo_id))


def _names(record: Record, photo_id: str) -> bool:
    if record.key is not None:
        return record.key == photo_id.encode()
    event = _event(record)
    return event is not None and event.photo_id == photo_id


def _is_newer(record: Record, present: Tags | Deletion | None) -> bool:
    """Whether the content of a record is newer than what is in force; what cannot be read may be."""
    event = _event(record)
    if present is None or event is None:
        return True
    at = event.deleted_at if isinstance(event, PhotoDeleted) else event.uploaded_at
    return versions.content_revision(event.revision, events.milliseconds(at)) > versions.content_in(present.version)


def _event(record: Record) -> Event | None:
    try:
        return events.parse(record, max_ahead_s=inf)
    except PhotoRejected:
        return None


def _place(record: Record) -> str:
    return events.format_source(source_of(record))
