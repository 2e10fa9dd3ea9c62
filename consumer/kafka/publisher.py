"""Publishes results, tombstones, retries and dead letters, and awaits the acknowledgement of each."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol, Self

from consumer import events
from consumer.errors import ProducerFailed, Reason, RecordRefused
from consumer.events import Deletion, Headers, Record, Source, Tags
from consumer.kafka.clients import kafka_failures, require_topics
from consumer.kafka.headers import (
    VALUE_OMITTED,
    VALUE_SHA256,
    Delivery,
    Failure,
    cloud_event_headers,
    dead_headers,
    keys_of_letters,
    retry_headers,
    sha256_of,
)
from consumer.kafka.outbox import Connect, Outbox
from consumer.kafka.registry import Registry, subjects
from consumer.kafka.sender import NewRecord
from consumer.resilience import Deferral
from consumer.telemetry import Log
from consumer.topic_names import TopicNames

_SOURCE: Final = "/photo-tagger"
#: The longest detail of a dead letter that must fit in any topic.
_SHORT_DETAIL: Final = 100


class Traced(Protocol):
    """What a result is of: a delivery, or an answer of a run, which has no trace."""

    @property
    def trace(self) -> Headers:
        """The sender's W3C trace context."""


class Publisher:
    """Produces to the result, retry and dead-letter topics. A context manager inside a running event loop.

    `connect` makes the producers; `failed` is called, from any thread, when none can be kept running. With a
    `registry`, results name their schema, once `find_schema` has asked for it.
    """

    def __init__(
        self,
        connect: Connect,
        topics: TopicNames,
        *,
        failed: Callable[[ProducerFailed], None],
        log: Log,
        registry: Registry | None = None,
    ) -> None:
        self._outbox = Outbox(connect, failed=failed, log=log)
        self._topics = topics
        self._registry = registry
        #: What stands before each result.
        self._frame = b""

    def __enter__(self) -> Self:
        self._outbox.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._outbox.close()

    @property
    def alive(self) -> bool:
        """Whether acknowledgements are served."""
        return self._outbox.alive

    async def require_topics(self, bootstrap_servers: str) -> None:
        """Checks that the cluster answers and has the topics that are read and written.

        Raises:
            DependencyDown: it does not answer, or a topic is missing; the message says how to create it.
        """
        await asyncio.to_thread(require_topics, self._outbox.producer, bootstrap_servers, self._topics.required)

    async def find_schema(self) -> None:
        """Asks the registry, where there is one, for the schema of the results.

        Raises:
            DependencyDown: it does not answer, or has none that they follow.
        """
        if self._registry is not None:
            subject = subjects(self._topics)[events.TAGGED]
            self._frame = await asyncio.to_thread(self._registry.frame, subject, events.TAGGED)

    def record_of(self, decision: Tags | Deletion) -> NewRecord:
        """The record of a result, without a trace."""
        return result_record(self._topics.tags, decision, self._frame)

    async def ping(self, patience_s: float) -> None:
        """Checks that the cluster answers.

        By a question for one topic: librdkafka 2.16 ends the process when a description of the cluster is not answered.

        Raises:
            DependencyDown: it does not.
        """
        with kafka_failures():
            await asyncio.to_thread(self._outbox.producer.list_topics, self._topics.tags, timeout=patience_s)

    async def result(self, decision: Tags | Deletion, delivery: Traced) -> None:
        """Publishes `photo.tagged`, or for a deletion an empty value, after which compaction drops the photo's records.

        The headers of a deletion hold what Redis keeps of it, so that the topic can restore it. The id of the event is
        the origin of the decision, so that a repeat has the same one. The sender's headers of trace context are passed
        on, unless the topic refuses the result with them.

        Raises:
            DependencyDown: the brokers did not acknowledge it.
            RecordRefused: they refuse it for good.
        """
        bare = self.record_of(decision)
        trace = delivery.trace
        traced = replace(bare, headers=(*bare.headers, *trace))
        await self._send_first_taken((traced, bare) if trace else (bare,))

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> None:
        """Publishes the original bytes, key and headers; the reason and the origin follow as further headers.

        A topic may refuse that: then what can be left out is left out, as `_letters` says.

        Raises:
            DependencyDown: as `result`.
            RecordRefused: the topic refuses even the shortest letter.
        """
        failure = Failure(reason, detail, attempt, delivery.origin, datetime.now(UTC))
        await self._send_first_taken(_letters(self._topics.dead, delivery, failure))

    async def answer(self, topic: str, key: bytes, value: bytes) -> None:
        """Publishes the answer of a run to its topic.

        Raises:
            DependencyDown: as `result`.
            RecordRefused: the topic refuses it for good.
        """
        await self._outbox.send(NewRecord(topic, key, value, (("content-type", b"application/json"),)))

    async def retry(self, delivery: Delivery, deferral: Deferral) -> bool:
        """Publishes the original bytes, key and headers to the retry topic; False where it refuses them for good.

        Raises:
            DependencyDown: as `result`.
        """
        record, headers = delivery.record, retry_headers(delivery.sent, deferral)
        try:
            await self._outbox.send(NewRecord(self._topics.retry, record.key, record.value, headers))
        except RecordRefused:
            return False
        return True

    async def move(self, delivery: Delivery) -> Source:
        """Publishes a record of the retry topic to the end of its partition, unchanged; returns where the copy is.

        It stays in its partition, whose owner alone so has to know of the copy.

        Raises:
            DependencyDown: as `result`.
            RecordRefused: the topic refuses it for good, it says nothing of a wait, or its partition went to another
                member, which reads it where it is.
        """
        record = delivery.record
        if delivery.deferral is None or not delivery.is_ours():
            raise RecordRefused("not to be moved")
        headers = retry_headers(delivery.sent, delivery.deferral)
        copy = NewRecord(record.topic, record.key, record.value, headers, partition=record.partition)
        return await self._outbox.send(copy)

    async def _send_first_taken(self, forms: Iterable[NewRecord]) -> None:
        """Sends the first of several forms of a record that the topic takes.

        Raises:
            DependencyDown: as `result`.
            RecordRefused: it takes none.
        """
        refusal = None
        for form in forms:
            try:
                await self._outbox.send(form)
            except RecordRefused as refused:
                refusal = refused
            else:
                return
        raise refusal or RecordRefused("nothing to send")


