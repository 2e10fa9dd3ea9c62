"""Promotes a run: its candidate becomes a release, its answers the tags; and takes that back, without inference.

Each step may be repeated after a crash: the release names the run, and tags are written by version.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Final, Literal

from consumer import versions
from consumer.errors import DependencyDown, Refused
from consumer.events import Deletion, Headers, Tags
from consumer.kafka.offsets import Partition
from consumer.kafka.publisher import result_record
from consumer.kafka.scan import TopicReader
from consumer.kafka.sender import Sender
from consumer.operations import promotion, run_log
from consumer.operations.replay import ReplayResult, replay_ranges
from consumer.operations.run_log import Answers
from consumer.redis.store import Written
from consumer.releases import Numbered, in_force
from consumer.resilience import Dependencies, StuckRecords
from consumer.runs import comparison
from consumer.runs.answers import Answer
from consumer.runs.definition import Run
from consumer.runs.gates import Gates, gates
from consumer.service import construction, release_log
from consumer.service.construction import Connections
from consumer.service.streams import Runtime
from consumer.settings import Settings
from consumer.telemetry import Log, Metrics

_BATCH: Final = 1000
#: In which every worker follows a release: what it began to judge later is judged under that.
_FOLLOWED_S: Final = 2.5

Side = Literal["before", "after"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the answers of a run under a release.

    `written` are tags that changed or moved to the release, `unchanged` were there, `superseded` have newer content or
    a newer release, `left` have nothing to apply. `closing` are the photos that came since the run's end, which were
    judged again.
    """

    run: Run
    release: int
    written: int
    unchanged: int
    superseded: int
    left: int
    refused: int
    closing: ReplayResult


async def promote(
    settings: Settings, log: Log, run_id: str, reason: str, progress: Progress, *, forced: bool
) -> Applied:
    """Puts the candidate of a run into force and applies its answers; again, it goes on where it was.

    Raises:
        NotFound: there is no such run, or a version is not loaded.
        Refused: its gates do not hold, it is not complete, or another release came into force, unless `forced`; or it
            was taken back.
        DependencyDown: Kafka, Redis or Triton does not answer.
    """
    run = await asyncio.to_thread(run_log.read, settings.kafka, run_id)
    if run.kind == "replay":
        raise Refused(f"run {run_id} is a replay: its answers are the tags")
    chain = in_force(await promotion.read_log(settings))
    release = _of_run(chain, run_id)
    if release is None:
        if not forced:
            await asyncio.to_thread(_require_good, settings, run, chain[-1])
        await promotion.require_served(settings, run.candidate)
        wanted = replace(
            run.candidate, reason=reason, by=release_log.author(), at=datetime.now(UTC), run=run_id, numbers_after=0
        )
        release = (await promotion.enforce(settings, wanted, chain[-1], forced=forced)).release
    elif release.number != chain[-1].number:
        raise Refused(f"run {run_id} was promoted as release {release.number}; now {chain[-1].number} is in force")
    if run.state != "promoted":
        run = run_log.moved_to(run, "promoted", f"promoted as release {release.number}", promoted=release.number)
        await asyncio.to_thread(run_log.save, settings.kafka, run)
    return await _apply(settings, log, run, release.number, progress)


async def rollback(settings: Settings, log: Log, run_id: str, reason: str, progress: Progress) -> Applied:
    """Puts back into force what was before a run, under a newer release, with the tags of then; again, it goes on.

    Raises:
        NotFound: there is no such run, or a version is not loaded.
        Refused: it was not promoted, or another release came into force since.
        DependencyDown: Kafka, Redis or Triton does not answer.
    """
    run = await asyncio.to_thread(run_log.read, settings.kafka, run_id)
    chain = in_force(await promotion.read_log(settings))
    release = _of_run(chain, _back(run_id))
    if release is None:
        if run.promoted is None:
            raise Refused(f"run {run_id} was not promoted: there is nothing to take back")
        if run.promoted != chain[-1].number:
            raise Refused(f"run {run_id} is not in force, but release {chain[-1].number}: go back with models rollback")
        await promotion.require_served(settings, run.base)
        wanted = replace(run.base, reason=reason, by=release_log.author(), at=datetime.now(UTC), run=_back(run_id))
        release = (await promotion.enforce(settings, wanted, chain[-1], forced=True)).release
    elif release.number != chain[-1].number:
        raise Refused(f"run {run_id} was taken back by release {release.number}; now {chain[-1].number} is in force")
    if run.state != "rolled back":
        what = f"rolled back by release {release.number}"
        run = run_log.moved_to(run, "rolled back", what, rolled_back=release.number)
        await asyncio.to_thread(run_log.save, settings.kafka, run)
    return await _apply(settings, log, run, release.number, progress)


