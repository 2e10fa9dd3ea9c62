"""The topics that a service reads: for each its source, and what becomes of its records."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import inf
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from consumer.errors import ProducerFailed, SettingsError, SourceFailed
from consumer.events import Source as Origin
from consumer.kafka import clients
from consumer.kafka.backpressure import Flag
from consumer.kafka.ends import Ends
from consumer.kafka.headers import Delivery, DeliveryReader, delivery_of
from consumer.kafka.plans import Plan
from consumer.kafka.publisher import Publisher
from consumer.kafka.source import Source
from consumer.kafka.topic_ids import TopicIds
from consumer.redis.store import Store
from consumer.releases import Numbered
from consumer.resilience import Dependencies, StuckRecords
from consumer.service.admission import Admission
from consumer.service.per_photo_order import PerPhotoOrder
from consumer.service.waiting import Uses, WaitingRoom
from consumer.service.waiting_limits import Load, WaitingLimits
from consumer.settings import Settings
from consumer.steps import Sink
from consumer.telemetry import Log, Metrics

if TYPE_CHECKING:
    from consumer.tracing.tracing import Tracing

T = TypeVar("T")

#: One in so many photos in flight may be from the retry topic, and one may wait behind others that take long.
_SHARE: Final = 4


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
    #: It leaves Triton to others, most of all while this is set: live photos come. Without it, it competes with them.
    yields: Flag | None = None
    #: What judges instead of the release in force.
    candidate: Numbered | None = None
    #: Where answers go; without it, they are tags.
    sink_of: Callable[[Store, Publisher], Sink] | None = None
    read: DeliveryReader = delivery_of


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all parts of one service share: event loop, log, metrics, and what to call when Kafka fails for good.

    `tracing` is None where there are no traces.
    """

    loop: asyncio.AbstractEventLoop
    log: Log
    metrics: Metrics
    dependencies: Dependencies
    stuck: StuckRecords
    failed: Callable[[SourceFailed | ProducerFailed | SettingsError], None]
    tracing: "Tracing | None" = None

    def call_in_loop(self, call: Callable[[T], None], argument: T) -> None:
        """Runs a callback of the Kafka thread in the event loop; does nothing after the loop's end."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(call, argument)


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


def streams_of(
    settings: Settings, job: Job, admission: Admission, publisher: Publisher, *, suspended: Flag, runtime: Runtime
) -> tuple[Stream, ...]:
    """The stream of a job's own topic, then that of the retry topic, where the job reads it."""
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

    share = max(1, job.max_in_flight // _SHARE)
    halted = partial(_halted, suspended, runtime.dependencies)
    live = stream(
        job.plan,
        job.group_id,
        job.max_in_flight,
        suspended=suspended,
        read=job.read,
        tasks=PerPhotoOrder(admission.handle, most_behind=inf if job.retries is None else share, halted=halted),
        metrics=runtime.metrics,
    )
    if job.retries is None:
        return (live,)
    load = Load(retry.max_waiting_bytes, suspended)
    limits = WaitingLimits(retry.max_waiting, retry.max_waiting_bytes, share)
    move = partial(_move, publisher, runtime.dependencies)
    room = WaitingRoom(Uses(admission.handle, move, halted), limits, load, log=runtime.log, metrics=runtime.metrics)
    retries = stream(
        job.retries,
        retry_group(job.group_id),
        retry.max_waiting,
        suspended=load,
        read=room.read,
        tasks=room,
        metrics=runtime.metrics.for_retries(),
    )
    return live, retries


def retry_group(group_id: str) -> str:
    """The group that reads the retry topic."""
    return f"{group_id}.retry"


def _halted(suspended: Flag, dependencies: Dependencies) -> bool:
    """Whether no photo gets on: the breaker is open, or what every photo needs is down."""
    return suspended.is_set() or dependencies.stop_every_photo


async def _move(publisher: Publisher, dependencies: Dependencies, delivery: Delivery) -> Origin:
    """As `Publisher.move`, for as long as Kafka does not answer."""
    return await dependencies.retry_until_available("kafka", partial(publisher.move, delivery))
