"""The path of a record with spans: the record's own, and one for each step."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Final

from opentelemetry.trace import Link, Span, SpanKind, get_current_span
from structlog.contextvars import bound_contextvars

from consumer.contract import Views
from consumer.errors import PhotoRejected
from consumer.events import Photo, PhotoUploaded, Scores
from consumer.fetch.urls import parsed, shown
from consumer.kafka.headers import Delivery
from consumer.redis.score_cache import Judge
from consumer.steps import Judgement, Steps
from consumer.telemetry import Outcome
from consumer.tracing import conventions as names
from consumer.tracing.context import context_in, context_of
from consumer.tracing.inference_requests import InferenceRequests
from consumer.tracing.spans import Spans, after, said

Handle = Callable[[Delivery], Awaitable[Outcome]]
#: Most bytes of a key that a span shows.
_SHOWN_BYTES: Final = 200


class Path:
    """Steps and handling with spans. `groups` says by topic which consumer group reads it."""

    def __init__(self, spans: Spans, requests: InferenceRequests, groups: Mapping[str, str]) -> None:
        self._spans = spans
        self._requests = requests
        self._groups = groups
        #: The last judgement without spans and the same with them: the pipeline asks whether it is still in force.
        self._judgements: tuple[Judgement, Judgement] | None = None

    def handle(self, handle: Handle) -> Handle:
        """What handles a record, within a span that log lines name."""

        async def handled(delivery: Delivery) -> Outcome:
            with self._processing(delivery) as span:
                context = span.get_span_context()
                ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
                with bound_contextvars(**ids):
                    outcome = await handle(delivery)
                span.set_attribute(names.OUTCOME, outcome)
                if delivery.wait.rejected is not None:
                    said(span, delivery.wait.rejected)
                return outcome

        return handled

    def steps(self, steps: Steps) -> Steps:
        """The steps, each within a span; what is written to has its own (`ends`)."""
        return replace(
            steps, fetch=partial(self._fetch, steps.fetch), judgement=partial(self._judgement, steps.judgement)
        )

    def _processing(self, delivery: Delivery) -> AbstractContextManager[Span]:
        """The span of a record.

        The sender's context is its parent in every round, and the span that deferred it a link. Where the sender gave
        none, the span that deferred it is the parent: so the rounds are one trace.
        """
        record, deferral = delivery.record, delivery.deferral
        about: dict[str, str | int] = {
            names.MESSAGING_SYSTEM: "kafka",
            names.MESSAGING_OPERATION_NAME: "process",
            names.MESSAGING_OPERATION_TYPE: "process",
            names.MESSAGING_DESTINATION: record.topic,
            names.MESSAGING_PARTITION: str(record.partition),
            names.KAFKA_OFFSET: record.offset,
            names.MESSAGING_BODY_SIZE: len(record.value or b""),
        }
        if (group := self._groups.get(record.topic)) is not None:
            about[names.MESSAGING_GROUP] = group
        if record.key is not None:
            about[names.KAFKA_KEY] = record.key[:_SHOWN_BYTES].decode(errors="backslashreplace")
        sender, before = context_in(delivery.trace), None
        if deferral is not None:
            about[names.ROUND] = deferral.round
            before = context_of(deferral.by)
        links = [Link(before)] if before is not None and sender is not None else []
        parent = after(sender or before)
        return self._spans.within(f"process {record.topic}", SpanKind.CONSUMER, about, parent=parent, links=links)

    async def _fetch(self, fetch: Callable[[PhotoUploaded], Awaitable[Photo]], event: PhotoUploaded) -> Photo:
        with self._spans.within("fetch") as span:
            if span.is_recording():
                _name_place(span, event.uri)
            photo = await fetch(event)
            span.set_attribute(names.BYTES, len(photo.body))
            return photo

    def _judgement(self, judgement: Callable[[], Judgement]) -> Judgement:
        own = judgement()
        if self._judgements is None or self._judgements[0] is not own:
            self._judgements = (
                own,
                replace(
                    own,
                    prepare=partial(self._prepare, own.prepare),
                    infer=partial(self._infer, own.infer),
                    score=partial(_score, own.score),
                ),
            )
        return self._judgements[1]

    async def _prepare(self, prepare: Callable[[Photo], Awaitable[Views]], photo: Photo) -> Views:
        with self._spans.within("decode"):
            return await prepare(photo)

    async def _infer(self, infer: Callable[[Views], Awaitable[Scores]], views: Views) -> Scores:
        with self._spans.within("infer") as span, self._requests.photo(views, span):
            return await infer(views)


async def _score(score: Callable[[Photo, Judge], Awaitable[Scores]], photo: Photo, judge: Judge) -> Scores:
    """Notes on the record's span whether the photo was judged, or a copy of it before."""
    judged = False

    async def noted(given: Photo) -> Scores:
        nonlocal judged
        judged = True
        return await judge(given)

    scores = await score(photo, noted)
    get_current_span().set_attribute(names.SCORES, "judged" if judged else "known")
    return scores


def _name_place(span: Span, uri: str) -> None:
    """Where the photo is, as in log lines; of a URI that is refused nothing."""
    try:
        span.set_attribute(names.URL_FULL, shown(parsed(uri)))
    except PhotoRejected:
        return
