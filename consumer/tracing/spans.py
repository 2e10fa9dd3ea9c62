"""Begins and ends spans; the current one is in OpenTelemetry's own context variable, which tasks inherit."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from consumer.errors import TaggerError
from consumer.tracing.conventions import ERROR_TYPE

Attributes = Mapping[str, str | int]
#: Most characters of a failure that a span shows, as log lines do.
_SHOWN: Final = 800


class Spans:
    """Makes the spans of one service."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def within(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        *,
        parent: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Iterator[Span]:
        """A span for as long as the context lasts; its parent is the current span, unless another one is given.

        Below a span that is not recorded there are none, which saves most of what they would cost.

        Yields:
            The span, which is the current one meanwhile.
        """
        if parent is None and not (current := get_current_span()).is_recording():
            yield current
            return
        span = self.begin(name, kind, attributes, parent=parent, links=links)
        token = attach(set_span_in_context(span))
        try:
            yield span
        except BaseException as failure:
            fail(span, failure)
            raise
        finally:
            detach(token)
            span.end()

    def begin(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes | None = None,
        *,
        parent: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Span:
        """A span that the caller ends; without a `parent` as `within`."""
        if parent is None and not (current := get_current_span()).is_recording():
            return current
        return self._tracer.start_span(name, parent, kind, attributes, links)


def after(context: SpanContext | None) -> Context:
    """What makes a span the child of another one, or, without that, the first one of its trace."""
    return Context() if context is None else set_span_in_context(NonRecordingSpan(context), Context())


def fail(span: Span, failure: BaseException) -> None:
    """Says on a span why it failed; no stack and no words that are not ours, which might hold a signed URL."""
    ours = failure if isinstance(failure, TaggerError) else None
    said(span, str(getattr(ours, "reason", type(failure).__name__)), "" if ours is None else str(ours))


def said(span: Span, kind: str, detail: str = "") -> None:
    """Marks a span as failed, of a kind that is one of few."""
    span.set_attribute(ERROR_TYPE, kind)
    # It may quote a name that is not Unicode, which would cost the spans that are sent with this one as well.
    unicode = detail[:_SHOWN].encode(errors="backslashreplace").decode()
    span.set_status(Status(StatusCode.ERROR, unicode or None))
