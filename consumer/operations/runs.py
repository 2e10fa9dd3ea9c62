"""Runs: started with their ranges, worked on by any number of hosts, paused, resumed and cancelled."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from consumer.errors import NotFound, Refused, SettingsError
from consumer.events import milliseconds
from consumer.kafka import clients, starts, topics
from consumer.kafka.offsets import Partition
from consumer.kafka.scan import TopicReader
from consumer.operations import promotion, run_log
from consumer.operations.promotion import Wish
from consumer.releases import Numbered, in_force
from consumer.runs.definition import WORKED_ON, Kind, Run, Selection, Span
from consumer.service import release_log
from consumer.settings import Settings

_RANDOM_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to be over.

    `letters` takes the dead letters in place of the uploads; `offsets` are ranges of single partitions, in place of
    times; `follow` goes on with what comes, from now on where no time is given.
    """

    kind: Kind = "rescore"
    since: datetime | None = None
    until: datetime | None = None
    offsets: Mapping[int, range] | None = None
    selection: Selection = field(default_factory=Selection)
    letters: bool = False
    follow: bool = False
    rate: float | None = None


async def prepare(settings: Settings, wish: Wish, plan: Plan, reason: str, run_id: str | None = None) -> Run:
    """The run of a plan, with its ranges as they are now; nothing is written yet.

    Raises:
        NotFound: a version is not loaded, or no record is in the ranges.
        Refused: the candidate decides as the release in force, or a run for thresholds names other versions.
        SettingsError: the ranges contradict each other.
        DependencyDown: Kafka or Triton does not answer.
    """
    base = await _base(settings)
    candidate = base.release
    if plan.kind != "replay":
        candidate = await promotion.wished(settings, wish, base, reason)
        if candidate.decides == base.release.decides:
            raise Refused(f"this is what release {base.number} decides, which is in force")
    if plan.kind == "retag" and candidate.models != base.release.models:
        raise Refused("other versions need their own answers: use `runs start`; retag changes thresholds alone")
    kafka = settings.kafka
    topic = kafka.tags_topic if plan.kind == "retag" else kafka.dead_topic if plan.letters else kafka.uploads_topic
    now, spans = datetime.now(UTC), await asyncio.to_thread(_spans, settings, topic, plan)
    if plan.kind != "replay" and not plan.follow and not sum(map(len, spans)):
        raise NotFound(f"{topic} has no records in this range")
    live = () if topic == kafka.uploads_topic else await asyncio.to_thread(_live, settings)
    return Run(
        run_id=run_id or f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(_RANDOM_BYTES)}",
        kind=plan.kind,
        candidate=candidate,
        base_number=base.number,
        base=base.release,
        topic=topic,
        spans=spans,
        since=plan.since,
        until=plan.until,
        selection=plan.selection,
        rate=plan.rate,
        by=release_log.author(),
        at=now,
        reason=reason,
        live=live,
    )


def _live(settings: Settings) -> tuple[Span, ...]:
    """Where the service is in the uploads: all below was judged under the release in force."""
    reached = run_log.positions(settings.kafka, settings.kafka.group_id)
    topic = settings.kafka.uploads_topic
    return tuple(
        Span(partition, offset, None) for (name, partition), offset in sorted(reached.items()) if name == topic
    )


def start(settings: Settings, run: Run) -> None:
    """Writes a run, so that it can be worked on: its topic, then its positions, then itself.

    Raises:
        Refused: there is one of this id.
        DependencyDown: Kafka does not answer.
    """
    kafka = settings.kafka
    if run.run_id in run_log.read_all(kafka):
        raise Refused(f"there is a run {run.run_id} already")
    if run.kind != "replay":
        answers = kafka.topics.answers(run.run_id)
        topics.create_answers(kafka.bootstrap_servers, answers, max(1, len(run.spans)), kafka.extra)
    with clients.kafka_failures():
        admin = clients.admin_client(kafka.bootstrap_servers, kafka.extra)
        begin = {(run.topic, span.partition): span.start for span in run.spans}
        starts.commit_positions(admin, run.group(kafka.group_id), begin)
    run_log.save(kafka, run)


