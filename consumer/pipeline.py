"""The path of one record, from event to commit: `process` is the whole service in short."""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from random import random
from time import time
from typing import Protocol, TypeVar

from consumer import events
from consumer.errors import PhotoHostDown, PhotoRejected, Reason, Retryable
from consumer.events import Deletion, Photo, PhotoDeleted, PhotoUploaded, Pixels, Record, Scores, Source, Tags
from consumer.fetch.hosts import Hosts
from consumer.imaging.formats import ends_early
from consumer.kafka.headers import Delivery
from consumer.redis.score_cache import Judge, judged
from consumer.redis.store import Written
from consumer.resilience import Deferral, Dependencies, RetryingCaller, RetrySchedule
from consumer.telemetry import Log, Metrics, Outcome

T = TypeVar("T")
U = TypeVar("U")

_INTERNAL_DETAIL = "a bug in the tagger, see its log; the photo is unchanged and can be sent again"


class TagStore(Protocol):
    """Where tags are written, by version."""

    async def write(self, decision: Tags | Deletion) -> Written:
        """Writes tags or a tombstone unless the same or a newer version is there."""

    async def newer(self, photo_id: str, version: str) -> Tags | Deletion | None:
        """What is there, if that is newer than `version`."""


class ResultPublisher(Protocol):
    """Where outcomes are published; each call returns when the brokers have acknowledged."""

    async def result(self, decision: Tags | Deletion, delivery: Delivery) -> None:
        """Publishes tags, or that a photo has none any more."""

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> None:
        """Publishes the original record with the reason of its rejection."""

    async def retry(self, delivery: Delivery, deferral: Deferral) -> bool:
        """Publishes the original record to the retry topic; False where it is too large for that."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of the path; `service/construction.py` builds the real ones, tests pass fakes."""

    fetch: Callable[[PhotoUploaded], Awaitable[Photo]]
    prepare: Callable[[Photo], Awaitable[Pixels]]
    infer: Callable[[Pixels], Awaitable[Scores]]
    tag: Callable[[PhotoUploaded, Scores, Source], Tags]
    tombstone: Callable[[PhotoDeleted, Source], Deletion]
    store: TagStore
    publish: ResultPublisher
    #: The scores of a photo: from the cache, or from the judge that is passed in.
    score: Callable[[Photo, Judge], Awaitable[Scores]] = judged


