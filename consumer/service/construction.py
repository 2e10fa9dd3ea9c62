"""The composition root: from the settings to the parts of the service, which `run` opens, runs and closes.

Every part is complete once it is constructed: a delivery refers to its source, and the admission suspends the sources
through an event that they share.
"""

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from consumer import events, tagging
from consumer.budget import Budget
from consumer.contract import ModelContract
from consumer.events import Photo, PhotoUploaded, Scores, Tags
from consumer.events import Source as Origin
from consumer.fetch.fetcher import Fetcher
from consumer.fetch.hosts import Hosts
from consumer.fetch.limits import FetchLimits, HostLimits
from consumer.imaging.limits import PrepareLimits
from consumer.imaging.preparer import Preparer
from consumer.kafka import clients
from consumer.kafka.plans import Subscription
from consumer.kafka.publisher import Publisher
from consumer.kafka.registry import Registry
from consumer.kafka.starts import has_positions
from consumer.order_watch import OrderWatch
from consumer.pipeline import Pipeline
from consumer.redis.score_cache import ScoreCache, fingerprint, judged
from consumer.redis.store import Store
from consumer.releases import Numbered
from consumer.resilience import RetrySchedule, retry_within_budget
from consumer.service.admission import Admission
from consumer.service.breaker import BreakerLimits
from consumer.service.heads import Heads
from consumer.service.in_force import Bench, InForce
from consumer.service.streams import Job, Runtime, Stream, retry_group, streams_of
from consumer.settings import Settings
from consumer.steps import Judgement, Steps
from consumer.telemetry import Metrics
from consumer.triton.channel import Tls
from consumer.triton.inference import Around, TritonClient, alone
from consumer.triton.serving import Serving
from consumer.triton.turns import Turns

#: Settings of `prepare` on the duration and place of a decode, which do not change its pixels.
_NOT_LIMITS: Final = frozenset({"threads", "timeout_s", "overdue_grace_s"})


@dataclass(frozen=True, slots=True)
class Connections:
    """The clients of the dependencies, which are needed to read the contract of the models."""

    triton: TritonClient
    store: Store
    publisher: Publisher


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that process records. `streams` has the live topic first."""

    fetcher: Fetcher
    preparer: Preparer
    in_force: InForce
    cache: ScoreCache | None
    admission: Admission
    streams: tuple[Stream, ...]
    heads: Heads


def _told(
    fetch: Callable[[PhotoUploaded], Awaitable[Photo]], tell: Callable[[Photo], None]
) -> Callable[[PhotoUploaded], Awaitable[Photo]]:
    """The fetch, which tells of each photo that it brings."""

    async def fetched(event: PhotoUploaded) -> Photo:
        photo = await fetch(event)
        tell(photo)
        return photo

    return fetched


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all releases share: client, threads, cache, and the memory of pixels."""

    triton: TritonClient
    preparer: Preparer
    cache: ScoreCache | None
    room: Budget
    #: The settings of `prepare` that decide on pixels.
    limits: Mapping[str, object]
    top_k: int
    turns: Turns | None

    def bench(self, release: Numbered, contract: ModelContract) -> Bench:
        """What judges photos under a release."""
        serving = Serving(self.triton, contract, lambda: self.preparer.preparing, self.turns)

        def tag(event: PhotoUploaded, scores: Scores, origin: Origin) -> Tags:
            # Redis keeps whole seconds, and the result topic must agree.
            at = datetime.now(UTC).replace(microsecond=0)
            return tagging.decide(
                event, scores, origin, contract, release=release.number, top_k=self.top_k, tagged_at=at
            )

        known = judged
        if self.cache is not None:
            known = partial(self.cache.score, contract, fingerprint(contract, self.limits))
        judgement = Judgement(
            prepare=partial(self.preparer.prepare, frozenset(contract.geometries.values())),
            infer=serving.infer,
            tag=tag,
            score=known,
            room=partial(self.room.acquire, contract.pixel_bytes),
        )
        return Bench(release, judgement, serving)


def connections_of(settings: Settings, runtime: Runtime) -> Connections:
    """The clients of Triton, Redis and Kafka, not connected yet."""
    kafka = settings.kafka
    publisher = Publisher(
        lambda special: clients.producer_client(kafka.bootstrap_servers, {**kafka.extra, **special}),
        kafka.topics,
        failed=partial(runtime.call_in_loop, runtime.failed),
        log=runtime.log,
        registry=registry_of(settings),
    )
    return Connections(
        triton_client(settings, alone if runtime.tracing is None else runtime.tracing.around_inference),
        Store(**settings.redis.model_dump()),
        publisher,
    )


def registry_of(settings: Settings) -> Registry | None:
    """The schema registry; None where there is none."""
    own = settings.registry
    return Registry(own.url, own.user, own.password.get_secret_value(), str(own.ca or "")) if own.url else None


def triton_client(settings: Settings, around: Around = alone) -> TritonClient:
    """A client for inference, not connected yet.

    Raises:
        SettingsError: a file of TLS cannot be read.
    """
    triton = settings.triton
    return TritonClient(triton.url, deadline_s=triton.deadline_s, tls=triton_tls(settings), around=around)