def move(settings: Settings, run_id: str, action: str) -> Run:
    """Pauses, resumes or cancels a run; workers follow within seconds.

    Raises:
        NotFound: there is no such run.
        Refused: it has ended, or nothing of it is left to judge.
        DependencyDown: Kafka does not answer.
    """
    run = run_log.read(settings.kafka, run_id)
    run_log.require_open(run)
    if run.state == "complete" and action != "cancel":
        raise Refused(f"run {run_id} is complete: there is nothing left to {action}")
    states = {"pause": ("paused", "paused"), "resume": ("started", "resumed"), "cancel": ("cancelled", "cancelled")}
    state, what = states[action]
    if run.state == state:
        return run
    moved = run_log.moved_to(run, state, what)  # type: ignore[arg-type]  # of the table above
    run_log.save(settings.kafka, moved)
    return moved


def delete(settings: Settings, run_id: str) -> None:
    """Deletes a run and its answers; what was applied of it stays.

    Raises:
        NotFound: there is no such run.
        Refused: it may still be rolled back, or worked on.
        DependencyDown: Kafka does not answer, or a worker is at it.
    """
    run = run_log.read(settings.kafka, run_id)
    if run.state in WORKED_ON and run.kind != "replay":
        raise Refused(f"run {run_id} is {run.state}: cancel it first")
    chain = in_force(release_log.history(settings.kafka))
    promoted = run.promotion_in(chain)
    if promoted is not None and promoted.number == chain[-1].number:
        raise Refused(f"run {run_id} is in force as release {promoted.number}: without its answers it cannot go back")
    run_log.forget(settings.kafka, run)


async def _base(settings: Settings) -> Numbered:
    """The release in force; where there is none, the first one, as the service would write it.

    Raises:
        ContractMismatch: the newest loaded versions do not fit this service or each other.
        DependencyDown: Kafka or Triton does not answer.
    """
    chain = in_force(await promotion.read_log(settings))
    if chain:
        return chain[-1]
    first = await promotion.wished(settings, Wish(), None, "first use: the newest loaded versions")
    return await asyncio.to_thread(release_log.append, settings.kafka, first)


def times_ms(run: Run) -> range | None:
    """The timestamps of the records that a run is over; None for all."""
    if run.since is None and run.until is None:
        return None
    begin = -1 if run.since is None else milliseconds(run.since)
    return range(begin, 2**63 if run.until is None else milliseconds(run.until))


def _spans(settings: Settings, topic: str, plan: Plan) -> tuple[Span, ...]:
    """The ranges of every partition.

    Raises:
        SettingsError: an end is given and none, or offsets that are not there.
        DependencyDown: Kafka does not answer.
    """
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [topic]) as reader:
        held = reader.ranges()
        ranges = held if plan.since is None else reader.ranges(plan.since)
    if plan.offsets is not None and plan.follow:
        raise SettingsError("offsets have an end: give --offsets or --follow", setting="--follow")
    if plan.offsets is not None:
        return tuple(_asked(topic, held, number, asked) for number, asked in sorted(plan.offsets.items()))
    if plan.follow and plan.until is not None:
        raise SettingsError("what follows the topic has no end: give --to or --follow", setting="--follow")
    if plan.follow:
        begin = {key: each.stop if plan.since is None else each.start for key, each in ranges.items()}
        return tuple(Span(number, start, None) for (_, number), start in sorted(begin.items()))
    return tuple(Span(number, each.start, each.stop) for (_, number), each in sorted(ranges.items()))


def _asked(topic: str, held: Mapping[Partition, range], number: int, asked: range) -> Span:
    """A range of offsets that was asked for, as far as the log has it.

    Raises:
        SettingsError: there is no such partition, or nothing of the range.
    """
    log = held.get((topic, number))
    if log is None:
        raise SettingsError(f"{topic} has no partition {number}; it has {len(held)}", setting="--offsets")
    start, stop = max(asked.start, log.start), min(asked.stop, log.stop)
    if start >= stop:
        has = f"it has {log.start} to {log.stop - 1}" if log else "it is empty"
        raise SettingsError(
            f"partition {number} has no offsets {asked.start} to {asked.stop - 1}; {has}", setting="--offsets"
        )
    return Span(number, start, stop)