@dataclass(slots=True)
class Tries:
    """The failed attempts of one record, including those before it came from the retry topic."""

    failed: int
    #: The reason of its last deferral.
    waited_for: str = ""

    @classmethod
    def of(cls, delivery: Delivery) -> "Tries":
        """The attempts of earlier rounds, from the retry headers."""
        deferral = delivery.deferral
        return cls(0) if deferral is None else cls(deferral.attempt, deferral.reason)

    def counted(self, step: Callable[[T], Awaitable[U]]) -> Callable[[T], Awaitable[U]]:
        """The step, with its transient failures counted."""

        async def call(value: T) -> U:
            try:
                return await step(value)
            except Retryable:
                self.failed += 1
                raise

        return call


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Takes each record to exactly one outcome, and only then reports it done."""

    steps: Steps
    _: KW_ONLY
    hosts: Hosts
    dependencies: Dependencies
    retry: RetryingCaller
    schedule: RetrySchedule
    log: Log
    metrics: Metrics

    async def process(self, delivery: Delivery, tries: Tries) -> Outcome:
        """Event, photo, scores (known or judged), tags; Redis first, then the result topic, both acknowledged.

        `tries` counts the transient failures on the way.

        Raises:
            PhotoRejected: the photo can never be tagged.
            PhotoHostDown: its host is down, and it must not stay in flight any longer.
            Retryable: it could not be tagged within the budget of attempts.
        """
        event = events.parse(delivery.record)
        if isinstance(event, PhotoDeleted):
            return await self._delete(event, delivery)
        photo = await self._fetch(event, tries)
        try:
            scores = await self.steps.score(photo, partial(self._judge, tries=tries))
        finally:
            photo.drop()
        tags = self.steps.tag(event, scores, delivery.origin)
        written = await self._write(tags)
        if written.outcome == "superseded" or not isinstance(written.in_force, Tags):
            return "superseded"
        await self._publish(written.in_force, delivery)
        return "tagged" if written.outcome == "written" else "unchanged"

    async def handle(self, delivery: Delivery) -> Outcome:
        """Processes one record to its outcome, counts it and marks it done; no failure of a photo raises."""
        tries = Tries.of(delivery)
        try:
            outcome = await self.process(delivery, tries)
        except PhotoRejected as rejected:
            outcome = await self._reject(delivery, rejected.reason, rejected.detail, tries.failed + 1)
        except (Retryable, PhotoHostDown) as spent:
            outcome = await self._defer(delivery, spent, tries.failed)
        except Exception:  # the only broad except: a bug must cost one photo, not the partition
            self.log.exception("photo.failed", **_place(delivery.record))
            outcome = await self._reject(delivery, "internal", _INTERNAL_DETAIL, tries.failed + 1)
        self.metrics.records.labels(outcome).inc()
        if (written_ms := delivery.record.timestamp_ms) > 0:
            self.metrics.event_age_seconds.observe(max(0.0, time() - written_ms / 1000))
        delivery.done()
        return outcome

    async def _fetch(self, event: PhotoUploaded, tries: Tries) -> Photo:
        attempt = tries.counted(self.steps.fetch)
        with self.metrics.stage("fetch"):
            fetch = partial(self.hosts.fetch, event, attempt, self.retry)
            return await self.dependencies.retry_until_available("photos", fetch, waits=self.hosts.patience(event))

    async def _judge(self, photo: Photo, *, tries: Tries) -> Scores:
        """Pixels, then the scores of both models; the bytes are dropped before the wait for Triton."""
        pixels = await self._prepare(photo, tries)
        photo.drop()
        return await self._infer(pixels, tries)

    async def _prepare(self, photo: Photo, tries: Tries) -> Pixels:
        """The pixels; a truncated photo is fetched once more later, when its upload may be complete.

        Raises:
            PhotoRejected: as the step.
            Retryable: `corrupt_image`, the photo is truncated and was not deferred for that yet.
        """
        with self.metrics.stage("prepare"):
            try:
                return await self.steps.prepare(photo)
            except PhotoRejected as rejected:
                deferred = tries.waited_for == "corrupt_image"
                if rejected.reason != "corrupt_image" or deferred or not ends_early(photo.body):
                    raise
                tries.failed += 1
                raise Retryable("corrupt_image", f"{rejected.detail}; the photo stops early") from None

    async def _infer(self, pixels: Pixels, tries: Tries) -> Scores:
        infer = tries.counted(self.steps.infer)
        with self.metrics.stage("infer"):
            return await self.dependencies.retry_until_available("triton", partial(self.retry, infer, pixels))

    async def _write(self, tags: Tags) -> Written:
        with self.metrics.stage("write"):
            written = await self.dependencies.retry_until_available("redis", partial(self.steps.store.write, tags))
        if written.outcome == "written":
            for brand in tags.brands:
                self.metrics.brand_tags.labels(brand.brand, tags.version.split(".")[1]).inc()
        return written

    async def _publish(self, tags: Tags, delivery: Delivery) -> None:
        with self.metrics.stage("publish"):
            await self._announce(tags, delivery)
        place = _place(delivery.record)
        self.log.debug("photo.tagged", photo_id=tags.photo_id, **place, model_version=tags.models)

    async def _delete(self, event: PhotoDeleted, delivery: Delivery) -> Outcome:
        deletion = self.steps.tombstone(event, delivery.origin)
        written = await self.dependencies.retry_until_available("redis", partial(self.steps.store.write, deletion))
        if written.outcome == "superseded" or not isinstance(written.in_force, Deletion):
            return "superseded"
        await self._announce(written.in_force, delivery)
        self.log.debug("photo.deleted", photo_id=event.photo_id, **_place(delivery.record))
        return "deleted"

    async def _announce(self, decision: Tags | Deletion, delivery: Delivery) -> None:
        """Publishes a decision, and then any newer one that Redis holds meanwhile.

        A slow or frozen writer may publish behind a newer one, but the last record of a photo must be what is in force:
        compaction keeps no other. Every writer reads Redis after it published, and a decision is in Redis before it is
        published: so the last one to publish sees the newest. Each round needs a newer version, so this ends.
        """
        while True:
            publish = partial(self.steps.publish.result, decision, delivery)
            await self.dependencies.retry_until_available("kafka", publish)
            look = partial(self.steps.store.newer, decision.photo_id, decision.version)
            newer = await self.dependencies.retry_until_available("redis", look)
            if newer is None:
                return
            decision, place = newer, _place(delivery.record)
            self.log.info("result.overtaken", photo_id=newer.photo_id, **place, version=newer.version)

    async def _defer(self, delivery: Delivery, spent: Retryable | PhotoHostDown, attempt: int) -> Outcome:
        """Sends the record to the retry topic; rejects it after the last round, or where it is too large.

        A photo whose host is down is deferred without limit.
        """
        before, now, jitter = delivery.deferral, datetime.now(UTC), random()  # noqa: S311 - not cryptography
        plan = self.schedule.again if isinstance(spent, PhotoHostDown) else self.schedule.next_after
        later = plan(before, now, jitter)
        if later is None:
            return await self._reject(delivery, spent.reason, spent.detail, attempt)
        number, not_before = later
        if isinstance(spent, Retryable) and spent.retry_after_s is not None:
            not_before = max(not_before, now + timedelta(seconds=spent.retry_after_s))
        deferral = Deferral(spent.reason, spent.detail, attempt, number, not_before, delivery.origin)
        publish = partial(self.steps.publish.retry, delivery, deferral)
        if not await self.dependencies.retry_until_available("kafka", publish):
            return await self._reject(delivery, spent.reason, spent.detail, attempt)
        self.log.info(
            "photo.deferred",
            **_keyed_place(delivery.record),
            reason=spent.reason,
            round=number,
            not_before=events.format_time(not_before),
        )
        return "deferred"

    async def _reject(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> Outcome:
        letter = partial(self.steps.publish.dead_letter, delivery, reason, detail, attempt)
        await self.dependencies.retry_until_available("kafka", letter)
        delivery.wait.rejected = reason
        self.metrics.dead_letters.labels(reason).inc()
        self.log.warning("dead_letter.published", **_keyed_place(delivery.record), reason=reason, detail=detail)
        return "dead_lettered"


def _place(record: Record) -> dict[str, object]:
    """The coordinates of a record, for log lines."""
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _keyed_place(record: Record) -> dict[str, object]:
    """As `_place`, with the record's key for the photo id: the event may be invalid."""
    return {"photo_id": (record.key or b"").decode(errors="replace"), **_place(record)}
