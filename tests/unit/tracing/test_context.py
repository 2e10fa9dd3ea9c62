from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from consumer.tracing.context import carried, context_in, context_of, headers_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_senders_context_is_read_whatever_the_case_of_its_name() -> None:
    found = context_in((("Traceparent", PARENT.encode()), ("TRACESTATE", b"a=1"), ("tracestate", b"b=2")))
    assert found is not None
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
    assert (found.is_remote, found.trace_flags.sampled) == (True, True)
    assert found.trace_state.to_header() == "a=1,b=2"


def test_a_later_version_is_read_as_this_one() -> None:
    assert context_of(f"01-{TRACE}-{SPAN}-01-more") == context_of(PARENT)


def test_what_is_no_context_is_none() -> None:
    parents: list[tuple[bytes | None, ...]] = [
        (),
        (None,),
        (b"",),
        (b"\xff" * 55,),
        (PARENT.encode(), PARENT.encode()),
        (f"ff-{TRACE}-{SPAN}-01".encode(),),
        (f"00-{'0' * 32}-{SPAN}-01".encode(),),
        (f"00-{TRACE}-{'0' * 16}-01".encode(),),
        (f"{PARENT}-more".encode(),),
        (PARENT.upper().encode(),),
        (PARENT[:-1].encode(),),
        (f"01-{TRACE}-{SPAN}-01-{'x' * 1_000_000}".encode(),),
    ]
    for values in parents:
        assert context_in(tuple(("traceparent", value) for value in values)) is None, values


def test_a_state_that_cannot_be_read_leaves_the_rest() -> None:
    for state in (b"\xff", None, b"=", b"a=" + b"x" * 600, b",".join([b"a=1"] * 200)):
        found = context_in((("traceparent", PARENT.encode()), ("tracestate", state)))
        assert found == context_of(PARENT), state


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "x"]), st.none() | st.binary(max_size=80))))
def test_nothing_in_the_headers_raises(headers: list[tuple[str, bytes | None]]) -> None:
    context_in(tuple(headers))


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    context_of(text)


def test_what_is_written_is_read_again() -> None:
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("one")
    found = context_in(headers_of(span))
    assert found is not None
    assert (found.trace_id, found.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)
    assert carried(span).keys() == {"traceparent"}
