import pytest
from opentelemetry.sdk.trace import TracerProvider

from consumer import __version__
from consumer.tracing.collector import Collector, Session, exporter_to, limits_of, resource_of, sampler_of
from consumer.tracing.outlet import OutletLimits
from tests.collector import collecting


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)


@pytest.mark.parametrize(
    ("endpoint", "path"), [("", "/v1/traces"), ("/", "/v1/traces"), ("/otlp/v1/traces", "/otlp/v1/traces")]
)
def test_a_collector_is_asked_at_its_path_and_with_its_headers(endpoint: str, path: str) -> None:
    with collecting() as collector:
        exporter = exporter_to(Collector(collector.url + endpoint, "X-Key=a=b, other=c%20d"), Session())
        span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("one")
        span.end()
        exporter.export([span])  # type: ignore[list-item]  # a span of the SDK
        exporter.shutdown()
    assert collector.one("one").span == f"{span.get_span_context().span_id:016x}"
    assert collector.paths == [path]
    assert {name.lower(): value for name, value in collector.headers[0].items()}.items() >= {
        ("x-key", "a=b"),
        ("other", "c d"),
    }


def test_standard_variables_count_where_the_settings_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=v")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        exporter = exporter_to(Collector(), Session())
        span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("one")
        span.end()
        exporter.export([span])  # type: ignore[list-item]  # as above
        exporter.shutdown()
    assert collector.one("one")
    assert {name.lower(): value for name, value in collector.headers[0].items()}["key"] == "v"


def test_what_came_of_a_request_is_said_without_its_url() -> None:
    session = Session()
    exporter = exporter_to(Collector("http://127.0.0.1:1", service_name="x"), session)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("one")
    exporter._client._timeout = 0.5  # type: ignore[attr-defined]  # the timeout of an attempt, in seconds
    exporter.export([span])  # type: ignore[list-item]  # as above
    assert session.last == "ConnectionError"


def test_the_bounds_of_the_queue_are_the_standard_ones() -> None:
    assert limits_of({}) == OutletLimits(2048, 512, 5.0)
    given = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_SCHEDULE_DELAY": "250"}
    assert limits_of(given) == OutletLimits(100, 100, 0.25)
    assert limits_of({"OTEL_BSP_MAX_QUEUE_SIZE": "-1", "OTEL_BSP_SCHEDULE_DELAY": "soon"}) == OutletLimits()


def test_who_sends_spans_is_said() -> None:
    plain = resource_of(Collector(), {}).attributes
    assert (plain["service.name"], plain["service.version"]) == ("photo-tagger", __version__)
    assert plain["service.instance.id"] != resource_of(Collector(), {}).attributes["service.instance.id"]
    assert resource_of(Collector(service_name="mine"), {}).attributes["service.name"] == "mine"


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_SERVICE_NAME", "theirs"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,x=y")]
)
def test_the_name_of_a_variable_counts_unless_the_setting_has_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert resource_of(Collector()).attributes["service.name"] == "theirs"
    assert resource_of(Collector(service_name="mine")).attributes["service.name"] == "mine"


def test_a_ratio_leaves_the_decision_of_a_sender_alone() -> None:
    assert sampler_of(Collector()) is None
    sampler = sampler_of(Collector(sample_ratio=0.25))
    assert sampler is not None
    assert sampler.get_description().startswith("ParentBased{root:TraceIdRatioBased{0.25}")
