"""The way of ended spans to a collector: a bounded queue and one thread. A collector that is away delays nobody."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from consumer.telemetry import Log, SpanLoss


@dataclass(frozen=True, slots=True)
class OutletLimits:
    """How many spans wait at most, how many go at once, and how often they go; defaults of OpenTelemetry."""

    most: int = 2_048
    at_once: int = 512
    every_s: float = 5.0


class Outlet(SpanProcessor):
    """Hands ended spans to an exporter, in a thread of its own.

    A span that finds no room, or that the collector does not take, is counted by `lost` and forgotten. `why` says of
    the last attempt what came of it. The processor of the SDK drops without counting, and its end waits for 30 s.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        limits: OutletLimits,
        *,
        lost: Callable[[SpanLoss, int], None],
        why: Callable[[], str],
        log: Log,
    ) -> None:
        self._exporter = exporter
        self._limits = limits
        self._lost = lost
        self._why = why
        self._log = log
        self._queue = deque[ReadableSpan]()
        self._wake = threading.Event()
        self._closing = False
        #: Nothing is sent any more.
        self._ended = False
        self._delivers = True
        self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: object = None) -> None:
        """Nothing: a span goes when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Takes a span, if it is to be recorded and there is room."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._closing or len(self._queue) >= self._limits.most:
            self._lost("queue_full", 1)
            return
        self._queue.append(span)
        if len(self._queue) >= self._limits.at_once:
            self._wake.set()

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002 - the interface's
        """Lets the thread send what is there soon."""
        self._wake.set()
        return True

    def close(self, patience_s: float) -> None:
        """Sends what is left, for as long as that; then gives it up. A second call does nothing."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._thread.join(patience_s)
        self._ended = True
        # What is under way is interrupted, and counted by the thread.
        self._exporter.shutdown()
        self._forget(self._take(len(self._queue)))

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(self._limits.every_s)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while not self._ended and (batch := self._take(self._limits.at_once)):
            try:
                delivered = self._exporter.export(batch) is SpanExportResult.SUCCESS
            except Exception:  # noqa: BLE001 - whatever an exporter raises: this thread serves all spans to come
                delivered = False
            if not delivered:
                self._forget(batch)
            if delivered is not self._delivers:
                self._say(delivers=delivered)

    def _take(self, most: int) -> list[ReadableSpan]:
        taken: list[ReadableSpan] = []
        while self._queue and len(taken) < most:
            taken.append(self._queue.popleft())
        return taken

    def _forget(self, spans: list[ReadableSpan]) -> None:
        if spans:
            self._lost("not_delivered", len(spans))

    def _say(self, *, delivers: bool) -> None:
        """Says a change: that spans are delivered, or are not."""
        self._delivers = delivers
        if delivers:
            self._log.info("collector.recovered")
        else:
            self._log.warning("collector.lost", detail=self._why())


#: How long the end of a service waits for the last spans.
CLOSE_S: Final = 2.0
