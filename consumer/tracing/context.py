"""Trace context in headers, as W3C has it: read from anyone, written for the next."""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumer.events import Headers

_PARENT: Final = "traceparent"
_STATE: Final = "tracestate"
_W3C: Final = TraceContextTextMapPropagator()
#: A longer `tracestate` is passed on by none (W3C, 3.3.1.5), and a `traceparent` of a later version is not so long.
_LONGEST: Final = 512


def context_in(headers: Headers) -> SpanContext | None:
    """The context that a sender gave; None where it gave none, two, or one that cannot be read. Raises nothing.

    A `tracestate` that cannot be read is left out, and the rest counts.
    """
    parents = _texts(headers, _PARENT)
    if len(parents) != 1:
        return None
    carrier = {_PARENT: parents[0]}
    states = _texts(headers, _STATE)
    if states and len(state := ",".join(states)) <= _LONGEST:
        carrier[_STATE] = state
    found = get_current_span(_W3C.extract(carrier, Context())).get_span_context()
    return found if found.is_valid else None


def context_of(traceparent: str) -> SpanContext | None:
    """The context that a `traceparent` has; None where it cannot be read."""
    return context_in(((_PARENT, traceparent.encode(errors="replace")),))


def carried(span: Span) -> dict[str, str]:
    """What tells the next one of a span: `traceparent` and, where there is one, `tracestate`."""
    context = span.get_span_context()
    told = {_PARENT: f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}
    if context.trace_state:
        told[_STATE] = context.trace_state.to_header()
    return told


def headers_of(span: Span) -> Headers:
    """As `carried`, as headers of a record."""
    return tuple((name, text.encode()) for name, text in carried(span).items())


def _texts(headers: Headers, wanted: str) -> list[str]:
    """The values of headers of a name; one that cannot be a context is empty, which none is either."""
    values = (value or b"" for name, value in headers if name.lower() == wanted)
    return [value.decode() if value.isascii() and len(value) <= _LONGEST else "" for value in values]
