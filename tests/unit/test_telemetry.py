import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import structlog
from prometheus_client import generate_latest

from consumer import errors
from consumer.telemetry import LogEvent, Metrics, Outcome, Stage, configure_logging

CONSUMER = Path(__file__).resolve().parents[2] / "consumer"
SOURCES = "\n".join(path.read_text() for path in CONSUMER.rglob("*.py") if path.name != "telemetry.py")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_log_line_is_one_json_object_with_time_level_event_and_fields() -> None:
    stream = io.StringIO()
    log = configure_logging("info", "json", stream)
    log.info("photo.tagged", photo_id="a\nb", offset=2**63 - 1, models={1: "2"}, path=Path("x"))
    (line,) = lines(stream)
    assert line.pop("timestamp")
    assert line == {
        "event": "photo.tagged",
        "level": "info",
        "photo_id": "a\nb",
        "offset": 2**63 - 1,
        "models": {"1": "2"},
        "path": "x",
    }


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    log = configure_logging("warning", "json", stream)
    log.debug("photo.tagged")
    log.info("photo.tagged")
    log.warning("dependency.lost")
    log.error("kafka.errored")
    assert [line["level"] for line in lines(stream)] == ["warning", "error"]


def test_a_bug_is_logged_with_its_traceback_on_one_line() -> None:
    stream = io.StringIO()
    log = configure_logging("info", "json", stream)
    try:
        1 / 0  # noqa: B018 - the bug
    except ZeroDivisionError:
        log.exception("photo.failed", offset=1)
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "ZeroDivisionError: division by zero" in str(line["exception"])


def test_logs_are_json_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure_logging("info", "auto", stream).info("service.started")
    assert lines(stream)[0]["event"] == "service.started"


def test_logs_for_people_are_not_json_and_without_colours_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure_logging("info", "console", stream).info("service.started", group_id="g")
    assert "service.started" in stream.getvalue()
    assert "group_id=g" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("event", get_args(LogEvent))
def test_a_log_event_is_a_noun_and_what_happened_to_it(event: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)?\.[a-z]+(_[a-z]+)*", event)


@pytest.mark.parametrize("event", get_args(LogEvent))
def test_every_log_event_of_the_registry_is_logged_somewhere(event: str) -> None:
    assert re.search(rf'\.(debug|info|warning|error|exception)\(\s*"{re.escape(event)}"', SOURCES)


@pytest.mark.parametrize(
    ("kinds", "word"), [(get_args(Outcome), "outcome"), (get_args(Stage), "stage"), (errors.REASONS, "reason")]
)
def test_label_values_are_distinct_snake_case_words(kinds: tuple[str, ...], word: str) -> None:
    assert word
    assert len(set(kinds)) == len(kinds)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", kind) for kind in kinds)


def test_every_metric_has_our_prefix_a_help_and_no_label_that_names_a_photo_or_a_person() -> None:
    allowed = {"outcome", "reason", "result", "stage", "dependency", "label", "model_version", "topic", "partition"}
    families = list(Metrics().registry.collect())
    assert families
    for family in families:
        assert family.name.startswith("tagger_")
        assert family.documentation
    for collector in set(Metrics().registry._names_to_collectors.values()):
        assert set(collector._labelnames) <= allowed


def test_two_services_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.records.labels("tagged").inc()
    assert one.registry.get_sample_value("tagger_records_total", {"outcome": "tagged"}) == 1
    assert other.registry.get_sample_value("tagger_records_total", {"outcome": "tagged"}) is None


def test_a_stage_that_fails_is_timed_too() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.stage("fetch"):
        raise ZeroDivisionError
    assert metrics.registry.get_sample_value("tagger_stage_duration_seconds_count", {"stage": "fetch"}) == 1


def test_metrics_can_be_scraped() -> None:
    metrics = Metrics()
    metrics.records.labels("tagged").inc()
    assert b'tagger_records_total{outcome="tagged"} 1.0' in generate_latest(metrics.registry)


@pytest.mark.parametrize("dependency", get_args(errors.Dependency))
def test_a_dependency_counts_as_up_until_it_is_lost(dependency: str) -> None:
    assert Metrics().registry.get_sample_value("tagger_dependency_up", {"dependency": dependency}) == 1