def triton_tls(settings: Settings) -> Tls | None:
    """What a channel to Triton needs for TLS; None where it is in the clear."""
    triton = settings.triton
    return Tls(triton.tls_ca, triton.tls_certificate, triton.tls_key) if triton.tls else None


def parts_of(settings: Settings, job: Job, connections: Connections, runtime: Runtime) -> Parts:
    """The parts of a service for one job, neither opened nor started; no release is in force yet."""
    fetcher, prepare, service = _fetcher_of(settings, runtime), settings.prepare, settings.service
    preparer = Preparer(prepare_limits(settings), threads=prepare.threads, timeout_s=prepare.timeout_s)
    cache = _cache_of(settings, runtime.metrics) if settings.dedupe.enabled else None
    # While Triton is down, all photos in flight wait with their pixels.
    room = Budget(service.max_in_flight_bytes)
    deciding = prepare.model_dump(exclude=set(_NOT_LIMITS))
    turns = None if job.yields is None else Turns(job.yields.is_set)
    shop = Workshop(connections.triton, preparer, cache, room, deciding, service.top_k, turns)
    in_force = InForce(connections.triton, shop.bench, runtime.dependencies, runtime.log, runtime.metrics)
    steps = Steps(
        parse=partial(events.parse, max_ahead_s=service.max_clock_ahead_s),
        fetch=fetcher.fetch,
        is_under_way=fetcher.is_under_way,
        judgement=in_force.judgement,
        tombstone=tagging.decide_deletion,
        store=connections.store,
        publish=connections.publisher,
    )
    if job.sink_of is not None:
        sink = job.sink_of(connections.store, connections.publisher)
        fetch = _told(fetcher.fetch, sink.fetched)
        steps = replace(steps, store=sink, publish=sink, wants=sink.wants, fetch=fetch, letters=sink.letters)
    if runtime.tracing is not None:
        steps = runtime.tracing.steps(steps, connections.publisher)
    handle = _pipeline_of(settings, steps, runtime, service.max_in_flight).handle
    suspended = threading.Event()
    admission = Admission(
        handle if runtime.tracing is None else runtime.tracing.handle(handle),
        BreakerLimits(service.dead_letter_limit, service.dead_letter_pause_s, service.dead_letter_least),
        suspended=suspended,
        log=runtime.log,
        metrics=runtime.metrics,
    )
    streams = streams_of(settings, job, admission, connections.publisher, suspended=suspended, runtime=runtime)
    heads = Heads([stream.source for stream in streams], service.stuck_after_s, runtime.log, runtime.metrics)
    return Parts(fetcher, preparer, in_force, cache, admission, streams, heads)


def live_job(settings: Settings) -> Job:
    """The job of the live service: partitions of the upload topic and of the retry topic."""
    kafka = settings.kafka
    subscription = partial(Subscription, group_protocol=kafka.group_protocol, instance_id=kafka.instance_id)

    def ran_before() -> bool:
        # Its positions in a retry topic outlive a new upload topic.
        client = clients.admin_client(kafka.bootstrap_servers, kafka.extra)
        return has_positions(client, retry_group(kafka.group_id))

    live = subscription(kafka.uploads_topic, kafka.first_position, ran_before=ran_before)
    return Job(
        live,
        kafka.group_id,
        settings.service.max_in_flight,
        # No waiting record may be left out, whatever `first_position` is. Its first positions tell a first start.
        retries=subscription(kafka.retry_topic, "earliest", after=lambda: live.begun),
    )


def fetch_limits(settings: Settings) -> FetchLimits:
    """The limits of a fetch."""
    return FetchLimits(**settings.fetch.model_dump(exclude={"attempts"}))


def prepare_limits(settings: Settings) -> PrepareLimits:
    """The limits of a photo and its decode."""
    return PrepareLimits(**settings.prepare.model_dump(exclude=set(_NOT_LIMITS)))


def _fetcher_of(settings: Settings, runtime: Runtime) -> Fetcher:
    """The fetcher, with its budget of bytes in flight."""
    budget = Budget(settings.service.max_in_flight_bytes)
    runtime.metrics.in_flight_bytes.set_function(lambda: budget.used)
    return Fetcher(fetch_limits(settings), budget, watchers=() if runtime.tracing is None else runtime.tracing.watchers)


def _cache_of(settings: Settings, metrics: Metrics) -> ScoreCache:
    return ScoreCache(
        **settings.dedupe.model_dump(exclude={"enabled"}),
        **settings.redis.model_dump(),
        count=lambda result: metrics.dedupe.labels(result).inc(),
    )


def _pipeline_of(settings: Settings, steps: Steps, runtime: Runtime, places: int) -> Pipeline:
    log, metrics = runtime.log, runtime.metrics
    return Pipeline(
        steps,
        hosts=Hosts(
            steps.fetch,
            log,
            metrics,
            HostLimits(**settings.hosts.model_dump()),
            places=places,
            max_bytes=settings.service.max_in_flight_bytes,
        ),
        dependencies=runtime.dependencies,
        retry=retry_within_budget(settings.fetch.attempts, log, metrics),
        schedule=RetrySchedule(settings.retry.rounds, settings.retry.delays_s),
        log=log,
        metrics=metrics,
        stuck=runtime.stuck,
        order=OrderWatch(log, metrics),
    )
