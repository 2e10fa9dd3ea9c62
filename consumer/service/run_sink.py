"""Where the answers of a run go: to its own topic, each beside the tags in force. Nothing else is written."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from consumer import events
from consumer.errors import PhotoRejected, Reason
from consumer.events import Deletion, Photo, PhotoDeleted, PhotoUploaded, Tags, milliseconds
from consumer.imaging.formats import format_of
from consumer.kafka.headers import Delivery
from consumer.kafka.publisher import Publisher
from consumer.redis.store import Store, Written
from consumer.resilience import Deferral
from consumer.runs import answers
from consumer.runs.answers import Answer
from consumer.runs.definition import Run
from consumer.versions import content_in, content_revision

#: For the tags of the live service, and between two looks for them.
_PATIENCE_S: Final = 10.0
_AGAIN_S: Final = 0.2


@dataclass(slots=True)
class _Judged:
    """What is known of a photo in work: one event of a photo is in work at a time."""

    event: PhotoUploaded
    before: Tags | None
    began_s: float = field(default_factory=monotonic)
    format: str | None = None
    took_ms: float = 0.0


class RunSink:
    """The end of the path for a run, for one event loop.

    `pace` is awaited before each photo. Photos whose content is older than what is in force, or that were deleted, are
    skipped: nobody will read an answer about them.
    """

    def __init__(
        self, run: Run, topic: str, store: Store, publisher: Publisher, pace: Callable[[], Awaitable[None]]
    ) -> None:
        self._run = run
        self._ids = frozenset(run.selection.ids)
        self._topic = topic
        self._store = store
        self._publisher = publisher
        self._pace = pace
        self._judged: dict[str, _Judged] = {}

    def letters(self, delivery: Delivery) -> bool:  # noqa: ARG002 - as a replay's
        """What cannot be judged is an answer."""
        return False

    async def wants(self, event: events.Event) -> bool:
        """Whether the photo is among those that the run is over, and its content is in force or newer."""
        if isinstance(event, PhotoDeleted) or not self._run.selection.wants_id(event.photo_id, self._ids):
            return False
        present = await self._store.in_force(event.photo_id)
        revision = content_revision(event.revision, milliseconds(event.uploaded_at))
        if present is not None and content_in(present.version) > revision:
            return False
        if isinstance(present, Deletion) and content_in(present.version) == revision:
            return False
        if not self._run.selection.wants(present):
            return False
        await self._pace()
        self._judged[event.photo_id] = _Judged(event, present if isinstance(present, Tags) else None)
        return True

    def fetched(self, photo: Photo) -> None:
        """Notes the format of a photo."""
        if (judged := self._judged.get(photo.photo_id)) is not None:
            judged.format = format_of(photo.body)

    async def write(self, decision: Tags | Deletion) -> Written:
        """Writes nothing: the answer follows as `result`.

        A run that follows the live topic may be faster than the service, whose tags it is to be compared with: it waits
        for them a little.

        Raises:
            DependencyDown: Redis does not answer.
        """
        judged = self._judged.get(decision.photo_id)
        if judged is not None and not judged.took_ms:
            judged.took_ms = (monotonic() - judged.began_s) * 1000
        if judged is not None and judged.before is None:
            judged.before = await self._tags_in_force(decision.photo_id)
        return Written("written", decision)

    async def _tags_in_force(self, photo_id: str) -> Tags | None:
        deadline = monotonic() + (_PATIENCE_S if self._run.follows else 0)
        while True:
            present = await self._store.in_force(photo_id)
            if present is not None or monotonic() >= deadline:
                return present if isinstance(present, Tags) else None
            await asyncio.sleep(_AGAIN_S)

    async def newer(self, decision: Tags | Deletion) -> None:
        """Nothing overtakes an answer: of two about one photo, the later one counts."""

    async def result(self, decision: Tags | Deletion, delivery: Delivery) -> None:
        """Publishes an answer.

        Raises:
            DependencyDown: the brokers did not acknowledge it.
            RecordRefused: they refuse it for good.
        """
        if isinstance(decision, Tags):
            await self._answer(decision.photo_id, delivery, after=decision)

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> None:  # noqa: ARG002
        """Publishes why a photo could not be judged; no dead letter.

        Of an upload that cannot be read only its key may say which photo was meant.

        Raises:
            DependencyDown: as `result`.
            RecordRefused: as `result`.
        """
        try:
            name = events.parse(delivery.record).photo_id
        except PhotoRejected:
            key = delivery.record.key
            name = events.format_source(delivery.origin) if key is None else key.decode(errors="backslashreplace")
            selection = self._run.selection
            if not selection.wants_id(name, self._ids) or not selection.wants(None):
                return
        await self._answer(name, delivery, reason=reason, detail=detail)

    async def retry(self, delivery: Delivery, deferral: Deferral) -> bool:  # noqa: ARG002
        """A run has no retry topic: what fails in every attempt could not be judged."""
        return False

    async def _answer(
        self, name: str, delivery: Delivery, *, after: Tags | None = None, reason: str | None = None, detail: str = ""
    ) -> None:
        judged = self._judged.get(name)
        event, took_ms = (None, 0.0) if judged is None else (judged.event, judged.took_ms)
        answer = Answer(
            photo_id=name,
            uri=event.uri if event else None,
            uploaded_at=event.uploaded_at if event else None,
            content_rev=content_revision(event.revision, milliseconds(event.uploaded_at)) if event else 0,
            source=delivery.origin,
            before=judged.before if judged else None,
            after=after,
            reason=reason,
            detail=detail,
            format=judged.format if judged else None,
            took_ms=took_ms,
        )
        await self._publisher.answer(self._topic, name.encode(errors="backslashreplace"), answers.encode(answer))
        # Kept until it is acknowledged: the path publishes again what was not.
        self._judged.pop(name, None)
