"""The registry of everything that is measured or logged: metric names and log events, each once, as literals.

A misspelt log event is a type error; a metric is an attribute. No photo or user identifier is ever a label.
"""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from copy import copy
from time import perf_counter
from typing import Any, Final, Literal, Protocol, TextIO, get_args

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from consumer.errors import Dependency

LogEvent = Literal[
    "assignment.received",
    "assignment.revoked",
    "breaker.closed",
    "breaker.opened",
    "breaker.probed",
    "contract.read",
    "decode.hung",
    "dead_letter.published",
    "dependency.lost",
    "dependency.recovered",
    "host.lost",
    "host.recovered",
    "kafka.errored",
    "offsets.reset",
    "photo.deferred",
    "photo.failed",
    "photo.retried",
    "photo.tagged",
    "photo.deleted",
    "rebuild.finished",
    "rebuild.record_skipped",
    "rebuild.started",
    "replay.finished",
    "replay.started",
    "result.overtaken",
    "service.drained",
    "service.drain_timed_out",
    "service.started",
    "service.stopped",
    "service.stopping",
    "worker.ended",
    "worker.hung",
    "worker.killed",
    "worker.restarted",
    "worker.started",
    "workers.started",
    "workers.stopped",
    "workers.stopping",
]
Outcome = Literal["tagged", "unchanged", "superseded", "deleted", "deferred", "dead_lettered"]
Stage = Literal["fetch", "prepare", "infer", "write", "publish"]

_LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_AGE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400)


class Log(Protocol):
    """The logger that steps are given: `info(event, **fields)`, bound to the registry's events."""

    def debug(self, event: LogEvent, /, **fields: object) -> None:
        """For people who follow single photos."""

    def info(self, event: LogEvent, /, **fields: object) -> None:
        """Something changed that an operator wants to find later."""

    def warning(self, event: LogEvent, /, **fields: object) -> None:
        """Something is wrong that mends itself or concerns one photo."""

    def error(self, event: LogEvent, /, **fields: object) -> None:
        """Somebody should look."""

    def exception(self, event: LogEvent, /, **fields: object) -> None:
        """A bug, with its traceback."""


class Metrics:
    """Every metric of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.records = Counter(
            "tagger_records_total", "Records by their one outcome", ["outcome"], registry=self.registry
        )
        self.dead_letters = Counter(
            "tagger_dead_letters_total", "Dead letters by reason", ["reason"], registry=self.registry
        )
        self.retries = Counter(
            "tagger_retries_total", "Attempts repeated in place, by reason", ["reason"], registry=self.registry
        )
        self.restored = Counter(
            "tagger_restored_records_total",
            "Records that an earlier owner of the partition finished",
            registry=self.registry,
        )
        self.dedupe = Counter(
            "tagger_dedupe_total", "Photos by what the score cache said", ["result"], registry=self.registry
        )
        self.late = Counter(
            "tagger_late_completions_total", "Records finished after their partition was lost", registry=self.registry
        )
        self.stage_seconds = Histogram(
            "tagger_stage_duration_seconds",
            "Time of one stage for one photo",
            ["stage"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.event_age_seconds = Histogram(
            "tagger_event_age_seconds",
            "From the record's timestamp to its outcome",
            buckets=_AGE_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("tagger_inflight_records", "Records without an outcome yet", registry=self.registry)
        self.in_flight_bytes = Gauge(
            "tagger_inflight_bytes", "Bytes of photos that are held, or have room reserved", registry=self.registry
        )
        self.assigned = Gauge("tagger_assigned_partitions", "Partitions assigned to us", registry=self.registry)
        self.paused = Gauge("tagger_paused", "1 while intake is paused by back-pressure", registry=self.registry)
        self.breaker_open = Gauge(
            "tagger_breaker_open", "1 while intake is stopped by the rate of dead letters", registry=self.registry
        )
        self._retry_in_flight = Gauge(
            "tagger_retry_inflight_records",
            "Records of the retry topic that wait or are in work",
            registry=self.registry,
        )
        self._retry_assigned = Gauge(
            "tagger_retry_assigned_partitions", "Partitions of the retry topic assigned to us", registry=self.registry
        )
        self._retry_paused = Gauge("tagger_retry_paused", "1 while the retry topic is not read", registry=self.registry)
        self.dependency_up = Gauge(
            "tagger_dependency_up", "1 while a dependency answers", ["dependency"], registry=self.registry
        )
        for dependency in get_args(Dependency):
            self.dependency_up.labels(dependency).set(1)
        self.hosts_down = Gauge("tagger_photo_hosts_down", "Photo hosts that are waited for", registry=self.registry)
        self.brand_tags = Counter(
            "tagger_tags_total", "Brand tags written", ["label", "model_version"], registry=self.registry
        )
        self.lag = Gauge(
            "tagger_consumer_lag_records",
            "Log end minus committed position",
            ["topic", "partition"],
            registry=self.registry,
        )

    def for_retries(self) -> "Metrics":
        """The same metrics for the reader of the retry topic, with its gauges in place of the live reader's."""
        own = copy(self)
        own.in_flight, own.assigned, own.paused = self._retry_in_flight, self._retry_assigned, self._retry_paused
        return own

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Times one stage; a failed stage counts too."""
        start = perf_counter()
        try:
            yield
        finally:
            self.stage_seconds.labels(name).observe(perf_counter() - start)


class SupervisorMetrics:
    """What a supervisor counts of its workers, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.workers = Gauge("tagger_workers", "Worker processes that run now", registry=self.registry)
        self.restarts = Counter(
            "tagger_worker_restarts_total", "Workers replaced after an unexpected end", registry=self.registry
        )


def configure_logging(
    level: str, form: Literal["auto", "json", "console"], stream: TextIO = sys.stdout, **bound: object
) -> Log:
    """Sends structlog to `stream`: JSON lines, or colours on a terminal; returns the service's logger with `bound`."""
    console = form == "console" or (form == "auto" and stream.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if console
        else structlog.processors.JSONRenderer(serializer=_to_json)
    )
    formatting: list[structlog.typing.Processor] = [] if console else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *formatting,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # One write a line: workers share their output, and `print` writes the line's end apart.
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    log: Log = structlog.get_logger(**bound)
    return log


def _to_json(event: MutableMapping[str, Any], **_: object) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
