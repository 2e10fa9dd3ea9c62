"""The path of one record, from event to commit: `process` is the whole service in short."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from random import random
from time import time
from typing import Final

from consumer import events
from consumer.contract import Views
from consumer.errors import DependencyDown, PhotoHostDown, PhotoRejected, Reason, RecordRefused, Retryable
from consumer.events import Deletion, Photo, PhotoDeleted, PhotoUploaded, Record, Scores, Tags
from consumer.fetch.fetcher import UNFINISHED
from consumer.fetch.hosts import Hosts
from consumer.fetch.urls import origin_of
from consumer.imaging.formats import ends_early
from consumer.kafka.headers import LONGEST_WAIT, Delivery
from consumer.order_watch import OrderWatch
from consumer.redis.store import Written
from consumer.resilience import Deferral, Dependencies, RetryingCaller, RetrySchedule, StuckRecords
from consumer.shortage import HostResources, Shortage, is_shortage
from consumer.steps import Judgement, Steps, Tries
from consumer.telemetry import Log, Metrics, Outcome

_STUCK_RETRY_S: Final = 30.0
#: Most bytes of a key, and most characters of a failure, that a log line or a state shows.
_SHOWN: Final = 800
#: Reason and detail of a record that steps aside.
_IN_THE_WAY: Final = ("earlier_event", "an earlier event of this photo takes long")
_INTERNAL_DETAIL: Final = "a bug in the tagger, see its log; the photo is unchanged and can be sent again"


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
    stuck: StuckRecords
    order: OrderWatch
    resources: HostResources = field(default_factory=HostResources)
    stuck_retry_s: float = _STUCK_RETRY_S

    async def process(self, delivery: Delivery, tries: Tries) -> Outcome:
        """Event, photo, scores (known or judged), tags; Redis first, then the result topic, both acknowledged.

        `tries` counts the transient failures on the way.

        Raises:
            PhotoRejected: the photo can never be tagged.
            PhotoHostDown: its host is down, and it must not stay in flight any longer.
            Retryable: it could not be tagged within the budget of attempts.
            RecordRefused: Kafka refuses its result for good; Redis has its tags.
        """
        if events.says_nothing(delivery.record):
            return "skipped"
        event = self.steps.parse(delivery.record)
        wants = self.steps.wants
        if wants and not await self.dependencies.retry_until_available("redis", partial(wants, event)):
            return "skipped"
        if delivery.deferral is None:
            self.order.read(delivery.record, event)
        if isinstance(event, PhotoDeleted):
            return await self._delete(event, delivery)
        tags = await self._judged(event, delivery, tries)
        written = await self._write(tags, tries)
        if written.outcome == "superseded" or not isinstance(written.in_force, Tags):
            self.order.superseded(delivery.record, tags, written.in_force)
            return "superseded"
        await self._publish(written.in_force, delivery)
        return "tagged" if written.outcome == "written" else "unchanged"

    async def handle(self, delivery: Delivery) -> Outcome:
        """Processes one record to its outcome, marks it done and counts it; no failure of a photo raises."""
        outcome = await self._outcome(delivery)
        # First of all: a record that is not done holds its partition's position for ever.
        delivery.done()
        self.metrics.records.labels(outcome).inc()
        if delivery.wait.rejected is not None:
            self.metrics.dead_letters.labels(delivery.wait.rejected).inc()
        if (written_ms := delivery.record.timestamp_ms) > 0:
            self.metrics.event_age_seconds.observe(max(0.0, time() - written_ms / 1000))
        return outcome

    async def _outcome(self, delivery: Delivery) -> Outcome:
        """The outcome of a record, once it has one; repeats what failed for want of this host's memory."""
        tries, shortage = Tries.of(delivery), Shortage(self.resources)
        while True:
            try:
                if shortage.failures:
                    await self._wait_out(delivery, shortage)
                if shortage.lasts:
                    return await self._step_aside(delivery, tries, shortage)
                return await self._concluded(delivery, tries)
            except Exception as failure:  # a bug must cost one photo, not the partition
                if not is_shortage(failure):
                    self.log.exception("photo.failed", **_place(delivery.record))
                    return await self._reject(delivery, "internal", _INTERNAL_DETAIL, tries.failed + 1)
                shortage.note(_shown(failure))

    async def _wait_out(self, delivery: Delivery, shortage: Shortage) -> None:
        """Waits for what this host had no more of."""
        wait_s, detail = shortage.wait_s, shortage.detail
        self.log.warning("host.ran_out", **_place(delivery.record), detail=detail, next_s=round(wait_s, 1))
        delivery.wait.what = f"resources of this host, after {detail}"
        await asyncio.sleep(wait_s)
        self.metrics.retries.labels("host_exhausted").inc()

    async def _concluded(self, delivery: Delivery, tries: Tries) -> Outcome:
        """Processes a record, and a failure of its photo or its result to a dead letter or a later attempt."""
        if delivery.wait.steps_aside and await self._postponed(delivery, *_IN_THE_WAY, tries.failed, free=True):
            return "deferred"
        try:
            outcome = await self.process(delivery, tries)
        except PhotoRejected as rejected:
            return await self._reject(delivery, rejected.reason, rejected.detail, tries.failed + 1)
        except RecordRefused as refused:
            return await self._reject(delivery, "result_refused", str(refused), tries.failed + 1)
        except (Retryable, PhotoHostDown) as spent:
            return await self._defer(delivery, spent, tries.failed, free=isinstance(spent, PhotoHostDown))
        if outcome in {"tagged", "unchanged"}:
            self.resources.served += 1
        elif outcome == "skipped":
            self.log.debug("record.skipped", **_place(delivery.record))
        return outcome

    async def _step_aside(self, delivery: Delivery, tries: Tries, shortage: Shortage) -> Outcome:
        """Defers a record that this host had not enough for; it uses up a round only where others were served.

        So a host without memory costs no photo, and a photo that no host here can decode does not go round for ever.
        """
        detail = "no memory, thread or file descriptor left on this host"
        spent = Retryable("host_exhausted", detail)
        return await self._defer(delivery, spent, tries.failed + 1, free=not shortage.others_served)

    async def _fetch(self, event: PhotoUploaded, tries: Tries) -> Photo:
        attempt = tries.counted(self.steps.fetch, f"fetch from {origin_of(event.uri)}")
        with self.metrics.stage("fetch"):
            fetch = partial(self.hosts.fetch, event, attempt, self.retry)
            return await self.dependencies.retry_until_available("photos", fetch, waits=self.hosts.patience(event))

    async def _judged(self, event: PhotoUploaded, delivery: Delivery, tries: Tries) -> Tags:
        """The tags of a photo under the release that is in force once it is fetched.

        Where Triton does not serve that one any more and another came into force, it begins again under the other.

        Raises:
            PhotoRejected: as `process`.
            PhotoHostDown: as `process`.
            Retryable: as `process`.
        """
        while True:
            photo = await self._fetch(event, tries)
            judgement = self.steps.judgement()
            tries.wait.what = "a copy of it that is being judged, or the score cache"
            try:
                scores = await judgement.score(photo, partial(self._judge, judgement, event=event, tries=tries))
                return judgement.tag(event, scores, delivery.origin)
            except DependencyDown:
                # Only Triton's is passed on, and only where it is not waited for.
                tries.wait.what = "another release"
            finally:
                photo.drop()

    async def _judge(self, judgement: Judgement, photo: Photo, *, event: PhotoUploaded, tries: Tries) -> Scores:
        """Pixels, then the scores of both models; the bytes are dropped before the wait for Triton."""
        tries.wait.what = "decode: room for its pixels"
        room = await judgement.room()
        try:
            pixels = await self._prepare(judgement, photo, event, tries)
            photo.drop()
            return await self._infer(judgement, pixels, tries)
        finally:
            room.release()

    async def _prepare(self, judgement: Judgement, photo: Photo, event: PhotoUploaded, tries: Tries) -> Views:
        """The pixels; what cannot be read while its upload may be under way is fetched again later.

        Raises:
            PhotoRejected: as the step.
            Retryable: as the step rejects it, and the upload may be under way, or the photo is truncated and was not
                deferred for that yet.
        """
        tries.wait.what = "decode: its memory and a thread"
        with self.metrics.stage("prepare"):
            try:
                return await judgement.prepare(photo)
            except PhotoRejected as rejected:
                if rejected.reason not in UNFINISHED:
                    raise
                if self.steps.is_under_way(event):
                    why = "its upload may be under way"
                elif tries.waited_for not in UNFINISHED and ends_early(photo.body):
                    why = "the photo stops early"
                else:
                    raise
                tries.failed += 1
                raise Retryable(rejected.reason, f"{rejected.detail}; {why}") from None

    async def _infer(self, judgement: Judgement, pixels: Views, tries: Tries) -> Scores:
        infer = tries.counted(judgement.infer, "infer at triton")
        call = partial(self.retry, infer, pixels)
        with self.metrics.stage("infer"):
            return await self.dependencies.retry_until_available(
                "triton", call, waits=lambda: judgement is self.steps.judgement()
            )

    async def _write(self, tags: Tags, tries: Tries) -> Written:
        tries.wait.what = "write to redis"
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
        delivery.wait.what = "write to redis"
        written = await self.dependencies.retry_until_available("redis", partial(self.steps.store.write, deletion))
        if written.outcome == "superseded" or not isinstance(written.in_force, Deletion):
            self.order.superseded(delivery.record, deletion, written.in_force)
            return "superseded"
        await self._announce(written.in_force, delivery)
        self.log.debug("photo.deleted", photo_id=event.photo_id, **_place(delivery.record))
        return "deleted"

    async def _announce(self, decision: Tags | Deletion, delivery: Delivery) -> None:
        """Publishes a decision, and then any newer one that Redis holds meanwhile.

        A slow or frozen writer may publish behind a newer one, but the last record of a photo must be what is in force:
        compaction keeps no other. Every writer reads Redis after it published, and a decision is in Redis before it is
        published: so the last one to publish sees the newest. Each round needs a newer decision, so this ends.
        """
        while True:
            delivery.wait.what = "publish to kafka, result topic"
            publish = partial(self.steps.publish.result, decision, delivery)
            await self.dependencies.retry_until_available("kafka", publish)
            delivery.wait.what = "read from redis"
            look = partial(self.steps.store.newer, decision)
            newer = await self.dependencies.retry_until_available("redis", look)
            if newer is None:
                return
            decision, place = newer, _place(delivery.record)
            self.log.info("result.overtaken", photo_id=newer.photo_id, **place, version=newer.version)

    async def _defer(
        self, delivery: Delivery, spent: Retryable | PhotoHostDown, attempt: int, *, free: bool
    ) -> Outcome:
        """Sends the record to the retry topic; rejects it after the last round, or where it is too large."""
        after_s = spent.retry_after_s if isinstance(spent, Retryable) else None
        if await self._postponed(delivery, spent.reason, spent.detail, attempt, free=free, after_s=after_s):
            return "deferred"
        return await self._reject(delivery, spent.reason, spent.detail, attempt)

    async def _postponed(
        self, delivery: Delivery, reason: str, detail: str, attempt: int, *, free: bool, after_s: float | None = None
    ) -> bool:
        """Sends the record to the retry topic, until `after_s` at least; False after the last round, or if too large.

        Where that is `free`, as for a photo whose host is down, it uses up no round: the record is deferred without
        limit.
        """
        before, now, jitter = delivery.deferral, datetime.now(UTC), random()  # noqa: S311 - not cryptography
        plan = self.schedule.again if free else self.schedule.next_after
        later = plan(before, now, jitter)
        if later is None:
            return False
        number, not_before = later
        if after_s is not None:
            not_before = max(not_before, now + timedelta(seconds=min(after_s, LONGEST_WAIT.total_seconds())))
        deferral = Deferral(reason, detail, attempt, number, not_before, delivery.origin)
        publish = partial(self.steps.publish.retry, delivery, deferral)
        delivery.wait.what = "publish to kafka, retry topic"
        if not await self.dependencies.retry_until_available("kafka", publish):
            return False
        self.log.info(
            "photo.deferred",
            **_keyed_place(delivery.record),
            reason=reason,
            round=number,
            not_before=events.format_time(not_before),
        )
        return True

    async def _reject(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> Outcome:
        await self._bury(delivery, partial(self.steps.publish.dead_letter, delivery, reason, detail, attempt))
        delivery.wait.rejected = reason
        about = {**_keyed_place(delivery.record), "reason": reason, "detail": detail}
        if self.steps.letters(delivery):
            self.log.warning("dead_letter.published", **about)
        else:
            self.log.warning("photo.not_judged", **about)
        return "dead_lettered"

    async def _bury(self, delivery: Delivery, letter: Callable[[], Awaitable[None]]) -> None:
        """Publishes a dead letter; while Kafka refuses even that, says so loudly and tries again, for ever.

        The topic can be mended, and a record that was given up here would be lost in silence.
        """
        delivery.wait.what = "publish to kafka, dead-letter topic"
        try:
            while (why := await self._refusal(delivery, letter)) is not None:
                delivery.wait.what = f"the dead-letter topic, which does not take it: {why}"
                self.stuck.note(delivery.record, why)
                self.log.error("record.stuck", **_keyed_place(delivery.record), detail=why, next_s=self.stuck_retry_s)
                await asyncio.sleep(self.stuck_retry_s)
        finally:
            self.stuck.forget(delivery.record)

    async def _refusal(self, delivery: Delivery, letter: Callable[[], Awaitable[None]]) -> str | None:
        """Publishes a dead letter; why it is refused, where it is."""
        try:
            await self.dependencies.retry_until_available("kafka", letter)
        except RecordRefused as refused:
            return _shown(refused)
        except Exception as bug:  # as in `_outcome`, whose last way out this is
            if not is_shortage(bug):
                self.log.exception("photo.failed", **_place(delivery.record))
            return _shown(bug)
        return None


def _place(record: Record) -> dict[str, object]:
    """The coordinates of a record, for log lines."""
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _keyed_place(record: Record) -> dict[str, object]:
    """As `_place`, with the record's key for the photo id: the event may be invalid."""
    return {"photo_id": (record.key or b"")[:_SHOWN].decode(errors="replace"), **_place(record)}


def _shown(failure: Exception) -> str:
    """A failure in a line; bounded, because a text of Kafka or of a bug may quote a record."""
    return f"{type(failure).__name__}: {failure}"[:_SHOWN]