def limits(settings: Settings) -> Gates:
    """The gates of a run."""
    return Gates(**settings.gates.model_dump())


def _back(run_id: str) -> str:
    """What the release that takes a run back says of it."""
    return f"{run_id}:rollback"


def _of_run(chain: Sequence[Numbered], run: str) -> Numbered | None:
    return next((each for each in reversed(chain) if each.release.run == run), None)


def _require_good(settings: Settings, run: Run, now: Numbered) -> None:
    """Refuses a run that is not to be promoted as it is.

    Raises:
        Refused: it has ended, is not complete, compares with what is no longer in force, or a gate does not hold.
        DependencyDown: Kafka does not answer.
    """
    run_log.require_open(run)
    problems = []
    if now.number != run.base_number:
        problems.append(f"it compares with release {run.base_number}, and {now.number} is in force")
    if not run.follows and run.kind == "rescore" and (done := run_log.done(settings.kafka, run)) < run.total:
        problems.append(f"{done} of {run.total} offsets are done")
    folded = comparison.fold(Answers(settings.kafka, run), run.at)
    problems += [violation.text for violation in gates(folded, limits(settings))]
    if problems:
        raise Refused(f"run {run.run_id} is not promoted: {'; '.join(problems)}; --force promotes all the same")


async def _apply(settings: Settings, log: Log, run: Run, number: int, progress: Progress) -> Applied:
    """Writes the answers under the release, or what was before them, then judges again what came since the run ended.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    side: Side = "before" if run.state == "rolled back" else "after"
    counts = dict.fromkeys(("written", "unchanged", "superseded", "left", "refused"), 0)
    metrics = Metrics()
    dependencies = Dependencies(log, metrics)
    runtime = Runtime(asyncio.get_running_loop(), log, metrics, dependencies, StuckRecords(metrics), _ignore)
    connections = construction.connections_of(settings, runtime)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(connections.store)
        stack.enter_context(connections.publisher)
        writer, answers = _Writer(settings, connections, dependencies, log), iter(Answers(settings.kafka, run))
        # One batch after the other: with several at once, threads wait for each other.
        while batch := await asyncio.to_thread(tuple, islice(answers, _BATCH)):
            tags = [_under(each, side, number) for each in batch]
            outcomes = await writer.write([each for each in tags if each is not None])
            for outcome in (*outcomes, *("left" for each in tags if each is None)):
                counts[outcome] += 1
            progress(sum(counts.values()), 0)
    # From here on every worker judges under the release: what was written before may still be of the one before.
    await asyncio.sleep(_FOLLOWED_S)
    ranges = await asyncio.to_thread(_since, settings, run)
    closing = await replay_ranges(settings, log, ranges, f"{run.run_id}-{number}", progress)
    return Applied(run, number, **counts, closing=closing)


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
        self._sender.send(result_record(topic, each) for each in decisions)


def _outcome(written: Written) -> str:
    if written.outcome == "superseded" or not isinstance(written.in_force, Tags):
        return "superseded"
    return "written" if written.outcome == "written" else "unchanged"


def _since(settings: Settings, run: Run) -> dict[Partition, range]:
    """The offsets of the upload topic that came since a run ended, or since it began where it read something else.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [kafka.uploads_topic]) as reader:
        if run.topic != kafka.uploads_topic:
            return reader.ranges(run.at)
        held, stops = reader.ranges(), _stops(settings, run)
    return {key: range(max(each.start, stops.get(key, each.start)), each.stop) for key, each in held.items()}


def _stops(settings: Settings, run: Run) -> dict[Partition, int]:
    """Where a run ended, by partition.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    if not run.follows:
        return {(run.topic, span.partition): span.stop or 0 for span in run.spans}
    return run_log.positions(settings.kafka, run.group(settings.kafka.group_id))
