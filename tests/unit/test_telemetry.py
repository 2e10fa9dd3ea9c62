import errno
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import structlog
from prometheus_client import generate_latest

from consumer import __version__, errors
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
    allowed = {"outcome", "reason", "result", "stage", "dependency", "label", "release", "topic", "partition"}
    allowed |= {"version", "python"}
    families = list(Metrics().registry.collect())
    assert families
    for family in families:
        assert family.name.startswith(("tagger_", "process_"))
        assert family.documentation
    for collector in set(Metrics().registry._names_to_collectors.values()):
        assert set(collector._labelnames) <= allowed


def test_two_services_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.records.labels("tagged").inc()
    assert one.registry.get_sample_value("tagger_records_total", {"outcome": "tagged"}) == 1
    assert other.registry.get_sample_value("tagger_records_total", {"outcome": "tagged"}) == 0


def test_a_stage_that_fails_is_timed_too() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.stage("fetch"):
        raise ZeroDivisionError
    assert metrics.registry.get_sample_value("tagger_stage_duration_seconds_count", {"stage": "fetch"}) == 1


def test_what_never_happened_is_zero_and_no_time_of_creation_is_told() -> None:
    page = generate_latest(Metrics().registry).decode()
    assert "_created" not in page
    for line in ('tagger_dead_letters_total{reason="http_4xx"} 0.0', 'tagger_records_total{outcome="skipped"} 0.0'):
        assert line in page.splitlines()
    assert f'version="{__version__}"' in page


def test_metrics_can_be_scraped() -> None:
    metrics = Metrics()
    metrics.records.labels("tagged").inc()
    assert b'tagger_records_total{outcome="tagged"} 1.0' in generate_latest(metrics.registry)


@pytest.mark.parametrize("dependency", get_args(errors.Dependency))
def test_a_dependency_counts_as_up_until_it_is_lost(dependency: str) -> None:
    assert Metrics().registry.get_sample_value("tagger_dependency_up", {"dependency": dependency}) == 1


class Broken(io.StringIO):
    """A stream that fails as a real one may."""

    def __init__(self, failure: Exception, at: str) -> None:
        super().__init__()
        self.failure: Exception | None = failure
        self.at = at

    def write(self, text: str) -> int:
        self._fail("write")
        return super().write(text)

    def flush(self) -> None:
        self._fail("flush")

    def _fail(self, at: str) -> None:
        if self.failure is not None and at == self.at:
            raise self.failure


FAILURES = [
    BrokenPipeError(errno.EPIPE, "the reader has gone"),
    OSError(errno.ENOSPC, "no space left on device"),
    OSError(errno.EIO, "input/output error"),
    BlockingIOError(errno.EAGAIN, "the pipe is full"),
    ValueError("I/O operation on closed file"),
    UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"),
    MemoryError(),
]


def lost() -> float:
    return Metrics().registry.get_sample_value("tagger_log_lines_lost_total") or 0.0


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("at", ["write", "flush"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_line_that_cannot_be_written_is_counted_and_stops_nobody(failure: Exception, at: str, form: Any) -> None:
    stream, before = Broken(failure, at), lost()
    log = configure_logging("debug", form, stream)
    for write in (log.debug, log.info, log.warning, log.error):
        write("photo.failed", offset=1)
    try:
        1 / 0  # noqa: B018 - the bug
    except ZeroDivisionError:
        log.exception("photo.failed")
    assert lost() == before + 5
    stream.failure = None
    log.info("service.started")
    assert "service.started" in stream.getvalue()
    assert lost() == before + 5


class Unprintable:
    """What cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_a_line_that_cannot_be_rendered_is_counted_and_stops_nobody() -> None:
    stream, before = io.StringIO(), lost()
    configure_logging("info", "json", stream).info("photo.failed", thing=Unprintable())
    assert (stream.getvalue(), lost()) == ("", before + 1)


@pytest.mark.parametrize("value", ["caf\udce9", 2**80, {("a", 1): "x", "b": "\ud800"}])
def test_what_is_no_unicode_or_too_large_a_number_is_logged_all_the_same(value: object) -> None:
    stream, before = io.StringIO(), lost()
    configure_logging("info", "json", stream).warning("photo.failed", value=value, offset=1)
    (line,) = lines(stream)
    assert (line["event"], line["offset"], lost()) == ("photo.failed", 1, before)


@pytest.mark.parametrize("form", ["json", "console", "auto"])
def test_a_process_that_was_started_without_an_output_loses_its_lines_alone(form: Any) -> None:
    before = lost()
    configure_logging("info", form, None).warning("photo.failed")
    assert lost() == before + 1


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("text", ["é日本", "\udce9"])
def test_a_stream_of_any_encoding_takes_any_text(encoding: str, form: Any, text: str) -> None:
    written, before = io.BytesIO(), lost()
    stream = io.TextIOWrapper(written, encoding)
    configure_logging("info", form, stream).warning("photo.failed", photo_id=text)
    assert lost() == before
    line = written.getvalue().decode(encoding)
    if form == "json":
        assert json.loads(line)["event"] == "photo.failed"
