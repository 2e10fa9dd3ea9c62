"""The running service: waits for its dependencies, opens the parts, runs and drains them."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

from prometheus_client import generate_latest

from consumer.contract import ModelContract
from consumer.errors import DecodeHangs, SourceFailed, TaggerError
from consumer.imaging.preparer import Preparer
from consumer.resilience import Dependencies
from consumer.service import construction
from consumer.service.construction import Connections, Job, Parts, Runtime
from consumer.service.heads import Heads
from consumer.service.health import Readiness, serve_health, waiting_for
from consumer.settings import Settings
from consumer.telemetry import Log, Metrics

_CLOSE_TIMEOUT_S: Final = 10.0
_WATCH_S: Final = 0.25
_LOOK_S: Final = 1.0

T = TypeVar("T")


class Service:
    """One service in one event loop: its state, its start and its end."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._loop = asyncio.get_running_loop()
        #: None until the dependencies have answered: the parts need the contract of the models.
        self._parts: Parts | None = None
        self.metrics = Metrics()
        self.dependencies = Dependencies(log, self.metrics)
        self.stopping = asyncio.Event()
        self.failure: SourceFailed | DecodeHangs | None = None

    def live(self) -> bool:
        """Whether the service waits for its dependencies, or its Kafka threads poll."""
        return self._parts is None or all(stream.source.alive for stream in self._parts.streams)

    def not_ready(self) -> list[str]:
        """What the service waits for; empty while photos can be tagged."""
        parts = self._parts
        sources = [] if parts is None else [stream.source for stream in parts.streams]
        complaints = () if parts is None else (parts.admission.complaint, parts.heads.complaint)
        return waiting_for(self.dependencies.lost, sources, complaints, stopping=self.stopping.is_set())

    def readiness(self) -> Readiness:
        """What `/ready` says."""
        oldest = None if self._parts is None else self._parts.heads.oldest
        return Readiness(self.not_ready(), None if oldest is None else asdict(oldest))

    @property
    def idle(self) -> bool:
        """Whether no record is in flight."""
        return self._parts is not None and self._parts.streams[0].source.in_flight == 0

    def outcomes(self) -> dict[str, int]:
        """The number of records by outcome."""
        samples = next(iter(self.metrics.records.collect())).samples
        return {entry.labels["outcome"]: int(entry.value) for entry in samples if entry.name.endswith("_total")}

    def stop(self) -> None:
        """Asks the service to drain and stop."""
        self.stopping.set()

    @asynccontextmanager
    async def working(self, job: Job) -> AsyncIterator[None]:
        """Waits for the dependencies, then processes the job's records until the context ends, and drains.

        Yields:
            Nothing; `stopping` is set when the source failed.
        """
        runtime = Runtime(self._loop, self._log, self.metrics, self.dependencies, self._fail)
        async with AsyncExitStack() as stack:
            connections = construction.connections_of(self._settings)
            await stack.enter_async_context(connections.triton)
            await stack.enter_async_context(connections.store)
            contract = await self._await_dependencies(connections)
            stack.enter_context(connections.publisher)
            parts = construction.parts_of(self._settings, job, connections, contract, runtime)
            await stack.enter_async_context(parts.fetcher)
            stack.enter_context(parts.preparer)
            if parts.cache is not None:
                await stack.enter_async_context(parts.cache)
            self._parts = parts
            for stream in parts.streams:
                stream.source.start()
            self._log.info("service.started", group_id=job.group_id, models=contract.models)
            watches = (self._watch_decodes(parts.preparer), self._watch_heads(parts.heads))
            tasks = [self._loop.create_task(watch) for watch in watches]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await self._drain(parts)

    async def _await_dependencies(self, connections: Connections) -> ModelContract:
        """Waits until Triton serves both models, Redis answers and Kafka has the topics."""
        triton = self._settings.triton
        read_contract = partial(connections.triton.read_contract, triton.quality_model, triton.brand_model)
        require_topics = partial(connections.publisher.require_topics, self._settings.kafka.bootstrap_servers)
        wait = self.dependencies.retry_until_available
        answers = asyncio.gather(
            wait("triton", read_contract), wait("redis", connections.store.ping), wait("kafka", require_topics)
        )
        contract, _, _ = await self._unless_stopped(answers)
        self._log.info(
            "contract.read",
            models=contract.models,
            input_size=contract.geometry.input_size,
            brands=len(contract.brand_labels) - 1,
            brand_threshold=contract.brand_threshold,
            good_threshold=contract.good_threshold,
        )
        return contract

    async def _unless_stopped(self, work: asyncio.Future[T]) -> T:
        stop = self._loop.create_task(self.stopping.wait())
        try:
            waiters: list[asyncio.Future[Any]] = [work, stop]
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise StopRequested("asked to stop while waiting for the dependencies")
            return work.result()
        finally:
            stop.cancel()
            work.cancel()
            # Retrieves its end: asyncio reports the exception of a gathering that nobody looked at.
            await asyncio.gather(work, return_exceptions=True)

    def _fail(self, failure: SourceFailed) -> None:
        self.failure = self.failure or failure
        self._log.error("kafka.errored", detail=str(failure))
        self.stop()

    async def _watch_decodes(self, preparer: Preparer) -> None:
        """Stops the service when a decode runs on after its timeout: only a new process frees the core."""
        grace_s = self._settings.prepare.overdue_grace_s
        since_s: float | None = None
        while since_s is None or monotonic() - since_s < grace_s:
            await asyncio.sleep(min(_WATCH_S, grace_s))
            since_s = (since_s or monotonic()) if preparer.overdue else None
        text = f"{preparer.overdue} decodes still run {grace_s:g} s after their limit"
        self.failure = self.failure or DecodeHangs(f"{text}; this process ends to be replaced")
        self._log.error("decode.hung", detail=text)
        self.stop()

    @staticmethod
    async def _watch_heads(heads: Heads) -> None:
        """Keeps the metrics of the oldest records up to date."""
        while True:
            heads.look()
            await asyncio.sleep(_LOOK_S)

    async def _drain(self, parts: Parts) -> None:
        """Finishes the records in flight before the deadline; the rest stay uncommitted and are read again."""
        for stream in parts.streams:
            stream.source.stop_delivery()
        parts.admission.close()
        # From now on, records that the Kafka threads hand over are not started: the steps are about to close.
        tasks = frozenset[asyncio.Task[None]]().union(*(stream.tasks.close() for stream in parts.streams))
        self._log.info("service.stopping", in_flight=len(tasks))
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.service.drain_timeout_s)
        left = [task for task in tasks if not task.done()]
        if left:
            self._log.warning("service.drain_timed_out", in_flight=len(left))
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.gather(*(asyncio.to_thread(stream.source.close, _CLOSE_TIMEOUT_S) for stream in parts.streams))
        self._log.info("service.drained")


