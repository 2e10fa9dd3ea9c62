"""Work on a run: judges its photos under the candidate, or decides anew on the probabilities of results."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Final

from consumer import events, tagging, versions
from consumer.errors import NotFound
from consumer.events import Record, Tags
from consumer.kafka.headers import Delivery, Owner, delivery_of, failure_of
from consumer.kafka.plans import GroupRanges
from consumer.kafka.scan import Scan
from consumer.kafka.sender import NewRecord, Sender
from consumer.operations import run_log
from consumer.operations.dead_letters import judged_dead
from consumer.operations.live_traffic import LiveTraffic
from consumer.operations.runs import times_ms
from consumer.runs import answers
from consumer.runs.answers import Answer
from consumer.runs.definition import Run, State
from consumer.service.replay_sink import ReplaySink
from consumer.service.run import Service
from consumer.service.run_sink import RunSink
from consumer.service.signals import stop_on_signals
from consumer.service.starting import StopRequested
from consumer.service.streams import Job
from consumer.settings import Settings
from consumer.telemetry import Log

_LOOK_S: Final = 1.0
_SEND_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: offsets behind all its workers, offsets in all, photos a second here, and its outcomes here."""

    done: int
    total: int
    photos_per_s: float
    outcomes: dict[str, int]

    @property
    def left_s(self) -> float | None:
        """About how long it takes at this rate; None where that cannot be said."""
        if not self.photos_per_s or not self.total:
            return None
        return max(0, self.total - self.done) / self.photos_per_s


Told = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Worked:
    """The run as it is at the end of the work here, and whether nothing of it is left."""

    run: Run
    complete: bool
    outcomes: dict[str, int]


class Pace:
    """At most so many photos a second, and none while the live service lags or the run is paused."""

    def __init__(self, rate: float | None, live: LiveTraffic) -> None:
        self.live = live
        self._apart_s = 0.0 if rate is None else 1 / rate
        self._next_s = monotonic()
        #: Set while photos may begin.
        self.open = asyncio.Event()
        self.open.set()

    async def turn(self) -> None:
        """Waits for the turn of a photo."""
        await self.open.wait()
        now_s = monotonic()
        self._next_s = max(self._next_s + self._apart_s, now_s)
        if self._next_s > now_s:
            await asyncio.sleep(self._next_s - now_s)


async def work(settings: Settings, log: Log, run: Run, told: Told) -> Worked:
    """Works on a run until it is complete, paused, cancelled or stopped; others may work on it at the same time.

    Raises:
        SourceFailed: Kafka refuses the consumer.
        ProducerFailed: no Kafka producer can be kept running.
        DependencyDown: Kafka does not say what becomes of the run.
    """
    run_log.require_open(run)
    if not run.follows and not run.total:
        return Worked(run, complete=True, outcomes={})
    if run.kind == "retag":
        return await asyncio.to_thread(_retag, settings, run, told)
    service, pace = job_service(settings, log), Pace(run.rate, LiveTraffic(settings))
    kafka = settings.kafka
    stops = {(run.topic, span.partition): span.stop for span in run.spans}
    topic = kafka.topics.answers(run.run_id)
    job = Job(
        GroupRanges(run.topic, stops, times_ms(run)),
        run.group(kafka.group_id),
        settings.service.replay_in_flight,
        yields=pace.live.present if settings.service.replay_yields else None,
        candidate=run.judged_under,
        sink_of=lambda store, out: RunSink(run, topic, store, out, pace.turn),
        read=_letter_delivery if run.topic == kafka.dead_topic else delivery_of,
    )
    if run.kind == "replay":
        known = await service.dependencies.retry_until_available(
            "kafka", partial(asyncio.to_thread, judged_dead, settings)
        )
        job = replace(job, candidate=None, sink_of=lambda store, out: ReplaySink(store, out, known))
    complete = False
    with stop_on_signals(service.stop), suppress(StopRequested):
        async with service.working(job):
            complete, run = await _until_done(settings, service, pace, run, told)
    if service.failure is not None:
        raise service.failure
    return Worked(run, complete, service.outcomes())


def job_service(settings: Settings, log: Log) -> Service:
    """A service that many bad events in a row do not stop: a job ends by itself."""
    unbroken = settings.service.model_copy(update={"dead_letter_limit": 0.0})
    return Service(settings.model_copy(update={"service": unbroken}), log)


