"""The composition root: builds the service from its settings, runs it, and takes it down in reverse."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from confluent_kafka import Producer

from consumer import kafka_clients, tagging
from consumer.contract import ModelContract
from consumer.errors import SourceFailed, TaggerError
from consumer.events import PhotoUploaded, Record, Scores, Tags
from consumer.events import Source as Origin
from consumer.fetch import Fetcher, FetchLimits
from consumer.health import serve_health
from consumer.inference import Inference
from consumer.pipeline import Pipeline, Steps
from consumer.prepare import PrepareLimits, Preparer
from consumer.publish import Publisher
from consumer.resilience import Patience, retry_within_budget
from consumer.settings import Settings
from consumer.source import Plan, Source
from consumer.store import Store
from consumer.subscription import Subscription
from consumer.telemetry import Log, Metrics
from consumer.topics import TopicNames

_CLOSE_TIMEOUT_S: Final = 10.0

T = TypeVar("T")
P = ParamSpec("P")


class Service:
    """One service in one event loop: opens everything that a plan's records need, and closes it again."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pipeline: Pipeline | None = None
        self._source: Source | None = None
        self.metrics = Metrics()
        self.patience = Patience(log, self.metrics)
        self.stopping = asyncio.Event()
        self.failure: SourceFailed | None = None

    def live(self) -> bool:
        """Whether the process works: it waits for its dependencies, or its Kafka thread polls."""
        return self._source is None or self._source.alive

    def not_ready(self) -> list[str]:
        """What the service still waits for; empty while photos can be tagged."""
        waiting: list[str] = list(self.patience.lost)
        if self._source is None or not self._source.ready:
            waiting.append("assignment")
        return [*waiting, "stopping"] if self.stopping.is_set() else waiting

    @property
    def idle(self) -> bool:
        """Whether no record is in work."""
        return self._source is not None and self._source.in_flight == 0

    def outcomes(self) -> dict[str, int]:
        """How many records reached each outcome so far."""
        samples = next(iter(self.metrics.records.collect())).samples
        return {entry.labels["outcome"]: int(entry.value) for entry in samples if entry.name.endswith("_total")}

    def stop(self) -> None:
        """Asks the service to drain and end."""
        self.stopping.set()

    @asynccontextmanager
    async def working(self, plan: Plan, group_id: str) -> AsyncIterator[None]:
        """Waits for the dependencies, then processes the plan's records until the context ends; drains at its end.

        Yields:
            Nothing; `stopping` is set when the source failed.
        """
        settings, names = self._settings, topic_names(self._settings)
        async with AsyncExitStack() as stack:
            inference = await stack.enter_async_context(inference_of(settings))
            store = await stack.enter_async_context(Store(settings.redis.url, timeout_s=settings.redis.timeout_s))
            producer = kafka_clients.producer_client(settings.kafka.bootstrap_servers, settings.kafka.extra)
            contract = await self._await_dependencies(inference, store, producer)
            fetcher = await stack.enter_async_context(Fetcher(fetch_limits(settings)))
            preparer = stack.enter_context(preparer_of(settings, contract))
            publisher = stack.enter_context(Publisher(producer, names))
            source = self._source_of(plan, group_id)
            steps = Steps(
                fetch=fetcher.fetch,
                prepare=preparer.prepare,
                infer=inference.infer,
                tag=partial(_tag, contract, settings.service.top_k),
                bury=tagging.decide_deletion,
                store=store,
                publish=publisher,
                done=source.done,
            )
            self._pipeline = self._pipeline_of(steps)
            source.start()
            self._source = source
            self._log.info("service.started", group_id=group_id, models=contract.models)
            try:
                yield
            finally:
                await self._drain(source)

    async def _await_dependencies(self, inference: Inference, store: Store, producer: Producer) -> ModelContract:
        """Waits until Triton serves both models, Redis answers and Kafka has the topics."""
        names = topic_names(self._settings)
        topics = (names.uploads, names.tags, names.dead)
        servers = self._settings.kafka.bootstrap_servers
        check = partial(asyncio.to_thread, kafka_clients.require_topics, producer, servers, topics)
        answers = asyncio.gather(
            self.patience.outlast("triton", inference.read_contract),
            self.patience.outlast("redis", store.ping),
            self.patience.outlast("kafka", check),
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
            if work.cancel():
                await asyncio.wait([work])

    def _source_of(self, plan: Plan, group_id: str) -> Source:
        kafka = self._settings.kafka
        return Source(
            plan,
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=group_id,
            extra=kafka.extra,
            max_in_flight=self._settings.service.max_in_flight,
            deliver=lambda records: self._in_loop(self._accept, records),
            failed=lambda failure: self._in_loop(self._fail, failure),
            log=self._log,
            metrics=self.metrics,
        )

    def _pipeline_of(self, steps: Steps) -> Pipeline:
        attempts = self._settings.fetch.attempts
        return Pipeline(
            steps,
            patience=self.patience,
            retry=retry_within_budget(attempts, self._log, self.metrics),
            attempts=attempts,
            log=self._log,
            metrics=self.metrics,
        )

    def _in_loop(self, call: Callable[P, None], *arguments: P.args, **_: P.kwargs) -> None:
        """Runs a callback of the Kafka thread in the event loop; after the loop's end there is nobody to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _accept(self, records: Sequence[Record]) -> None:
        if self._pipeline is None:
            return
        for record in records:
            task = self._loop.create_task(self._pipeline.handle(record))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _fail(self, failure: SourceFailed) -> None:
        self.failure = self.failure or failure
        self._log.error("kafka.errored", detail=str(failure))
        self.stop()

    async def _drain(self, source: Source) -> None:
        """Finishes what is in flight within the budget; the rest stays uncommitted and is read again."""
        source.stop_intake()
        self._log.info("service.stopping", in_flight=len(self._tasks))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.service.drain_timeout_s)
        left = list(self._tasks)
        if left:
            self._log.warning("service.drain_timed_out", in_flight=len(left))
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.to_thread(source.close, _CLOSE_TIMEOUT_S)
        self._log.info("service.drained")


class StopRequested(TaggerError):
    """The service was asked to stop while it waited for its dependencies."""


async def run_live(settings: Settings, log: Log) -> None:
    """Runs the service on the live topic until SIGTERM or SIGINT.

    Raises:
        SourceFailed: Kafka refuses this consumer for good.
    """
    service = Service(settings, log)
    plan = Subscription(settings.kafka.uploads_topic, settings.kafka.first_position)
    async with AsyncExitStack() as stack:
        if settings.health.enabled:
            endpoint = serve_health(
                settings.health.host,
                settings.health.port,
                metrics=service.metrics,
                live=service.live,
                not_ready=service.not_ready,
            )
            await stack.enter_async_context(endpoint)
        stack.enter_context(stop_on_signal(service))
        with suppress(StopRequested):
            async with service.working(plan, settings.kafka.group_id):
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


def topic_names(settings: Settings) -> TopicNames:
    """The topics of this installation."""
    return TopicNames(settings.kafka.uploads_topic, settings.kafka.tags_topic, settings.kafka.dead_topic)


def fetch_limits(settings: Settings) -> FetchLimits:
    """The limits of a fetch."""
    return FetchLimits(**settings.fetch.model_dump(exclude={"attempts"}))


def inference_of(settings: Settings) -> Inference:
    """The channel to Triton."""
    triton = settings.triton
    return Inference(
        triton.url, quality_model=triton.quality_model, brand_model=triton.brand_model, deadline_s=triton.deadline_s
    )


def preparer_of(settings: Settings, contract: ModelContract) -> Preparer:
    """The decoding threads."""
    prepare = settings.prepare
    limits = PrepareLimits(**prepare.model_dump(exclude={"threads", "timeout_s"}))
    return Preparer(contract.geometry, limits, threads=prepare.threads, timeout_s=prepare.timeout_s)


def _tag(contract: ModelContract, top_k: int, event: PhotoUploaded, scores: Scores, origin: Origin) -> Tags:
    now = datetime.now(UTC)
    # Whole milliseconds: Redis keeps no more, and the result topic must say the same.
    tagged_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return tagging.decide(event, scores, origin, contract, top_k=top_k, tagged_at=tagged_at)
