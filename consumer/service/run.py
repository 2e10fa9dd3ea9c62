"""The running service: waits for its dependencies, opens the parts, runs and drains them."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from time import monotonic
from typing import Final

from prometheus_client import generate_latest

from consumer.contract import ModelContract, differences
from consumer.errors import (
    ContractMismatch,
    DecodeHangs,
    ProducerFailed,
    SettingsError,
    SourceFailed,
)
from consumer.imaging.preparer import Preparer
from consumer.resilience import Dependencies, StuckRecords
from consumer.service import construction, contract_watch
from consumer.service.construction import Connections, Parts
from consumer.service.heads import Heads
from consumer.service.health import Readiness, serve_health, waiting_for
from consumer.service.signals import ignore_stop_signals, stop_on_signals
from consumer.service.starting import StopRequested, await_dependencies, warn_of_topics
from consumer.service.streams import Job, Runtime
from consumer.settings import Settings
from consumer.telemetry import Log, Metrics

_CLOSE_TIMEOUT_S: Final = 10.0
_WATCH_S: Final = 0.25
#: Between two looks at the oldest records.
_LOOK_S: Final = 1.0
#: Photos in flight under a contract that is no longer served can hardly end; they are read again.
_RENEWAL_DRAIN_S: Final = 1.0


class Service:
    """One service in one event loop: its state, its start and its end."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._loop = asyncio.get_running_loop()
        #: None until the dependencies have answered: the parts need the contract of the models.
        self._parts: Parts | None = None
        #: None until they are all open.
        self._connections: Connections | None = None
        self.metrics = Metrics()
        self.dependencies = Dependencies(log, self.metrics)
        self.stuck = StuckRecords(self.metrics)
        self.stopping = asyncio.Event()
        self.failure: SourceFailed | ProducerFailed | SettingsError | DecodeHangs | ContractMismatch | None = None
        self._opened = AsyncExitStack()
        #: Held while the parts are replaced.
        self._renewing = asyncio.Lock()

    def live(self) -> bool:
        """Whether the service waits for its dependencies, or its Kafka threads poll."""
        return self._parts is None or (self._publishes and all(stream.source.alive for stream in self._parts.streams))

    def not_ready(self) -> list[str]:
        """What the service waits for; empty while photos can be tagged."""
        parts = self._parts
        sources = [] if parts is None else [stream.source for stream in parts.streams]
        own = () if parts is None else (parts.admission.complaint, self.stuck.complaint, parts.heads.complaint)
        complaints = (*(source.complaint for source in sources), *own)
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
        runtime = Runtime(self._loop, self._log, self.metrics, self.dependencies, self.stuck, self._fail)
        async with AsyncExitStack() as stack:
            connections = construction.connections_of(self._settings, runtime)
            await stack.enter_async_context(connections.triton)
            await stack.enter_async_context(connections.store)
            contract = await await_dependencies(self._settings, connections, self.dependencies, self.stopping)
            await warn_of_topics(self._settings.kafka, construction.topic_names(self._settings), self._log)
            contract_watch.report(contract, self._log)
            stack.enter_context(connections.publisher)
            self._connections = connections
            await self._begin(job, connections, contract, runtime)
            follow = self._loop.create_task(self._follow_contract(job, connections, contract, runtime))
            follow.add_done_callback(self._followed)
            try:
                yield
            finally:
                async with self._renewing:
                    follow.cancel()
                await self._end(self._settings.service.drain_timeout_s)
                with suppress(asyncio.CancelledError):
                    await follow

    async def _begin(self, job: Job, connections: Connections, contract: ModelContract, runtime: Runtime) -> None:
        """Opens and starts the parts under a contract."""
        parts = construction.parts_of(self._settings, job, connections, contract, runtime)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(parts.fetcher)
            stack.enter_context(parts.preparer)
            if parts.cache is not None:
                await stack.enter_async_context(parts.cache)
            self._parts = parts
            for stream in parts.streams:
                stream.source.start()
            self._log.info("service.started", group_id=job.group_id, models=contract.models)
            for watch in (self._watch_decodes(parts.preparer), self._watch_heads(parts.heads)):
                stack.callback(self._loop.create_task(watch).cancel)
            self._opened = stack.pop_all()

    async def _end(self, drain_s: float) -> None:
        """Drains the parts and closes them."""
        async with self._opened:
            if self._parts is not None:
                await self._drain(self._parts, drain_s)

    async def _follow_contract(
        self, job: Job, connections: Connections, contract: ModelContract, runtime: Runtime
    ) -> None:
        """While Triton serves another contract than the one in force, nothing is judged; then it is taken over.

        All parts are made anew: every photo is prepared, judged, cached and tagged under one contract. What has no
        outcome yet is read again. A job that reads its records once ends instead.
        """
        while self._parts is not None and not self.stopping.is_set():
            served = await contract_watch.next_contract(self._parts.serving, self.dependencies)
            detail = differences(contract, served)
            self._log.warning("contract.changed", detail=detail)
            if not job.rereads:
                self.failure = ContractMismatch(
                    f"other models are served since this job began ({detail}); start it again"
                )
                return
            async with self._renewing:
                await self._end(min(_RENEWAL_DRAIN_S, self._settings.service.drain_timeout_s))
                self._parts, contract = None, served
                contract_watch.report(contract, self._log)
                await self._begin(job, connections, contract, runtime)

    def _followed(self, follow: asyncio.Task[None]) -> None:
        if not follow.cancelled():
            self.stop()

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

    async def _drain(self, parts: Parts, drain_s: float) -> None:
        """Finishes the records in flight before the deadline; the rest stay uncommitted and are read again."""
        for stream in parts.streams:
            stream.source.stop_delivery()
        parts.admission.close()
        # From now on, records that the Kafka threads hand over are not started: the steps are about to close.
        tasks = frozenset[asyncio.Task[None]]().union(*(stream.tasks.close() for stream in parts.streams))
        self._log.info("service.stopping", in_flight=len(tasks))
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
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
