from collections.abc import Sequence

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags

from consumer.contract import Geometry, Views
from consumer.events import Pixels
from consumer.tracing.context import carried
from consumer.tracing.inference_requests import InferenceRequests
from consumer.tracing.spans import Spans
from consumer.triton.inference import Question, TritonClient
from tests.fake_triton import FakeTriton

REQUEST = "inference.GRPCInferenceService/ModelInfer"


class Bench:
    """Requests whose spans are kept."""

    def __init__(self) -> None:
        self.kept = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.spans = Spans(provider.get_tracer("test"))
        self.requests = InferenceRequests(self.spans, {"server.address": "triton"})
        self.tracer = provider.get_tracer("test")

    def photo(self) -> tuple[Span, Views]:
        """The span of a photo in a trace of its own, and its arrays."""
        return self.tracer.start_span("infer"), {Geometry(8, 8): np.zeros((8, 8, 3), np.uint8)}

    def sent(self) -> list[ReadableSpan]:
        return [span for span in self.kept.get_finished_spans() if span.name == REQUEST]


def pixels_of(*views: Views) -> Sequence[Pixels]:
    return [next(iter(each.values())) for each in views]


def linked(span: ReadableSpan) -> list[SpanContext]:
    return [link.context for link in span.links]


def test_a_request_of_several_photos_is_a_child_of_the_first_and_has_links_to_and_from_the_others() -> None:
    bench = Bench()
    (one, a), (two, b), (three, c) = (bench.photo() for _ in range(3))
    with bench.requests.photo(a, one), bench.requests.photo(b, two), bench.requests.photo(c, three):  # noqa: SIM117
        with bench.requests.around("brand_logo", "7", pixels_of(a, b, c)) as metadata:
            pass
    for span in (one, two, three):
        span.end()
    (request,) = bench.sent()
    assert request.parent == one.get_span_context()
    assert linked(request) == [two.get_span_context(), three.get_span_context()]
    assert metadata == tuple(carried(NonRecordingSpan(request.context)).items())
    assert request.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": REQUEST,
        "rpc.response.status_code": "OK",
        "server.address": "triton",
        "photo_tagger.model.name": "brand_logo",
        "photo_tagger.model.version": "7",
        "photo_tagger.batch.photos": 3,
    }
    back = {span.context.span_id: linked(span) for span in bench.kept.get_finished_spans() if span.name == "infer"}
    expected = {one: [], two: [request.context], three: [request.context]}
    assert back == {span.get_span_context().span_id: links for span, links in expected.items()}


def test_a_request_for_no_photo_has_no_span() -> None:
    bench = Bench()
    span, views = bench.photo()
    with bench.requests.photo(views, span):
        pass
    with bench.requests.around("brand_logo", "7", pixels_of(views)) as metadata:
        assert metadata is None
    assert bench.sent() == []


def test_photos_that_are_not_recorded_tell_triton_so() -> None:
    bench = Bench()
    recorded, views = bench.photo()
    silent = NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(0)))
    other = bench.photo()[1]
    with bench.requests.photo(other, silent):
        with bench.requests.around("m", "1", pixels_of(other)) as metadata:
            assert metadata == (("traceparent", f"00-{1:032x}-{2:016x}-00"),)
        with bench.requests.photo(views, recorded), bench.requests.around("m", "1", pixels_of(other, views)):
            pass
    (request,) = bench.sent()
    assert request.parent == recorded.get_span_context()


async def test_triton_gets_the_context_as_metadata_and_the_span_its_status() -> None:
    seen: list[dict[str, str]] = []

    class Hearing(FakeTriton):
        async def ModelInfer(self, request: object, context: object) -> object:  # noqa: N802 - the protocol's name
            seen.append(dict(context.invocation_metadata()))  # type: ignore[attr-defined]
            return await super().ModelInfer(request, context)

    async def refuse(_: str, __: object) -> list[float]:
        raise ValueError("INVALID_ARGUMENT", "no")

    bench, triton = Bench(), Hearing()
    await triton.start()
    span, views = bench.photo()
    try:
        async with TritonClient(triton.url, deadline_s=5, around=bench.requests.around) as client:
            contract = await client.read_contract("photo_quality", "brand_logo")
            question = Question("photo_quality", "1", "quality_score", 1, contract.contract_ids["photo_quality"])
            with bench.requests.photo(views, span):
                await client.ask(question, pixels_of(views))
                triton.row = refuse
                with pytest.raises(Exception, match="inference_rejected"):
                    await client.ask(question, pixels_of(views))
            triton.row = None
            await client.ask(question, pixels_of(views))
    finally:
        await triton.stop()
    good, bad = bench.sent()
    assert [each.get("traceparent", "")[36:52] for each in seen] == [
        f"{good.context.span_id:016x}",
        f"{bad.context.span_id:016x}",
        "",
    ]
    assert bad.attributes is not None
    assert (bad.attributes["rpc.response.status_code"], bad.status.is_ok) == ("INVALID_ARGUMENT", False)
