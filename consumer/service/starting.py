"""The start of a service: it waits until its dependencies answer, and looks at the settings of its topics."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from consumer.errors import DependencyDown, TaggerError
from consumer.kafka.topic_review import review_topics
from consumer.releases import Numbered, in_force, release_of
from consumer.resilience import Dependencies
from consumer.service import release_log
from consumer.service.construction import Connections
from consumer.settings import Settings
from consumer.settings.sections import KafkaSettings
from consumer.telemetry import Log

T = TypeVar("T")


class StopRequested(TaggerError):
    """The service was asked to stop while it waited for its dependencies."""


async def await_dependencies(
    settings: Settings, connections: Connections, dependencies: Dependencies, stopping: asyncio.Event
) -> Numbered:
    """Waits until Triton and Redis answer, Kafka has the topics, and its log a release; returns the one in force.

    Where the log is empty, the newest versions that Triton serves are its first release.

    Raises:
        ContractMismatch: these do not fit this service or each other.
        StopRequested: `stopping` was set first.
    """
    require_topics = partial(connections.publisher.require_topics, settings.kafka.bootstrap_servers)
    wait = dependencies.retry_until_available

    async def release() -> Numbered:
        await wait("kafka", require_topics)
        await wait("kafka", connections.publisher.find_schema)
        return await _release_in_force(settings, connections, dependencies)

    others = (wait("triton", connections.triton.ping), wait("redis", connections.store.ping))
    answers = asyncio.gather(release(), *others)
    return (await unless_stopped(answers, stopping))[0]


async def _release_in_force(settings: Settings, connections: Connections, dependencies: Dependencies) -> Numbered:
    """The last release of the log that came into force; the first start writes one.

    Raises:
        ContractMismatch: as `await_dependencies`.
    """
    kafka, triton, wait = settings.kafka, settings.triton, dependencies.retry_until_available
    read = partial(asyncio.to_thread, release_log.history, kafka)
    while not (chain := in_force(await wait("kafka", read))):
        newest = partial(connections.triton.read_contract, triton.quality_model, triton.brand_model)
        contract = await wait("triton", newest)
        reason = "first start: the newest loaded versions"
        first = release_of(contract, reason=reason, by=release_log.author(), at=datetime.now(UTC))
        # Of several that start at once, each may write it: those that decide the same change nothing.
        await wait("kafka", partial(asyncio.to_thread, release_log.append, kafka, first))
    return chain[-1]


async def warn_of_topics(kafka: KafkaSettings, log: Log) -> None:
    """Warns of topics whose settings lose records; that they cannot be read is no reason not to start."""
    try:
        problems = await asyncio.to_thread(review_topics, kafka.bootstrap_servers, kafka.topics, kafka.extra)
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


async def unless_stopped(work: asyncio.Future[T], stopping: asyncio.Event) -> T:
    """The result of some work, which is given up where a stop is asked for first.

    Raises:
        StopRequested: it was.
    """
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