def result_record(topic: str, decision: Tags | Deletion, frame: bytes = b"") -> NewRecord:
    """The record of a result, without a trace; `frame` stands before tags."""
    photo_id, origin = decision.photo_id, events.format_source(decision.source)
    kind = events.TAGGED if isinstance(decision, Tags) else events.DELETED
    cloud_event = cloud_event_headers(kind, origin, _SOURCE, subject=photo_id)
    headers = (*cloud_event, ("content-type", b"application/json"))
    value = frame + events.encode(decision) if isinstance(decision, Tags) else None
    if isinstance(decision, Deletion):
        kept = {
            events.VERSION_HEADER: decision.version,
            events.DELETED_AT_HEADER: events.format_time(decision.deleted_at),
            events.SOURCE_HEADER: origin,
        }
        headers += tuple((name, text.encode()) for name, text in kept.items())
    return NewRecord(topic, photo_id.encode(), value, headers)


def _letters(topic: str, delivery: Delivery, failure: Failure) -> Iterator[NewRecord]:
    """The forms of a dead letter, from the whole one to one that fits in any topic.

    A compacted topic insists on a key: where there is none, the origin is one. Without its value, a letter has no
    headers of the sender either; the value's size and digest are there instead, and the record itself is still in the
    upload topic, at the origin in the headers. In the shortest form a long key is replaced by its digest.

    Yields:
        Each form as it would be sent.
    """
    record = delivery.record
    own, given, short = keys_of_letters(record.key, delivery.origin)
    whole = NewRecord(topic, own, record.value, (*delivery.sent, *dead_headers(failure)))
    yield whole
    if given != own:
        yield replace(whole, key=given)
    yield replace(whole, key=given, value=None, headers=_headers_without_value(record, failure))
    brief = replace(failure, detail=failure.detail[:_SHORT_DETAIL])
    yield replace(whole, key=short, value=None, headers=_headers_without_value(record, brief))


def _headers_without_value(record: Record, failure: Failure) -> Headers:
    value = record.value or b""
    digest = ((VALUE_SHA256, sha256_of(value)),) if value else ()
    return (*digest, *dead_headers(failure), (VALUE_OMITTED, str(len(value)).encode()))
