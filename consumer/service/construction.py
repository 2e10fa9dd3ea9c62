"""The composition root: from the settings to the parts of the service, which `run` opens, runs and closes.

Every part is complete once it is constructed: a delivery refers to its source, and the admission suspends the sources
through an event that they share.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Final, Protocol, TypeVar

from consumer import events, tagging
from consumer.budget import Budget
from consumer.contract import ModelContract
from consumer.errors import ProducerFailed, SourceFailed
from consumer.events import PhotoUploaded, Scores, Tags
from consumer.events import Source as Origin
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.hosts import Hosts
from consumer.fetch.limits import FetchLimits, HostLimits
from consumer.imaging.limits import PrepareLimits
from consumer.imaging.preparer import Preparer
from consumer.kafka import clients
from consumer.kafka.backpressure import Flag
from consumer.kafka.ends import Ends
from consumer.kafka.headers import Delivery, DeliveryReader, delivery_of
from consumer.kafka.plans import Plan, Subscription
from consumer.kafka.publisher import Publisher
from consumer.kafka.source import Source
from consumer.kafka.topic_ids import TopicIds
from consumer.kafka.topics import TopicNames
from consumer.pipeline import Pipeline
from consumer.redis.score_cache import ScoreCache, fingerprint, judged
from consumer.redis.store import Store
from consumer.resilience import Dependencies, RetrySchedule, retry_within_budget
from consumer.service.admission import Admission
from consumer.service.breaker import BreakerLimits
from consumer.service.heads import Heads
from consumer.service.per_photo_order import PerPhotoOrder
from consumer.service.waiting import Uses, WaitingRoom
from consumer.service.waiting_limits import Load, WaitingLimits
from consumer.settings import Settings
from consumer.steps import Steps
from consumer.telemetry import Log, Metrics
from consumer.triton.inference import TritonClient
from consumer.triton.serving import Serving

T = TypeVar("T")

#: One in so many photos in flight may be from the retry topic.
_RETRY_SHARE: Final = 4
#: Settings of `prepare` on the duration and place of a decode, which do not change its pixels.
_NOT_LIMITS: Final = frozenset({"threads", "timeout_s", "overdue_grace_s"})


@dataclass(frozen=True, slots=True)
class Job:
    """Which records a service processes.

    `retries` is the plan of the retry topic, where this service reads it too. It has a group of its own: waiting
    records do not delay a rebalance of the live partitions, and a static member's name is used once in a group.
    """

    plan: Plan
    group_id: str
    max_in_flight: int
    retries: Plan | None = None
    #: Whether the plans can begin again, with the records that have no outcome.
    rereads: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all parts of one service share: event loop, log, metrics, and what to call when Kafka fails for good."""

    loop: asyncio.AbstractEventLoop
    log: Log
    metrics: Metrics
    dependencies: Dependencies
    failed: Callable[[SourceFailed | ProducerFailed], None]

    def call_in_loop(self, call: Callable[[T], None], argument: T) -> None:
        """Runs a callback of the Kafka thread in the event loop; does nothing after the loop's end."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(call, argument)


@dataclass(frozen=True, slots=True)
class Connections:
    """The clients of the dependencies, which are needed to read the contract of the models."""

    triton: TritonClient
    store: Store
    publisher: Publisher


class Tasks(Protocol):
    """What becomes of the records of one topic, in the event loop."""

    def start(self, deliveries: Sequence[Delivery]) -> None:
        """Takes records that were read."""

    def close(self) -> frozenset[asyncio.Task[None]]:
        """Starts no more; returns the tasks that have not ended."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The source of one topic, and the tasks that process its records."""

    source: Source
    tasks: Tasks


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that process records under one contract. `streams` has the live topic first."""

    fetcher: Fetcher
    preparer: Preparer
    serving: Serving
    cache: ScoreCache | None
    admission: Admission
    streams: tuple[Stream, ...]
    heads: Heads


def connections_of(settings: Settings, runtime: Runtime) -> Connections:
    """The clients of Triton, Redis and Kafka, not connected yet."""
    kafka = settings.kafka
    publisher = Publisher(
        lambda special: clients.producer_client(kafka.bootstrap_servers, {**kafka.extra, **special}),
        topic_names(settings),
        failed=partial(runtime.call_in_loop, runtime.failed),
        log=runtime.log,
    )
    return Connections(
        TritonClient(settings.triton.url, deadline_s=settings.triton.deadline_s),
        Store(**settings.redis.model_dump()),
        publisher,
    )


def parts_of(
    settings: Settings, job: Job, connections: Connections, contract: ModelContract, runtime: Runtime
) -> Parts:
    """The parts of a service for one job, neither opened nor started."""
    fetcher, prepare = _fetcher_of(settings, runtime.metrics), settings.prepare
    limits = prepare_limits(settings)
    preparer = Preparer(contract.geometry, limits, threads=prepare.threads, timeout_s=prepare.timeout_s)
    serving = Serving(connections.triton, contract)
    cache = _cache_of(settings, contract, runtime.metrics) if settings.dedupe.enabled else None
    steps = Steps(
        parse=partial(events.parse, max_ahead_s=settings.service.max_clock_ahead_s),
        fetch=fetcher.fetch,
        is_under_way=fetcher.is_under_way,
        prepare=preparer.prepare,
        infer=serving.infer,
        tag=partial(_tag, contract, settings.service.top_k),
        tombstone=tagging.decide_deletion,
        store=connections.store,
        publish=connections.publisher,
        score=judged if cache is None else cache.score,
    )
    suspended, service = threading.Event(), settings.service
    admission = Admission(
        _pipeline_of(settings, steps, runtime).handle,
        BreakerLimits(service.dead_letter_limit, service.dead_letter_pause_s, service.dead_letter_least),
        suspended=suspended,
        log=runtime.log,
        metrics=runtime.metrics,
    )
    streams = _streams_of(settings, job, admission, connections.publisher, suspended=suspended, runtime=runtime)
    heads = Heads([stream.source for stream in streams], service.stuck_after_s, runtime.log, runtime.metrics)
    return Parts(fetcher, preparer, serving, cache, admission, streams, heads)


def topic_names(settings: Settings) -> TopicNames:
    """The topics of this installation."""
    kafka = settings.kafka
    return TopicNames(kafka.uploads_topic, kafka.tags_topic, kafka.dead_topic, kafka.retry_topic)


def live_job(settings: Settings) -> Job:
    """The job of the live service: partitions of the upload topic and of the retry topic."""
    kafka = settings.kafka
    subscription = partial(Subscription, group_protocol=kafka.group_protocol, instance_id=kafka.instance_id)
    return Job(
        subscription(kafka.uploads_topic, kafka.first_position),
        kafka.group_id,
        settings.service.max_in_flight,
        # No waiting record may be left out, whatever `first_position` is.
        retries=subscription(kafka.retry_topic, "earliest"),
        rereads=True,
    )


def fetch_limits(settings: Settings) -> FetchLimits:
    """The limits of a fetch."""
    return FetchLimits(**settings.fetch.model_dump(exclude={"attempts"}))


def prepare_limits(settings: Settings) -> PrepareLimits:
    """The limits of a photo and its decode."""
    return PrepareLimits(**settings.prepare.model_dump(exclude=set(_NOT_LIMITS)))


def _fetcher_of(settings: Settings, metrics: Metrics) -> Fetcher:
    """The fetcher, with its budget of bytes in flight."""
    budget = Budget(settings.service.max_in_flight_bytes)
    metrics.in_flight_bytes.set_function(lambda: budget.used)
    return Fetcher(fetch_limits(settings), budget)


def _cache_of(settings: Settings, contract: ModelContract, metrics: Metrics) -> ScoreCache:
    """The score cache; entries of another contract or other limits are misses."""
    return ScoreCache(
        contract=contract,
        fingerprint=fingerprint(contract, settings.prepare.model_dump(exclude=set(_NOT_LIMITS))),
        **settings.dedupe.model_dump(exclude={"enabled"}),
        **settings.redis.model_dump(),
        count=lambda result: metrics.dedupe.labels(result).inc(),
    )


def _tag(contract: ModelContract, top_k: int, event: PhotoUploaded, scores: Scores, origin: Origin) -> Tags:
    """The decision, taken now."""
    now = datetime.now(UTC)
    # Whole milliseconds: Redis keeps no more, and the result topic must agree.
    tagged_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return tagging.decide(event, scores, origin, contract, top_k=top_k, tagged_at=tagged_at)


def _pipeline_of(settings: Settings, steps: Steps, runtime: Runtime) -> Pipeline:
    log, metrics = runtime.log, runtime.metrics
    return Pipeline(
        steps,
        hosts=Hosts(
            steps.fetch,
            log,
            metrics,
            HostLimits(**settings.hosts.model_dump()),
            places=settings.service.max_in_flight,
            max_bytes=settings.service.max_in_flight_bytes,
        ),
        dependencies=runtime.dependencies,
        retry=retry_within_budget(settings.fetch.attempts, log, metrics),
        schedule=RetrySchedule(settings.retry.rounds, settings.retry.delays_s),
        log=log,
        metrics=metrics,
    )


def _streams_of(
    settings: Settings, job: Job, admission: Admission, publisher: Publisher, *, suspended: Flag, runtime: Runtime
) -> tuple[Stream, ...]:
    kafka, retry = settings.kafka, settings.retry

    def stream(
        plan: Plan,
        group_id: str,
        max_in_flight: int,
        *,
        suspended: Flag,
        read: DeliveryReader,
        tasks: Tasks,
        metrics: Metrics,
    ) -> Stream:
        admin = cache(partial(clients.admin_client, kafka.bootstrap_servers, kafka.extra))
        source = Source(
            plan,
            connect=partial(clients.consumer_client, kafka.bootstrap_servers, group_id, kafka.extra),
            topic_ids=TopicIds(admin),
            ends=Ends(admin),
            max_in_flight=max_in_flight,
            suspended=suspended,
            read=read,
            deliver=partial(runtime.call_in_loop, tasks.start),
            failed=partial(runtime.call_in_loop, runtime.failed),
            log=runtime.log,
            metrics=metrics,
        )
        return Stream(source, tasks)

    live = stream(
        job.plan,
        job.group_id,
        job.max_in_flight,
        suspended=suspended,
        read=delivery_of,
        tasks=PerPhotoOrder(admission.handle),
        metrics=runtime.metrics,
    )
    if job.retries is None:
        return (live,)
    load = Load(retry.max_waiting_bytes, suspended)
    limits = WaitingLimits(retry.max_waiting, retry.max_waiting_bytes, max(1, job.max_in_flight // _RETRY_SHARE))
    move = partial(_move, publisher, runtime.dependencies)
    halted = partial(_halted, suspended, runtime.dependencies)
    room = WaitingRoom(Uses(admission.handle, move, halted), limits, load, log=runtime.log, metrics=runtime.metrics)
    retries = stream(
        job.retries,
        f"{job.group_id}.retry",
        retry.max_waiting,
        suspended=load,
        read=room.read,
        tasks=room,
        metrics=runtime.metrics.for_retries(),
    )
    return live, retries


def _halted(suspended: Flag, dependencies: Dependencies) -> bool:
    """Whether no photo gets on: the breaker is open, or what every photo needs is down."""
    return suspended.is_set() or any(name != "photos" for name in dependencies.lost)


async def _move(publisher: Publisher, dependencies: Dependencies, delivery: Delivery) -> Origin:
    """As `Publisher.move`, for as long as Kafka does not answer."""
    return await dependencies.retry_until_available("kafka", partial(publisher.move, delivery))
