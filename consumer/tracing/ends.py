"""The ends of the path with spans: Redis, and the topics that are written to."""

from dataclasses import dataclass, replace

from opentelemetry.trace import SpanKind

from consumer.errors import Reason
from consumer.events import Deletion, Headers, Tags
from consumer.kafka.headers import Delivery
from consumer.kafka.publisher import Publisher
from consumer.redis.store import Written
from consumer.resilience import Deferral
from consumer.steps import TagStore
from consumer.topic_names import TopicNames
from consumer.tracing import conventions as names
from consumer.tracing.context import carried, headers_of
from consumer.tracing.spans import Attributes, Spans

_SCRIPT = "write_tags.lua"


@dataclass(frozen=True, slots=True)
class _Traced:
    """What a result is of, for the publisher: a span in place of the sender's."""

    trace: Headers


class TracedStore:
    """A store whose every call is a span."""

    def __init__(self, store: TagStore, spans: Spans, server: Attributes) -> None:
        self._store = store
        self._spans = spans
        self._writes = {**server, names.DB_OPERATION: "EVALSHA", names.DB_PROCEDURE: _SCRIPT}
        self._reads = {**server, names.DB_OPERATION: "HMGET"}

    async def write(self, decision: Tags | Deletion) -> Written:
        """As the store's.

        Raises:
            DependencyDown: as the store's.
            PhotoRejected: as the store's.
        """
        with self._spans.within("EVALSHA", SpanKind.CLIENT, self._writes) as span:
            written = await self._store.write(decision)
            span.set_attribute(names.WRITTEN, written.outcome)
            return written

    async def newer(self, decision: Tags | Deletion) -> Tags | Deletion | None:
        """As the store's.

        Raises:
            DependencyDown: as the store's.
        """
        with self._spans.within("HMGET", SpanKind.CLIENT, self._reads):
            return await self._store.newer(decision)


class TracedPublisher:
    """A publisher whose every record is a span, which the result's headers name in place of the sender's.

    What only moves, to the retry topic or to the dead letters, keeps the context that its sender gave it: the
    conventions let nobody between two ends change that. A retry says beside it which span deferred it.
    """

    def __init__(self, publisher: Publisher, spans: Spans, topics: TopicNames) -> None:
        self._publisher = publisher
        self._spans = spans
        self._result, self._retry, self._dead = map(_about, (topics.tags, topics.retry, topics.dead))
        self._topics = topics

    async def result(self, decision: Tags | Deletion, delivery: Delivery) -> None:  # noqa: ARG002 - the interface's
        """As the publisher's.

        Raises:
            DependencyDown: as the publisher's.
            RecordRefused: as the publisher's.
        """
        with self._spans.within(f"send {self._topics.tags}", SpanKind.PRODUCER, self._result) as span:
            await self._publisher.result(decision, _Traced(headers_of(span)))

    async def dead_letter(self, delivery: Delivery, reason: Reason, detail: str, attempt: int) -> None:
        """As the publisher's.

        Raises:
            DependencyDown: as the publisher's.
            RecordRefused: as the publisher's.
        """
        with self._spans.within(f"send {self._topics.dead}", SpanKind.PRODUCER, self._dead):
            await self._publisher.dead_letter(delivery, reason, detail, attempt)

    async def retry(self, delivery: Delivery, deferral: Deferral) -> bool:
        """As the publisher's.

        Raises:
            DependencyDown: as the publisher's.
        """
        with self._spans.within(f"send {self._topics.retry}", SpanKind.PRODUCER, self._retry) as span:
            return await self._publisher.retry(delivery, replace(deferral, by=carried(span)["traceparent"]))


def _about(topic: str) -> Attributes:
    return {
        names.MESSAGING_SYSTEM: "kafka",
        names.MESSAGING_OPERATION_NAME: "send",
        names.MESSAGING_OPERATION_TYPE: "send",
        names.MESSAGING_DESTINATION: topic,
    }