async def _until_done(settings: Settings, service: Service, pace: Pace, run: Run, told: Told) -> tuple[bool, Run]:
    """Watches over the work; returns whether nothing is left, and the run as it was last."""
    began_s, look = monotonic(), partial(asyncio.to_thread, _look, settings, run, pace.live)
    wait = service.dependencies.retry_until_available
    while not service.stopping.is_set():
        done, state = await wait("kafka", look)
        outcomes = service.outcomes()
        rate = sum(outcomes.values()) / max(monotonic() - began_s, _LOOK_S)
        told(Progress(done, run.total, round(rate, 1), outcomes))
        if state is None or state.state not in {"started", "paused"}:
            return False, state or run
        run = state
        if not run.follows and done >= run.total:
            return True, run
        # Live photos come first: a backlog of them is worked off before this goes on.
        held = run.state == "paused" or (
            settings.service.replay_yields and pace.live.lag > settings.service.max_in_flight
        )
        (pace.open.clear if held else pace.open.set)()
        with suppress(TimeoutError):
            await asyncio.wait_for(service.stopping.wait(), _LOOK_S)
    pace.open.set()
    return False, run


def _look(settings: Settings, run: Run, live: LiveTraffic) -> tuple[int, Run | None]:
    """Looks at live traffic; how many offsets are done, and the run as it is now: None where it was deleted."""
    live.look()
    try:
        now: Run | None = run_log.read(settings.kafka, run.run_id)
    except NotFound:
        now = None
    return run_log.done(settings.kafka, run), now


def _letter_delivery(record: Record, owner: Owner) -> Delivery:
    """A dead letter, whose origin is the upload's record."""
    failure = failure_of(record.headers)
    delivery = delivery_of(record, owner)
    return delivery if failure is None else replace(delivery, origin=failure.origin)


def _retag(settings: Settings, run: Run, told: Told) -> Worked:
    """Decides anew on the probabilities of the results in the run's ranges; they are the tags in force.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    kafka, began_s, outcomes = settings.kafka, monotonic(), {"tagged": 0, "skipped": 0}
    topic = kafka.topics.answers(run.run_id)
    sender = Sender(kafka.bootstrap_servers, kafka.extra, [topic])
    done, looked_s = 0, began_s
    ids = frozenset(run.selection.ids)
    for records in _results(settings, run):
        done += len(records)
        # Of a photo with several results the last is in force.
        newest = {record.key: record for record in records}.values()
        decided = [answer for record in newest if (answer := _decided(run, ids, record, settings.service.top_k))]
        sender.send(
            (NewRecord(topic, each.photo_id.encode(), answers.encode(each)) for each in decided), timeout_s=_SEND_S
        )
        outcomes["tagged"] += len(decided)
        outcomes["skipped"] += len(records) - len(decided)
        if monotonic() > looked_s + _LOOK_S:
            looked_s = monotonic()
            told(Progress(done, run.total, round(done / (looked_s - began_s), 1), dict(outcomes)))
            if (state := _state(settings, run)) not in {"started", "paused"}:
                return Worked(replace(run, state=state), complete=False, outcomes=outcomes)
    told(Progress(run.total, run.total, round(done / max(monotonic() - began_s, 0.001), 1), dict(outcomes)))
    return Worked(run, complete=True, outcomes=outcomes)


def _state(settings: Settings, run: Run) -> State:
    return run_log.read(settings.kafka, run.run_id).state


def _results(settings: Settings, run: Run) -> Iterator[list[Record]]:
    """Reads the records of the ranges of a run once.

    Yields:
        Those that came at once.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    kafka = settings.kafka
    ranges = {(run.topic, span.partition): range(span.start, span.stop or 0) for span in run.spans}
    times = times_ms(run)
    with Scan(kafka.bootstrap_servers, kafka.extra, run.topic, ranges=ranges) as scan:
        for records in scan:
            if found := [record for record in records if times is None or record.timestamp_ms in times]:
                yield found


def _decided(run: Run, ids: frozenset[str], result: Record, top_k: int) -> Answer | None:
    """The answer on a result: its probabilities under the candidate's thresholds; None for what it is not over.

    That is a deletion, what is no result, and a result of other versions or without all probabilities.
    """
    try:
        before = events.decode_tags(result.value or b"")
    except ValueError:
        return None
    selection = run.selection
    known = before.models == run.candidate.models and len(before.probabilities) > len(before.brands)
    if not known or not selection.wants_id(before.photo_id, ids) or not selection.wants(before):
        return None
    after = _retagged(before, run, top_k)
    return Answer(
        photo_id=before.photo_id,
        uri=None,
        uploaded_at=None,
        content_rev=versions.content_in(before.version),
        source=before.source,
        before=before,
        after=after,
        reason=None,
        detail="",
        format=None,
        took_ms=0.0,
    )


def _retagged(before: Tags, run: Run, top_k: int) -> Tags:
    """The tags that the candidate's thresholds make of the published probabilities."""
    decision = run.candidate.decision
    return replace(
        before,
        quality=tagging.quality_of(before.quality.score, decision.good_threshold),
        brands=tagging.brands_of(before.probabilities, decision.brand_threshold, top_k),
        version=versions.under(before.version, 0),
        tagged_at=datetime.now(UTC).replace(microsecond=0),
    )
