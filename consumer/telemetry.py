"""The registry of metrics and log events: every name once, as a literal.

A misspelt log event is a type error; a metric is an attribute. No photo or user identifier is ever a label.
"""

import io
import json
import logging
import platform
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from copy import copy
from functools import partial
from time import perf_counter
from typing import Any, Final, Literal, Protocol, TextIO, cast, get_args

import orjson
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from consumer import __version__
from consumer.errors import Dependency, PermanentReason, TransientReason
from consumer.escape import json_printable, printable
from consumer.lines import UnblockingLines

LogEvent = Literal[
    "assignment.received",
    "assignment.revoked",
    "breaker.closed",
    "breaker.opened",
    "breaker.probed",
    "collector.lost",
    "collector.recovered",
    "commit.refused",
    "decode.hung",
    "dead_letter.published",
    "dependency.lost",
    "dependency.recovered",
    "event.disordered",
    "host.lost",
    "host.recovered",
    "host.ran_out",
    "kafka.errored",
    "letters.sent_again",
    "offsets.reset",
    "page.failed",
    "pages.served",
    "photo.deferred",
    "photo.failed",
    "photo.not_judged",
    "photo.retried",
    "photo.tagged",
    "photo.deleted",
    "producer.rebuilt",
    "record.skipped",
    "record.stuck",
    "rebuild.finished",
    "rebuild.record_incomplete",
    "rebuild.record_skipped",
    "rebuild.started",
    "release.awaited",
    "release.enforced",
    "release.unreadable",
    "replay.finished",
    "replay.started",
    "record.waiting",
    "result.overtaken",
    "retries.moved",
    "service.drained",
    "service.drain_timed_out",
    "service.started",
    "service.stopped",
    "service.stopping",
    "topic.misconfigured",
    "topics.unread",
    "tracing.started",
    "tracing.unavailable",
    "worker.ended",
    "worker.hung",
    "worker.killed",
    "worker.restarted",
    "worker.started",
    "workers.started",
    "workers.stopped",
    "workers.stopping",
]
Outcome = Literal["tagged", "unchanged", "superseded", "deleted", "deferred", "dead_lettered", "skipped"]
#: Why a span did not get to the collector.
SpanLoss = Literal["queue_full", "not_delivered"]
Stage = Literal["fetch", "prepare", "infer", "write", "publish"]

#: Of the process, as the configuration of structlog is.
LINES_LOST: Final = Counter("tagger_log_lines_lost_total", "Log lines that could not be written", registry=None)

# A time of creation beside each counter says what `process_start_time_seconds` says.
disable_created_metrics()  # type: ignore[no-untyped-call]

_LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_AGE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400)


class Log(Protocol):
    """The logger of all parts: `info(event, **fields)`, with events of this registry."""

    def debug(self, event: LogEvent, /, **fields: object) -> None:
        """Details of single photos."""

    def info(self, event: LogEvent, /, **fields: object) -> None:
        """A change that an operator may look for later."""

    def warning(self, event: LogEvent, /, **fields: object) -> None:
        """A fault that recovers by itself or concerns one photo."""

    def error(self, event: LogEvent, /, **fields: object) -> None:
        """A fault that an operator should look at."""

    def exception(self, event: LogEvent, /, **fields: object) -> None:
        """A bug, with its traceback."""


