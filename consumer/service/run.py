"""The running service: waits for its dependencies, opens the parts, runs and drains them."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from time import monotonic
from typing import Final

from prometheus_client import generate_latest

from consumer.errors import DecodeHangs, ProducerFailed, SettingsError, SourceFailed
from consumer.events import Record
from consumer.imaging.preparer import Preparer
from consumer.releases import Numbered
from consumer.resilience import Dependencies, StuckRecords
from consumer.service import construction
from consumer.service.construction import Connections, Parts
from consumer.service.heads import Heads
from consumer.service.health import Readiness, serve_health, waiting_for
from consumer.service.probes import probes
from consumer.service.release_log import Follower
from consumer.service.signals import ignore_stop_signals, stop_on_signals
from consumer.service.starting import StopRequested, await_dependencies, unless_stopped, warn_of_topics
from consumer.service.streams import Job, Runtime
from consumer.service.traces import tracing_of
from consumer.settings import Settings
from consumer.telemetry import Log, Metrics

_CLOSE_TIMEOUT_S: Final = 10.0
_WATCH_S: Final = 0.25
#: Between two looks at the oldest records.
_LOOK_S: Final = 1.0


class Service:
    """One service in one event loop: its state, its start and its end."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._loop = asyncio.get_running_loop()
        #: None until the dependencies have answered.
        self._parts: Parts | None = None
        #: None until they are all open.
        self._connections: Connections | None = None
        self.metrics = Metrics()
        self.dependencies = Dependencies(log, self.metrics)
        self.stuck = StuckRecords(self.metrics)
        self.stopping = asyncio.Event()
        self.failure: SourceFailed | ProducerFailed | SettingsError | DecodeHangs | None = None

    def live(self) -> bool:
        """Whether the service waits for its dependencies, or its Kafka threads poll."""
        return self._parts is None or (self._publishes and all(stream.source.alive for stream in self._parts.streams))

    def not_ready(self) -> list[str]:
        """What the service waits for; empty while photos can be tagged."""
        parts = self._parts
        sources = [] if parts is None else [stream.source for stream in parts.streams]
        own = () if parts is None else (parts.admission, self.stuck, parts.heads, parts.in_force)
        complaints = [part.complaint for part in (*sources, *own)]
        lost = (*self.dependencies.losses, *(() if self._publishes else ("the producer's thread",)))
        return waiting_for(lost, sources, complaints, stopping=self.stopping.is_set())

    def readiness(self) -> Readiness:
        """What `/ready` says."""
        oldest = None if self._parts is None else self._parts.heads.oldest
        return Readiness(self.not_ready(), None if oldest is None else asdict(oldest))

    @property
    def _publishes(self) -> bool:
        """Whether acknowledgements are served, or none is expected yet."""
        return self._connections is None or self._connections.publisher.alive

    @property
    def idle(self) -> bool:
        """Whether no record is in flight."""
        return self._parts is not None and self._parts.streams[0].source.in_flight == 0

    def outcomes(self) -> dict[str, int]:
        """The number of records by outcome, of those outcomes that there were."""
        samples = next(iter(self.metrics.records.collect())).samples
        return {entry.labels["outcome"]: int(entry.value) for entry in samples if entry.value}

    def stop(self) -> None:
        """Asks the service to drain and stop."""
        self.stopping.set()

    @asynccontextmanager
    async def working(self, job: Job) -> AsyncIterator[None]:
        """Waits for the dependencies, then processes the job's records until the context ends, and drains.

        Yields:
            Nothing; `stopping` is set when the source failed.
        """
        async with AsyncExitStack() as stack:
            tracing = await stack.enter_async_context(tracing_of(self._settings, job, self._log, self.metrics))
            runtime = Runtime(self._loop, self._log, self.metrics, self.dependencies, self.stuck, self._fail, tracing)
            connections = construction.connections_of(self._settings, runtime)
            await stack.enter_async_context(connections.triton)
            await stack.enter_async_context(connections.store)
            # Started first, since a producer that is refused for good ends the service, whatever is waited for.
            stack.enter_context(connections.publisher)
            release = await await_dependencies(self._settings, connections, self.dependencies, self.stopping)
            release = job.candidate or release
            await warn_of_topics(self._settings.kafka, self._log)
            self._connections = connections
            parts = construction.parts_of(self._settings, job, connections, runtime)
            await self._open(parts, release, stack)
            self._start(parts, job, runtime, stack)
            try:
                yield
            finally:
                await self._drain(parts)

    async def _open(self, parts: Parts, release: Numbered, stack: AsyncExitStack) -> None:
        """Opens the parts and puts the release into force, once Triton serves it.

        Raises:
            StopRequested: a stop was asked for first.
        """
        await stack.enter_async_context(parts.fetcher)
        stack.enter_context(parts.preparer)
        if parts.cache is not None:
            await stack.enter_async_context(parts.cache)
        stack.callback(parts.in_force.close)
        await unless_stopped(self._loop.create_task(parts.in_force.begin(release)), self.stopping)

    def _start(self, parts: Parts, job: Job, runtime: Runtime, stack: AsyncExitStack) -> None:
        """Begins to read records and releases."""
        self._parts = parts
        seen = partial(runtime.call_in_loop, parts.in_force.seen)

        def unreadable(record: Record, why: str) -> None:
            runtime.call_in_loop(lambda found: parts.in_force.unreadable(*found), (record, why))

        if job.candidate is None:
            stack.enter_context(Follower(self._settings.kafka, seen, unreadable))
        for stream in parts.streams:
            stream.source.start()
        self._log.info("service.started", group_id=job.group_id, release=parts.in_force.bench.release.number)
        watches = [self._watch_decodes(parts.preparer), self._watch_heads(parts.heads), parts.in_force.watch()]
        if job.yields is None and self._connections is not None:  # one that yields has no core for that at times
            watches += probes(self._connections, self.dependencies)
        for watch in watches:
            stack.callback(self._loop.create_task(watch).cancel)

    def _fail(self, failure: SourceFailed | ProducerFailed | SettingsError) -> None:
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


async def run_live(settings: Settings, log: Log, listening: Callable[[int], None] = lambda _: None) -> None:
    """Runs the service on the live topic until SIGTERM, SIGINT or SIGHUP; `listening` gets the health endpoint's port.

    Raises:
        SourceFailed: Kafka refuses this consumer permanently.
        SettingsError: librdkafka refuses a property.
        ProducerFailed: no Kafka producer can be kept running.
        DecodeHangs: a decode cannot be stopped; the process must exit without waiting for its threads.
    """
    # What was imported stays. A full collection looked at all of it again, and no photo got on for 0.1 s.
    gc.freeze()
    service = Service(settings, log)

    async def readiness() -> Readiness:
        return service.readiness()

    async def metrics() -> bytes:
        return generate_latest(service.metrics.registry)

    async with AsyncExitStack() as stack:
        stack.callback(ignore_stop_signals)
        stack.enter_context(stop_on_signals(service.stop))
        if settings.health.enabled:
            endpoint = serve_health(
                settings.health.host,
                settings.health.port,
                live=service.live,
                readiness=readiness,
                metrics=metrics,
            )
            listening(await stack.enter_async_context(endpoint))
        with suppress(StopRequested):
            async with service.working(construction.live_job(settings)):
                await service.stopping.wait()
    log.info("service.stopped")
    if service.failure is not None:
        raise service.failure
