"""Publishes results, tombstones, retries and dead letters, and awaits the acknowledgement of each."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer import events
from consumer.errors import DependencyDown, Reason, TaggerError
from consumer.events import Deletion, Headers, Tags
from consumer.kafka.clients import explain, require_topics
from consumer.kafka.headers import VALUE_OMITTED, Delivery, Failure, cloud_event_headers, dead_headers, retry_headers
from consumer.kafka.topics import TopicNames
from consumer.resilience import Deferral

_POLL_S: Final = 0.1
_FULL_QUEUE_WAIT_S: Final = 0.05
_FLUSH_S: Final = 5.0
_SOURCE: Final = "/photo-tagger"
_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


class TooLarge(TaggerError):
    """The brokers refuse this record: it is above the topic's limit."""


class Publisher:
    """Produces to the result, retry and dead-letter topics. A context manager inside a running event loop."""

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
        """Checks that the cluster answers and has the topics that are read and written.

        Raises:
            DependencyDown: it does not answer, or a topic is missing; the message says how to create it.
        """
        names = self._topics
        topics = (names.uploads, names.tags, names.retry, names.dead)
        await asyncio.to_thread(require_topics, self._producer, bootstrap_servers, topics)

    async def result(self, decision: Tags | Deletion, delivery: Delivery) -> None:
        """Publishes `photo.tagged`, or for a deletion an empty value, after which compaction drops the photo's records.

        The headers of a deletion hold what Redis keeps of it, so that the topic can restore it. The id of the event is
        the origin of the decision, so that a repeat has the same one.

        Raises:
            DependencyDown: the brokers did not acknowledge it.
        """
        photo_id, origin = decision.photo_id, events.format_source(decision.source)
        kind = events.TAGGED if isinstance(decision, Tags) else events.DELETED
        cloud_event = cloud_event_headers(kind, origin, _SOURCE, subject=photo_id)
        headers = (*cloud_event, ("content-type", b"application/json"), *delivery.trace)
        value = events.encode(decision) if isinstance(decision, Tags) else None
        if isinstance(decision, Deletion):
            kept = {
                events.VERSION_HEADER: decision.version,
                events.DELETED_AT_HEADER: events.format_time(decision.deleted_at),
                events.SOURCE_HEADER: origin,
            }
            headers += tuple((name, text.encode()) for name, text in kept.items())
        await self._send(self._topics.tags, photo_id.encode(), value, headers)

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> None:
        """Publishes the original bytes, key and headers; the reason and the origin follow as further headers.

        Where the record and these are above the topic's limit, its value and own headers are left out, and
        `value_omitted_bytes` says so.

        Raises:
            DependencyDown: as `result`.
        """
        record = delivery.record
        added = dead_headers(Failure(reason, detail, attempt, delivery.origin, datetime.now(UTC)))
        try:
            await self._send(self._topics.dead, record.key, record.value, (*delivery.sent, *added))
        except TooLarge:
            # The event is still in the upload topic, at the origin in the headers.
            omitted = (VALUE_OMITTED, str(len(record.value or b"")).encode())
            await self._send(self._topics.dead, record.key, None, (*added, omitted))

    async def retry(self, delivery: Delivery, deferral: Deferral) -> bool:
        """Publishes the original bytes, key and headers to the retry topic; False where they are too large for it.

        Raises:
            DependencyDown: as `result`.
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
