import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from consumer.tracing.outlet import Outlet, OutletLimits
from tests.fakes import RecordingLog

DEADLINE_S = 10.0


class Taking(SpanExporter):
    """An exporter that does what a test says with each batch, and tells when it has."""

    def __init__(self, act: Callable[[int], object] = lambda _: None) -> None:
        self.act = act
        self.batches: list[list[str]] = []
        self.asked = threading.Semaphore(0)
        self.stopped = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append([span.name for span in spans])
        self.asked.release()
        return SpanExportResult.FAILURE if self.act(len(self.batches)) else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.stopped.set()


class Bench:
    """An outlet over an exporter."""

    def __init__(self, exporter: SpanExporter, limits: OutletLimits, provider: TracerProvider | None = None) -> None:
        self.log = RecordingLog()
        self.lost: list[tuple[str, int]] = []
        self.outlet = Outlet(
            exporter, limits, lost=lambda why, spans: self.lost.append((why, spans)), why=lambda: "why", log=self.log
        )
        provider = provider or TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.outlet)
        self.tracer = provider.get_tracer("test")

    def end(self, *names: str) -> None:
        for name in names:
            self.tracer.start_span(name).end()

    def of(self, why: str) -> int:
        return sum(spans for reason, spans in self.lost if reason == why)


@contextmanager
def bench(exporter: SpanExporter, limits: OutletLimits, provider: TracerProvider | None = None) -> Iterator[Bench]:
    one = Bench(exporter, limits, provider)
    try:
        yield one
    finally:
        one.outlet.close(DEADLINE_S)


RARELY = 3600.0


def test_a_full_batch_goes_at_once_and_the_rest_at_the_end() -> None:
    exporter = Taking()
    with bench(exporter, OutletLimits(10, 2, RARELY)) as one:
        one.end("a", "b")
        assert exporter.asked.acquire(timeout=DEADLINE_S)
        one.end("c")
    assert exporter.batches == [["a", "b"], ["c"]]
    assert exporter.stopped.is_set()
    assert one.lost == []


def test_what_is_not_full_goes_after_a_while() -> None:
    exporter = Taking()
    with bench(exporter, OutletLimits(10, 5, 0.01)) as one:
        one.end("a")
        assert exporter.asked.acquire(timeout=DEADLINE_S)


def test_what_is_not_recorded_is_not_sent() -> None:
    exporter = Taking()
    with bench(exporter, OutletLimits(10, 1, RARELY), TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)) as one:
        one.end("a")
    assert exporter.batches == []


def test_without_room_the_newest_are_counted_and_dropped() -> None:
    release = threading.Event()
    exporter = Taking(lambda _: not release.wait(DEADLINE_S))
    with bench(exporter, OutletLimits(2, 1, RARELY)) as one:
        one.end("under way")
        assert exporter.asked.acquire(timeout=DEADLINE_S)
        one.end("a", "b", "c", "d", "e")
        assert one.of("queue_full") == 3
        release.set()
    assert exporter.batches == [["under way"], ["a"], ["b"]]


def test_a_collector_that_is_away_is_said_once_and_so_is_its_return() -> None:
    exporter = Taking(lambda number: number in {2, 3})
    with bench(exporter, OutletLimits(10, 1, RARELY)) as one:
        for name in ("a", "b", "c", "d"):
            one.end(name)
            assert exporter.asked.acquire(timeout=DEADLINE_S)
    assert [event for _, event, _ in one.log.lines] == ["collector.lost", "collector.recovered"]
    assert one.log.named("collector.lost") == [{"detail": "why"}]
    assert one.of("not_delivered") == 2


def test_an_exporter_that_raises_stops_nothing() -> None:
    def broken(number: int) -> None:
        if number == 1:
            raise RuntimeError

    exporter = Taking(broken)
    with bench(exporter, OutletLimits(10, 1, RARELY)) as one:
        for name in ("a", "b"):
            one.end(name)
            assert exporter.asked.acquire(timeout=DEADLINE_S)
    assert one.of("not_delivered") == 1


def test_the_end_waits_no_longer_than_it_may_and_counts_what_is_left() -> None:
    release = threading.Event()
    exporter = Taking(lambda _: not release.wait(DEADLINE_S))
    one = Bench(exporter, OutletLimits(10, 1, RARELY))
    one.end("under way")
    assert exporter.asked.acquire(timeout=DEADLINE_S)
    one.end("a", "b")
    one.outlet.close(0.01)
    assert one.of("not_delivered") == 2
    one.end("late")
    assert one.of("queue_full") == 1
    release.set()
