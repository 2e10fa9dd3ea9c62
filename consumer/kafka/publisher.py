"""The Kafka edge on the way out: results, tombstones and dead letters, each awaited until it is acknowledged."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer import events
from consumer.errors import DependencyDown, Reason, TaggerError
from consumer.events import Deletion, Headers, Tags
from consumer.kafka.clients import explain, require_topics
from consumer.kafka.headers import VALUE_OMITTED, Delivery, Failure, dead_headers, retry_headers
from consumer.kafka.topics import TopicNames
from consumer.resilience import Deferral

_POLL_S: Final = 0.1
_FULL_QUEUE_WAIT_S: Final = 0.05
_FLUSH_S: Final = 5.0
_SOURCE: Final = "/photo-tagger"
_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


class TooLarge(TaggerError):
    """The brokers will never take this record: it is above the topic's limit."""


class Publisher:
    """Produces to the result and dead-letter topics. A context manager inside a running event loop."""

    def __init__(self, producer: Producer, topics: TopicNames) -> None:
        self._producer = producer
        self._topics = topics
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve_deliveries, name="kafka-deliveries", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._producer.flush(_FLUSH_S)

    async def require_topics(self, bootstrap_servers: str) -> None:
        """Waits for the cluster's answer and checks that it has the topics that are read and written.

        Raises:
            DependencyDown: it does not answer, or a topic is missing; the message says how to create it.
        """
        names = self._topics
        topics = (names.uploads, names.tags, names.retry, names.dead)
        await asyncio.to_thread(require_topics, self._producer, bootstrap_servers, topics)

    async def tags(self, tags: Tags, delivery: Delivery) -> None:
        """Publishes `photo.tagged`, keyed by photo id.

        Raises:
            DependencyDown: the brokers did not acknowledge it.
        """
        headers = _cloud_event(events.TAGGED, delivery.trace, tags)
        await self._send(self._topics.tags, tags.photo_id.encode(), events.encode(tags), headers)

    async def tombstone(self, deletion: Deletion, delivery: Delivery) -> None:
        """Publishes an empty value, which lets compaction forget the photo.

        What Redis keeps of the deletion stands in the headers, so that the topic can restore it.

        Raises:
            DependencyDown: as `tags`.
        """
        kept = {
            events.VERSION_HEADER: deletion.version,
            events.DELETED_AT_HEADER: events.format_time(deletion.deleted_at),
            events.SOURCE_HEADER: events.format_source(deletion.source),
        }
        headers = _cloud_event(events.DELETED, delivery.trace, deletion)
        added = tuple((name, value.encode()) for name, value in kept.items())
        await self._send(self._topics.tags, deletion.photo_id.encode(), None, (*headers, *added))

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> None:
        """Publishes the original bytes, key and headers; the reason and the origin follow as further headers.

        Where the record comes from the retry topic, its origin is where it was first read.
        A record that fills the topic's limit leaves no room for them: its value and headers are left out then, and
        `value_omitted_bytes` says so.

        Raises:
            DependencyDown: as `tags`.
        """
        record = delivery.record
        added = dead_headers(Failure(reason, detail, attempt, delivery.origin, datetime.now(UTC)))
        try:
            await self._send(self._topics.dead, record.key, record.value, (*delivery.sent, *added))
        except TooLarge:
            # The event itself is still in the upload topic, at the origin that the headers name.
            omitted = (VALUE_OMITTED, str(len(record.value or b"")).encode())
            await self._send(self._topics.dead, record.key, None, (*added, omitted))

    async def retry(self, delivery: Delivery, deferral: Deferral) -> bool:
        """Publishes the original bytes, key and headers to the retry topic; False where they are too large for it.

        Raises:
            DependencyDown: as `tags`.
        """
        record, headers = delivery.record, retry_headers(delivery.sent, deferral)
        try:
            await self._send(self._topics.retry, record.key, record.value, headers)
        except TooLarge:
            return False
        return True

    async def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        future: asyncio.Future[None] = self._loop.create_future()

        def delivered(error: KafkaError | None, _: Message) -> None:
            self._loop.call_soon_threadsafe(_resolve, future, error)

        while True:
            try:
                self._producer.produce(topic, value=value, key=key, headers=list(headers), on_delivery=delivered)
                break
            except BufferError:
                await asyncio.sleep(_FULL_QUEUE_WAIT_S)
            except KafkaException as error:
                raise _mapped(error.args[0]) from None
        await future

    def _serve_deliveries(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_S)


def _resolve(future: asyncio.Future[None], error: KafkaError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(_mapped(error))


def _mapped(error: KafkaError) -> TaggerError:
    return TooLarge(explain(error)) if error.code() in _TOO_LARGE else DependencyDown("kafka", explain(error))


def _cloud_event(kind: str, trace: Headers, decision: Tags | Deletion) -> Headers:
    """CloudEvents binary mode; the id is the origin of the decision, so that a repeat has the same id."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": events.format_source(decision.source),
        "ce_type": kind,
        "ce_source": _SOURCE,
        "ce_subject": decision.photo_id,
        "ce_time": events.format_time(datetime.now(UTC)),
        "content-type": "application/json",
    }
    return (*((name, value.encode()) for name, value in attributes.items()), *trace)
