"""Promotes a run: its candidate becomes a release, its answers the tags; and takes that back, without inference.

Each step may be repeated after a crash: the release names the run, and tags are written by version.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from consumer.errors import NotFound, Refused
from consumer.kafka.offsets import Partition
from consumer.kafka.scan import TopicReader
from consumer.operations import promotion, run_log, run_processes
from consumer.operations.replay import ReplayResult, replay_ranges
from consumer.operations.run_apply import Progress, Side, Task
from consumer.operations.run_log import Answers
from consumer.releases import Numbered, in_force
from consumer.runs import comparison
from consumer.runs.definition import Run
from consumer.runs.gates import Gates, gates
from consumer.service import release_log
from consumer.settings import Settings
from consumer.telemetry import Log

#: In which every worker follows a release: what it began to judge later is judged under that.
_FOLLOWED_S: Final = 2.5


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
    await asyncio.to_thread(run_log.require_answers, settings.kafka, run)
    chain = await _chain(settings)
    release = run.promotion_in(chain)
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
    chain = await _chain(settings)
    release = run.rollback_in(chain)
    await asyncio.to_thread(run_log.require_answers, settings.kafka, run)
    if release is None:
        promoted = run.promotion_in(chain)
        if promoted is None:
            raise Refused(f"run {run_id} was not promoted: there is nothing to take back")
        if promoted.number != chain[-1].number:
            raise Refused(f"run {run_id} is not in force, but release {chain[-1].number}: go back with models rollback")
        await promotion.require_served(settings, run.base)
        wanted = replace(run.base, reason=reason, by=release_log.author(), at=datetime.now(UTC), run=run.taken_back)
        release = (await promotion.enforce(settings, wanted, chain[-1], forced=True)).release
    elif release.number != chain[-1].number:
        raise Refused(f"run {run_id} was taken back by release {release.number}; now {chain[-1].number} is in force")
    if run.state != "rolled back":
        what, promoted = f"rolled back by release {release.number}", run.promotion_in(chain)
        numbers = {"promoted": promoted and promoted.number, "rolled_back": release.number}
        run = run_log.moved_to(run, "rolled back", what, **numbers)
        await asyncio.to_thread(run_log.save, settings.kafka, run)
    return await _apply(settings, log, run, release.number, progress)


def limits(settings: Settings) -> Gates:
    """The gates of a run."""
    return Gates(**settings.gates.model_dump())


async def _chain(settings: Settings) -> Sequence[Numbered]:
    """The releases that came into force.

    Raises:
        NotFound: none did.
        DependencyDown: Kafka does not answer.
    """
    chain = in_force(await promotion.read_log(settings))
    if not chain:
        raise NotFound(f"no release is in force: {settings.kafka.releases_topic} is empty; the service makes the first")
    return chain


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
    if not run.follows and (done := run_log.done(settings.kafka, run)) < run.total:
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
    counts = await run_processes.apply(settings, log, Task(run, side, number), progress)
    # From here on every worker judges under the release: what was written before may still be of the one before.
    await asyncio.sleep(_FOLLOWED_S)
    ranges = await asyncio.to_thread(_since, settings, run)
    closing = await replay_ranges(settings, log, ranges, f"{run.run_id}-{number}", progress)
    return Applied(run, number, **counts, closing=closing)


def _since(settings: Settings, run: Run) -> dict[Partition, range]:
    """The offsets of the upload topic that came since a run ended, or since it began where it read something else.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [kafka.uploads_topic]) as reader:
        held, stops = reader.ranges(), _stops(settings, run)
        if run.topic != kafka.uploads_topic:
            # By offsets, since senders' clocks decide the times; by time where the service had no position yet.
            stops = {key: each.start for key, each in reader.ranges(run.at).items()}
            stops |= {(kafka.uploads_topic, span.partition): span.start for span in run.live}
    return {key: range(max(each.start, stops.get(key, each.start)), each.stop) for key, each in held.items()}


def _stops(settings: Settings, run: Run) -> dict[Partition, int]:
    """Where a run ended, by partition.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    if not run.follows:
        return {(run.topic, span.partition): span.stop or 0 for span in run.spans}
    return run_log.positions(settings.kafka, run.group(settings.kafka.group_id))
