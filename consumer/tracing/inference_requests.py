"""A span for each request to Triton, and its trace context in the request's metadata.

A request may carry photos of many traces, and a span has one parent. It is a child of the first photo whose trace is
recorded, so that Triton's own spans stand in a real trace, and has links to the others; each of these has a link back.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from grpc import StatusCode
from grpc.aio import AioRpcError
from opentelemetry.trace import Link, Span, SpanKind, set_span_in_context

from consumer.contract import Views
from consumer.events import Pixels
from consumer.tracing import conventions as names
from consumer.tracing.context import carried
from consumer.tracing.spans import Attributes, Spans
from consumer.triton.inference import Metadata

_METHOD: Final = "inference.GRPCInferenceService/ModelInfer"


class InferenceRequests:
    """Knows which photo each array is of, while it is being judged."""

    def __init__(self, spans: Spans, server: Attributes) -> None:
        self._spans = spans
        self._about = {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: _METHOD, **server}
        #: By the identity of an array, which lives at least as long as its entry.
        self._of: dict[int, Span] = {}

    @contextmanager
    def photo(self, views: Views, span: Span) -> Iterator[None]:
        """Requests with these arrays are on behalf of this span, for as long as the context lasts.

        Yields:
            Nothing.
        """
        arrays = {id(pixels) for pixels in views.values()}
        self._of.update(dict.fromkeys(arrays, span))
        try:
            yield
        finally:
            for array in arrays:
                self._of.pop(array, None)

    @contextmanager
    def around(self, model: str, version: str, photos: Sequence[Pixels]) -> Iterator[Metadata]:
        """The span of a request; a request that is on no photo's behalf, which proves that a model works, has none.

        Raises:
            AioRpcError: as the request.

        Yields:
            The trace context, as metadata.
        """
        asking = [span for pixels in photos if (span := self._of.get(id(pixels))) is not None]
        recorded = [span for span in asking if span.is_recording()]
        if not recorded:
            # Triton hears all the same that these traces are not recorded.
            yield _metadata(asking[0]) if asking else None
            return
        first, *others = recorded
        links = [Link(span.get_span_context()) for span in others]
        about = {**self._about, names.MODEL: model, names.MODEL_VERSION: version, names.BATCH: len(photos)}
        parent = set_span_in_context(first)
        with self._spans.within(_METHOD, SpanKind.CLIENT, about, parent=parent, links=links) as request:
            for span in others:
                span.add_link(request.get_span_context())
            status = StatusCode.OK
            try:
                yield _metadata(request)
            except AioRpcError as failure:
                status = failure.code()
                raise
            except BaseException:
                status = StatusCode.CANCELLED
                raise
            finally:
                request.set_attribute(names.RPC_STATUS, status.name)


def _metadata(span: Span) -> Metadata:
    return tuple(carried(span).items())