class Metrics:
    """Every metric of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        ProcessCollector(registry=self.registry)
        Info("tagger_build", "Version of the service and of Python", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        self.records = counter("tagger_records_total", "Records by outcome", ["outcome"])
        self.dead_letters = counter("tagger_dead_letters_total", "Dead letters by reason", ["reason"])
        self.disordered = counter(
            "tagger_disordered_events_total", "Events that nothing keeps in order, by reason", ["reason"]
        )
        self.retries = counter("tagger_retries_total", "Attempts repeated in place, by reason", ["reason"])
        self.restored = counter(
            "tagger_restored_records_total", "Records that an earlier owner of the partition finished"
        )
        self.dedupe = counter("tagger_dedupe_total", "Photos by result of the score cache", ["result"])
        self.late = counter("tagger_late_completions_total", "Records finished after their partition was revoked")
        self.spans_lost = counter(
            "tagger_spans_lost_total", "Spans of traces that no collector got, by reason", ["reason"]
        )
        self.stage_seconds = histogram(
            "tagger_stage_duration_seconds", "Time of one stage for one photo", ["stage"], buckets=_LATENCY_BUCKETS
        )
        # What never happened yet is 0, not missing: the first case of a reason is an increase then.
        for name in get_args(Outcome):
            self.records.labels(name)
        for name in (*get_args(PermanentReason), *get_args(TransientReason)):
            self.dead_letters.labels(name)
        for name in get_args(TransientReason):
            self.retries.labels(name)
        for loss in get_args(SpanLoss):
            self.spans_lost.labels(loss)
        # Looked up once: of each photo five stages are timed.
        self._stages: dict[Stage, Histogram] = {name: self.stage_seconds.labels(name) for name in get_args(Stage)}
        self.event_age_seconds = histogram(
            "tagger_event_age_seconds", "From the record's timestamp to its outcome", buckets=_AGE_BUCKETS
        )
        self.stuck = gauge("tagger_stuck_records", "Records whose dead letter Kafka refuses, tried again for ever")
        self.registry.register(LINES_LOST)
        self.release = gauge("tagger_release", "Number of the release that photos are judged under")
        self.in_flight = gauge("tagger_inflight_records", "Records without an outcome yet")
        self.in_flight_bytes = gauge("tagger_inflight_bytes", "Bytes of photos that are held or reserved")
        self.assigned = gauge("tagger_assigned_partitions", "Partitions assigned to this member")
        self.paused = gauge("tagger_paused", "1 while partitions are paused by backpressure")
        self.breaker_open = gauge("tagger_breaker_open", "1 while the rate of dead letters keeps the breaker open")
        self._retry_in_flight = gauge("tagger_retry_inflight_records", "Records of the retry topic without an outcome")
        self._retry_assigned = gauge(
            "tagger_retry_assigned_partitions", "Partitions of the retry topic assigned to this member"
        )
        self._retry_paused = gauge("tagger_retry_paused", "1 while partitions of the retry topic are paused")
        self.retry_waiting_bytes = gauge(
            "tagger_retry_waiting_bytes", "Bytes of the records of the retry topic without an outcome"
        )
        self.requeued = counter(
            "tagger_requeued_records_total", "Records that moved to the end of the retry topic, ahead of their time"
        )
        self.dependency_up = gauge("tagger_dependency_up", "1 while a dependency answers", ["dependency"])
        for dependency in get_args(Dependency):
            self.dependency_up.labels(dependency).set(1)
        self.hosts_down = gauge("tagger_photo_hosts_down", "Photo hosts that are down and waited for")
        self.brand_tags = counter("tagger_tags_total", "Brand tags written", ["label", "release"])
        self.oldest_seconds = gauge(
            "tagger_oldest_unfinished_seconds",
            "Age of the oldest record of a topic without an outcome; of a retry, from its time on",
            ["topic", "partition"],
        )
        self.oldest_offset = gauge("tagger_oldest_unfinished_offset", "Offset of that record", ["topic", "partition"])
        self.lag = gauge("tagger_consumer_lag_records", "Log end minus committed position", ["topic", "partition"])
        self.lost = counter("tagger_records_lost_total", "Offsets that vanished from a topic unread", ["topic"])
        self.commits_refused = counter("tagger_commits_refused_total", "Commits without success", ["reason"])
        self.commit_overdue = gauge(
            "tagger_commit_overdue_seconds", "Age of the oldest position that no commit has reached", ["topic"]
        )

    def for_retries(self) -> "Metrics":
        """The same metrics with the gauges of the retry topic, for its source."""
        own = copy(self)
        own.in_flight, own.assigned, own.paused = self._retry_in_flight, self._retry_assigned, self._retry_paused
        return own

    def stage(self, name: Stage) -> AbstractContextManager[None]:
        """Times one stage; a failed stage counts too."""
        return _Timed(self._stages[name])


class _Timed(AbstractContextManager[None]):
    """Observes how long its context lasted. Each photo enters five: a generator would cost three times as much."""

    __slots__ = ("_began_s", "_seconds")

    def __init__(self, seconds: Histogram) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._began_s = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds.observe(perf_counter() - self._began_s)


class SupervisorMetrics:
    """The metrics of a supervisor, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.workers = Gauge("tagger_workers", "Running worker processes", registry=self.registry)
        self.restarts = Counter(
            "tagger_worker_restarts_total", "Workers replaced after an unexpected end", registry=self.registry
        )
        self.registry.register(LINES_LOST)


def configure_logging(
    level: str, form: Literal["auto", "json", "console"], stream: TextIO | None = sys.stdout, **bound: object
) -> Log:
    """Sends structlog to `stream`: JSON lines, or colours on a terminal; returns the service's logger with `bound`.

    No call of the logger raises or waits for long: a line that cannot be written (its reader has gone or hangs, the
    disk is full) or rendered is dropped and counted. `stream` is None in a process that was started with its output
    closed.
    """
    stream = stream or cast("TextIO", io.TextIOBase())  # which refuses every line
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    console = form == "console" or (form == "auto" and stream.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(serializer=_to_json if _is_unicode(stream) else _to_ascii_json)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *([_printable] if console else ()),
            renderer,
        ],
        wrapper_class=_unfailing(logging.getLevelNamesMapping()[level.upper()]),
        # One write for each line: workers share their output, and `print` writes the newline separately.
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", UnblockingLines(stream))),
        cache_logger_on_first_use=False,
    )
    # Bound now: the lazy logger would be made anew for each line, those that its level drops included.
    log: Log = structlog.get_logger().bind(**bound)
    return log


def _printable(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escapes the texts of a line for a terminal; other values are shown by `repr`, which escapes too."""
    return {
        name: printable(value, keep="\n" if name == "exception" else "") if isinstance(value, str) else value
        for name, value in event.items()
    }


def _unfailing(level: int) -> type[structlog.typing.FilteringBoundLogger]:
    """The bound logger of a level, whose methods never raise."""
    base: Any = structlog.make_filtering_bound_logger(level)

    class Unfailing(base):  # type: ignore[misc]  # structlog makes its classes at run time
        def _proxy_to_logger(self, method_name: str, event: str | None = None, **fields: object) -> None:
            try:
                super()._proxy_to_logger(method_name, event, **fields)
            except Exception:  # noqa: BLE001 - any stream, any field: no record may be lost for a line about it
                LINES_LOST.inc()

    return Unfailing


def _is_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def _to_json(event: MutableMapping[str, Any], **_: object) -> str:
    try:
        return json_printable(orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
    except TypeError:  # text that is not Unicode, or a number of more than 64 bits
        return _to_ascii_json(event)


def _to_ascii_json(event: MutableMapping[str, Any], **_: object) -> str:
    return json_printable(json.dumps(event, default=str, skipkeys=True))
