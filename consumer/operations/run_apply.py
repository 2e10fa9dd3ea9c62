"""Applies one side of the answers of a run under a release: to Redis, then to the result topic, without inference."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Final, Literal

from consumer import versions
from consumer.errors import DependencyDown
from consumer.events import Deletion, Headers, Tags
from consumer.kafka.offsets import Partition
from consumer.kafka.sender import Sender
from consumer.operations.run_log import Answers
from consumer.redis.store import Written
from consumer.resilience import Dependencies, StuckRecords
from consumer.runs.answers import Answer
from consumer.runs.definition import Run
from consumer.service import construction
from consumer.service.construction import Connections
from consumer.service.streams import Runtime
from consumer.settings import Settings
from consumer.telemetry import Log, Metrics

_BATCH: Final = 1000

Side = Literal["before", "after"]
Progress = Callable[[int, int], None]
#: How many answers came to which end.
Counts = Mapping[str, int]
NONE: Final[Counts] = dict.fromkeys(("written", "unchanged", "superseded", "left", "refused"), 0)


@dataclass(frozen=True, slots=True)
class Task:
    """Which side of the answers of a run to apply, under which release; those in ranges of its topic, or all."""

    run: Run
    side: Side
    release: int
    ranges: Mapping[Partition, range] | None = None


async def apply_here(settings: Settings, log: Log, task: Task, told: Callable[[int], None]) -> Counts:
    """Applies answers in this process, and tells how many are done.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    counts = Counter(NONE)
    metrics = Metrics()
    dependencies = Dependencies(log, metrics)
    runtime = Runtime(asyncio.get_running_loop(), log, metrics, dependencies, StuckRecords(metrics), _ignore)
    connections = construction.connections_of(settings, runtime)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(connections.store)
        stack.enter_context(connections.publisher)
        await dependencies.retry_until_available("kafka", connections.publisher.find_schema)
        writer = _Writer(settings, connections, dependencies, log)
        answers = iter(Answers(settings.kafka, task.run, task.ranges))
        # One batch after the other: with several at once, threads wait for each other.
        while batch := await asyncio.to_thread(tuple, islice(answers, _BATCH)):
            tags = [_under(each, task.side, task.release) for each in batch]
            counts.update(await writer.write([each for each in tags if each is not None]))
            counts["left"] += tags.count(None)
            told(counts.total())
    return counts


def _ignore(_: object) -> None:
    """A producer that fails for good shows in what is not acknowledged."""


def _under(answer: Answer, side: Side, number: int) -> Tags | None:
    """The tags of one side of an answer under a release."""
    tags = answer.before if side == "before" else answer.after
    return None if tags is None else replace(tags, version=versions.under(tags.version, number))


@dataclass(frozen=True, slots=True)
class _Untraced:
    """Of the answers of a run, whose events are not at hand."""

    trace: Headers = ()


class _Writer:
    """Writes tags as the service does: to Redis, then to the result topic, and then what overtook them there."""

    def __init__(self, settings: Settings, connections: Connections, dependencies: Dependencies, log: Log) -> None:
        self._kafka = settings.kafka
        self._sender: Sender | None = None
        self._store = connections.store
        self._publisher = connections.publisher
        self._wait = dependencies.retry_until_available
        self._log = log

    async def write(self, batch: Sequence[Tags]) -> list[str]:
        """The outcome of each."""
        written = await self._wait("redis", partial(self._store.write_each, batch))
        found = [each for each in written if isinstance(each, Written)]
        for refusal in (each for each in written if not isinstance(each, Written)):
            self._log.warning("photo.failed", detail=str(refusal))
        decided = [each.in_force for each in found if each.outcome != "superseded"]
        news: list[Tags | Deletion] = [each for each in decided if isinstance(each, Tags)]
        while news:
            await self._publish(news)
            news = [each for each in await self._wait("redis", partial(self._store.newer_each, news)) if each]
        return [*map(_outcome, found), *["refused"] * (len(batch) - len(found))]

    async def _publish(self, decisions: Sequence[Tags | Deletion]) -> None:
        """Publishes all at once; one by one, and for as long as it takes, where some were not taken."""
        try:
            await asyncio.to_thread(self._send, decisions)
        except DependencyDown:
            for decision in decisions:
                await self._wait("kafka", partial(self._publisher.result, decision, _Untraced()))

    def _send(self, decisions: Sequence[Tags | Deletion]) -> None:
        topic = self._kafka.tags_topic
        if self._sender is None:
            self._sender = Sender(self._kafka.bootstrap_servers, self._kafka.extra, [topic])
        self._sender.send(map(self._publisher.record_of, decisions))


def _outcome(written: Written) -> str:
    if written.outcome == "superseded" or not isinstance(written.in_force, Tags):
        return "superseded"
    return "written" if written.outcome == "written" else "unchanged"
