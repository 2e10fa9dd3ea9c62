"""From settings to parts: the constructors of what the service is made of. Only `app` and its callers use them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from consumer import kafka_clients, tagging
from consumer.cache import ScoreCache, mark_of
from consumer.contract import ModelContract
from consumer.events import PhotoUploaded, Scores, Source, Tags
from consumer.fetch import FetchLimits
from consumer.inference import Inference
from consumer.limits import PrepareLimits
from consumer.prepare import Preparer
from consumer.settings import Settings
from consumer.subscription import Subscription
from consumer.topics import TopicNames

#: Settings of `prepare` that say how long a decode may take and where, not which pixels it gives.
_NOT_LIMITS: Final = frozenset({"threads", "timeout_s", "overdue_grace_s"})


def topic_names(settings: Settings) -> TopicNames:
    """The topics of this installation."""
    kafka = settings.kafka
    return TopicNames(kafka.uploads_topic, kafka.tags_topic, kafka.dead_topic, kafka.retry_topic)


def live_plan(settings: Settings) -> Subscription:
    """The plan of the live service: its share of the upload topic."""
    kafka = settings.kafka
    membership = kafka_clients.membership(kafka.group_protocol, kafka.instance_id)
    return Subscription(kafka.uploads_topic, kafka.first_position, membership)


def retry_plan(settings: Settings) -> Subscription:
    """The plan of the live service for the retry topic; every record counts, wherever `first_position` starts."""
    kafka = settings.kafka
    membership = kafka_clients.membership(kafka.group_protocol, kafka.instance_id)
    return Subscription(kafka.retry_topic, "earliest", membership)


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
    limits = PrepareLimits(**prepare.model_dump(exclude=set(_NOT_LIMITS)))
    return Preparer(contract.geometry, limits, threads=prepare.threads, timeout_s=prepare.timeout_s)


def cache_of(settings: Settings, contract: ModelContract, count: Callable[[str], None]) -> ScoreCache:
    """The cache of scores; another contract, or other limits of a decode, see none of its entries."""
    return ScoreCache(
        settings.redis.url,
        contract,
        mark_of(contract, settings.prepare.model_dump(exclude=set(_NOT_LIMITS))),
        ttl_s=settings.dedupe.ttl_s,
        timeout_s=settings.redis.timeout_s,
        count=count,
    )


def tag(contract: ModelContract, top_k: int, event: PhotoUploaded, scores: Scores, origin: Source) -> Tags:
    """The decision, taken now."""
    now = datetime.now(UTC)
    # Whole milliseconds: Redis keeps no more, and the result topic must say the same.
    tagged_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return tagging.decide(event, scores, origin, contract, top_k=top_k, tagged_at=tagged_at)
