"""From settings to parts: the constructors of what the service is made of. Only `app` and its callers use them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from consumer import tagging
from consumer.budget import Budget
from consumer.contract import ModelContract
from consumer.events import PhotoUploaded, Scores, Source, Tags
from consumer.fetch.fetcher import Fetcher, FetchLimits
from consumer.imaging.limits import PrepareLimits
from consumer.imaging.preparer import Preparer
from consumer.kafka import clients
from consumer.kafka.subscription import Subscription
from consumer.kafka.topics import TopicNames
from consumer.redis.score_cache import ScoreCache, fingerprint
from consumer.settings import Settings
from consumer.telemetry import Metrics
from consumer.triton.inference import Inference

#: Settings of `prepare` that say how long a decode may take and where, not which pixels it gives.
_NOT_LIMITS: Final = frozenset({"threads", "timeout_s", "overdue_grace_s"})


def topic_names(settings: Settings) -> TopicNames:
    """The topics of this installation."""
    kafka = settings.kafka
    return TopicNames(kafka.uploads_topic, kafka.tags_topic, kafka.dead_topic, kafka.retry_topic)


def live_plan(settings: Settings) -> Subscription:
    """The plan of the live service: its share of the upload topic."""
    kafka = settings.kafka
    membership = clients.membership(kafka.group_protocol, kafka.instance_id)
    return Subscription(kafka.uploads_topic, kafka.first_position, membership)


def retry_plan(settings: Settings) -> Subscription:
    """The plan of the live service for the retry topic; every record counts, wherever `first_position` starts."""
    kafka = settings.kafka
    membership = clients.membership(kafka.group_protocol, kafka.instance_id)
    return Subscription(kafka.retry_topic, "earliest", membership)


def fetch_limits(settings: Settings) -> FetchLimits:
    """The limits of a fetch."""
    return FetchLimits(**settings.fetch.model_dump(exclude={"attempts"}))


def fetcher_of(settings: Settings, metrics: Metrics) -> Fetcher:
    """The photo fetcher, whose bytes in flight are bounded and measured."""
    budget = Budget(settings.service.max_in_flight_bytes)
    metrics.in_flight_bytes.set_function(lambda: budget.used)
    return Fetcher(fetch_limits(settings), budget)


def inference_of(settings: Settings) -> Inference:
    """The channel to Triton."""
    triton = settings.triton
    return Inference(
        triton.url, quality_model=triton.quality_model, brand_model=triton.brand_model, deadline_s=triton.deadline_s
    )


def prepare_limits(settings: Settings) -> PrepareLimits:
    """What a photo may be."""
    return PrepareLimits(**settings.prepare.model_dump(exclude=set(_NOT_LIMITS)))


def preparer_of(settings: Settings, contract: ModelContract) -> Preparer:
    """The decoding threads."""
    prepare, limits = settings.prepare, prepare_limits(settings)
    return Preparer(contract.geometry, limits, threads=prepare.threads, timeout_s=prepare.timeout_s)


def cache_of(settings: Settings, contract: ModelContract, count: Callable[[str], None]) -> ScoreCache:
    """The cache of scores; another contract, or other limits of a decode, see none of its entries."""
    return ScoreCache(
        contract=contract,
        fingerprint=fingerprint(contract, settings.prepare.model_dump(exclude=set(_NOT_LIMITS))),
        **settings.dedupe.model_dump(exclude={"enabled"}),
        **settings.redis.model_dump(),
        count=count,
    )


def tag(contract: ModelContract, top_k: int, event: PhotoUploaded, scores: Scores, origin: Source) -> Tags:
    """The decision, taken now."""
    now = datetime.now(UTC)
    # Whole milliseconds: Redis keeps no more, and the result topic must say the same.
    tagged_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return tagging.decide(event, scores, origin, contract, top_k=top_k, tagged_at=tagged_at)
