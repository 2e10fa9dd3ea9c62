"""The composition root: builds the service from its settings, runs it, and takes it down in reverse."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any, Final, ParamSpec, TypeVar

from confluent_kafka import Producer

from consumer import tagging
from consumer.contract import ModelContract
from consumer.errors import DecodeHangs, SourceFailed, TaggerError
from consumer.events import Record, Scores
from consumer.imaging.preparer import Preparer
from consumer.kafka import clients
from consumer.kafka.publisher import Publisher
from consumer.kafka.source import Plan, Source
from consumer.pipeline import Pipeline, Steps
from consumer.redis.score_cache import judged
from consumer.redis.store import Store
from consumer.resilience import Patience, RetrySchedule, retry_within_budget
from consumer.service import wiring
from consumer.service.admission import Admission
from consumer.service.breaker import BreakerLimits
from consumer.service.health import serve_health
from consumer.service.per_photo_order import KeyedTasks
from consumer.settings import Settings
from consumer.telemetry import Log, Metrics
from consumer.triton.inference import Inference

_CLOSE_TIMEOUT_S: Final = 10.0
_WATCH_S: Final = 0.25
#: One of so many places for photos in work is for those from the retry topic.
_RETRY_SHARE: Final = 4

T = TypeVar("T")
P = ParamSpec("P")


class Service:
    """One service in one event loop: opens everything that a plan's records need, and closes it again."""

    def __init__(self, settings: Settings, log: Log, *, max_in_flight: int | None = None) -> None:
        self._settings = settings
        self._max_in_flight = max_in_flight or settings.service.max_in_flight
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[str, KeyedTasks] = {}
        self._source: Source | None = None
        self._retries: Source | None = None
        self._admission: Admission | None = None
        self.metrics = Metrics()
        self.patience = Patience(log, self.metrics)
        self.stopping = asyncio.Event()
        self.failure: SourceFailed | DecodeHangs | None = None

    def live(self) -> bool:
        """Whether the process works: it waits for its dependencies, or its Kafka thread polls."""
        return all(source is None or source.alive for source in (self._source, self._retries))

    def not_ready(self) -> list[str]:
        """What the service still waits for; empty while photos can be tagged."""
        waiting: list[str] = list(self.patience.lost)
        if self._source is None or not self._source.ready:
            waiting.append("assignment")
        if self._retries is not None and not self._retries.ready:
            waiting.append("assignment of retries")
        if self._admission is not None and self._admission.complaint is not None:
            waiting.append(self._admission.complaint)
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
    async def working(self, plan: Plan, group_id: str, retries: Plan | None = None) -> AsyncIterator[None]:
        """Waits for the dependencies, then processes the plan's records until the context ends; drains at its end.

        `retries` is the plan of the retry topic, where this service reads it too. Its group is one of its own: records
        that sleep there hold up no rebalance of the live partitions, and a static member's name is used once a group.

        Yields:
            Nothing; `stopping` is set when the source failed.
        """
        settings, names = self._settings, wiring.topic_names(self._settings)
        async with AsyncExitStack() as stack:
            inference = await stack.enter_async_context(wiring.inference_of(settings))
            store = await stack.enter_async_context(Store(**settings.redis.model_dump()))
            producer = clients.producer_client(settings.kafka.bootstrap_servers, settings.kafka.extra)
            contract = await self._await_dependencies(inference, store, producer)
            fetcher = await stack.enter_async_context(wiring.fetcher_of(settings, self.metrics))
            preparer = stack.enter_context(wiring.preparer_of(settings, contract))
            publisher = stack.enter_context(Publisher(producer, names))
            source = self._source_of(plan, group_id, self._max_in_flight, self.metrics)
            window, its_metrics = settings.retry.max_waiting, self.metrics.for_retries()
            later = None if retries is None else self._source_of(retries, f"{group_id}.retry", window, its_metrics)
            steps = Steps(
                fetch=fetcher.fetch,
                prepare=preparer.prepare,
                infer=inference.infer,
                tag=partial(wiring.tag, contract, settings.service.top_k),
                bury=tagging.decide_deletion,
                store=store,
                publish=publisher,
                done=partial(_finish, source, later, names.retry),
                score=await self._scoring(stack, contract),
            )
            self._admission = self._admission_of(self._pipeline_of(steps), source, later)
            source.start()
            self._source = source
            if later is not None:
                later.start()
            self._retries = later
            self._log.info("service.started", group_id=group_id, models=contract.models)
            watch = self._loop.create_task(self._watch_decodes(preparer))
            try:
                yield
            finally:
                watch.cancel()
                await self._drain([source] if later is None else [source, later])

    async def _await_dependencies(self, inference: Inference, store: Store, producer: Producer) -> ModelContract:
        """Waits until Triton serves both models, Redis answers and Kafka has the topics."""
        names = wiring.topic_names(self._settings)
        topics = (names.uploads, names.tags, names.retry, names.dead)
        servers = self._settings.kafka.bootstrap_servers
        check = partial(asyncio.to_thread, clients.require_topics, producer, servers, topics)
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

    async def _scoring(self, stack: AsyncExitStack, contract: ModelContract) -> Callable[..., Awaitable[Scores]]:
        settings = self._settings
        if not settings.dedupe.enabled:
            return judged
        cache = wiring.cache_of(settings, contract, count=lambda result: self.metrics.dedupe.labels(result).inc())
        return (await stack.enter_async_context(cache)).score

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

    def _source_of(self, plan: Plan, group_id: str, max_in_flight: int, metrics: Metrics) -> Source:
        kafka = self._settings.kafka
        return Source(
            plan,
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=group_id,
            extra=kafka.extra,
            max_in_flight=max_in_flight,
            deliver=lambda records: self._in_loop(self._accept, records),
            failed=lambda failure: self._in_loop(self._fail, failure),
            log=self._log,
            metrics=metrics,
        )

    def _pipeline_of(self, steps: Steps) -> Pipeline:
        return Pipeline(
            steps,
            patience=self.patience,
            retry=retry_within_budget(self._settings.fetch.attempts, self._log, self.metrics),
            schedule=RetrySchedule(self._settings.retry.rounds, self._settings.retry.delays_s),
            log=self._log,
            metrics=self.metrics,
        )

    def _admission_of(self, pipeline: Pipeline, source: Source, retries: Source | None) -> Admission:
        service = self._settings.service
        admission = Admission(
            pipeline.handle,
            BreakerLimits(service.dead_letter_limit, service.dead_letter_pause_s, service.dead_letter_least),
            # What was late already must not crowd out what is new.
            together=max(1, self._max_in_flight // _RETRY_SHARE),
            log=self._log,
            metrics=self.metrics,
        )
        admission.gates.append(source)
        names = wiring.topic_names(self._settings)
        self._tasks = {names.uploads: KeyedTasks(admission.handle)}
        if retries is not None:
            admission.gates.append(retries)
            self._tasks[names.retry] = KeyedTasks(partial(admission.handle_when_due, gate=retries))
        return admission

    def _in_loop(self, call: Callable[P, None], *arguments: P.args, **_: P.kwargs) -> None:
        """Runs a callback of the Kafka thread in the event loop; after the loop's end there is nobody to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _accept(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.topic in self._tasks:
                self._tasks[record.topic].start(record)

    def _fail(self, failure: SourceFailed) -> None:
        self.failure = self.failure or failure
        self._log.error("kafka.errored", detail=str(failure))
        self.stop()

    async def _watch_decodes(self, preparer: Preparer) -> None:
        """Stops the service when a decode runs on after its photo was given up: only a new process frees the core."""
        grace_s = self._settings.prepare.overdue_grace_s
        since_s: float | None = None
        while since_s is None or monotonic() - since_s < grace_s:
            await asyncio.sleep(min(_WATCH_S, grace_s))
            since_s = (since_s or monotonic()) if preparer.overdue else None
        text = f"{preparer.overdue} decodes still run {grace_s:g} s after their limit"
        self.failure = self.failure or DecodeHangs(f"{text}; this process ends to be replaced")
        self._log.error("decode.hung", detail=text)
        self.stop()

    async def _drain(self, sources: Sequence[Source]) -> None:
        """Finishes what is in work within the budget; the rest stays uncommitted and is read again."""
        for source in sources:
            source.stop_intake()
        if self._admission is not None:
            self._admission.close()
        # What the Kafka thread hands over from now on is not started: nobody would wait for it, and the steps close.
        tasks, self._tasks = frozenset(task for each in self._tasks.values() for task in each.running), {}
        self._log.info("service.stopping", in_flight=len(tasks))
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.service.drain_timeout_s)
        left = [task for task in tasks if not task.done()]
        if left:
            self._log.warning("service.drain_timed_out", in_flight=len(left))
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.gather(*(asyncio.to_thread(source.close, _CLOSE_TIMEOUT_S) for source in sources))
        self._log.info("service.drained")


class StopRequested(TaggerError):
    """The service was asked to stop while it waited for its dependencies."""


async def run_live(settings: Settings, log: Log, listening: Callable[[int], None] = lambda _: None) -> None:
    """Runs the service on the live topic until SIGTERM or SIGINT; `listening` gets the health endpoint's port.

    Raises:
        SourceFailed: Kafka refuses this consumer for good.
        DecodeHangs: a decode cannot be stopped; the process is to end without waiting for its threads.
    """
    service = Service(settings, log)
    plan = wiring.live_plan(settings)
    async with AsyncExitStack() as stack:
        if settings.health.enabled:
            endpoint = serve_health(
                settings.health.host,
                settings.health.port,
                metrics=service.metrics,
                live=service.live,
                not_ready=service.not_ready,
            )
            listening(await stack.enter_async_context(endpoint))
        stack.enter_context(stop_on_signal(service))
        with suppress(StopRequested):
            async with service.working(plan, settings.kafka.group_id, wiring.retry_plan(settings)):
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


def _finish(source: Source, retries: Source | None, retry_topic: str, record: Record) -> None:
    """Tells the reader that delivered the record that it is done."""
    (retries if retries is not None and record.topic == retry_topic else source).done(record)