class StopRequested(TaggerError):
    """The service was asked to stop while it waited for its dependencies."""


async def run_live(settings: Settings, log: Log, listening: Callable[[int], None] = lambda _: None) -> None:
    """Runs the service on the live topic until SIGTERM or SIGINT; `listening` gets the health endpoint's port.

    Raises:
        SourceFailed: Kafka refuses this consumer permanently.
        DecodeHangs: a decode cannot be stopped; the process must exit without waiting for its threads.
    """
    service = Service(settings, log)

    async def readiness() -> Readiness:
        return service.readiness()

    async def metrics() -> bytes:
        return generate_latest(service.metrics.registry)

    async with AsyncExitStack() as stack:
        if settings.health.enabled:
            endpoint = serve_health(
                settings.health.host,
                settings.health.port,
                live=service.live,
                readiness=readiness,
                metrics=metrics,
            )
            listening(await stack.enter_async_context(endpoint))
        stack.enter_context(stop_on_signal(service))
        with suppress(StopRequested):
            async with service.working(construction.live_job(settings)):
                await service.stopping.wait()
    log.info("service.stopped")
    if service.failure is not None:
        raise service.failure


@contextmanager
def stop_on_signal(service: Service) -> Iterator[None]:
    """While the context lasts, SIGTERM and SIGINT ask the service to stop."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, service.stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
