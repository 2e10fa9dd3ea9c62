"""The start of a service: it waits until its dependencies answer, and looks at the settings of its topics."""

import asyncio
from functools import partial
from typing import Any, TypeVar

from consumer.contract import ModelContract
from consumer.errors import DependencyDown, TaggerError
from consumer.kafka.topic_review import review_topics
from consumer.kafka.topics import TopicNames
from consumer.resilience import Dependencies
from consumer.service.construction import Connections
from consumer.settings import Settings
from consumer.settings.sections import KafkaSettings
from consumer.telemetry import Log

T = TypeVar("T")


class StopRequested(TaggerError):
    """The service was asked to stop while it waited for its dependencies."""


async def await_dependencies(
    settings: Settings, connections: Connections, dependencies: Dependencies, stopping: asyncio.Event
) -> ModelContract:
    """Waits until Triton serves both models, Redis answers and Kafka has the topics; returns the models' contract.

    Raises:
        ContractMismatch: the models do not fit this service or each other.
        StopRequested: `stopping` was set first.
    """
    triton = settings.triton
    read_contract = partial(connections.triton.read_contract, triton.quality_model, triton.brand_model)
    require_topics = partial(connections.publisher.require_topics, settings.kafka.bootstrap_servers)
    wait = dependencies.retry_until_available
    answers = asyncio.gather(
        wait("triton", read_contract), wait("redis", connections.store.ping), wait("kafka", require_topics)
    )
    contract, _, _ = await _unless_stopped(answers, stopping)
    return contract


async def warn_of_topics(kafka: KafkaSettings, names: TopicNames, log: Log) -> None:
    """Warns of topics whose settings lose records; that they cannot be read is no reason not to start."""
    try:
        problems = await asyncio.to_thread(review_topics, kafka.bootstrap_servers, names, kafka.extra)
    except DependencyDown as unread:
        log.info("topics.unread", detail=unread.detail)
        return
    for problem in problems:
        log.warning(
            "topic.misconfigured",
            topic=problem.topic,
            setting=problem.setting,
            detail=problem.detail,
            mend=problem.mend,
        )


async def _unless_stopped(work: asyncio.Future[T], stopping: asyncio.Event) -> T:
    stop = asyncio.get_running_loop().create_task(stopping.wait())
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
