"""Work on a run: judges its photos under the candidate; of one for thresholds alone, see `run_retag`."""

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Final

from consumer.errors import NotFound
from consumer.events import Record
from consumer.kafka.headers import Delivery, Owner, delivery_of, failure_of
from consumer.kafka.plans import GroupRanges
from consumer.operations import run_log
from consumer.operations.dead_letters import judged_dead
from consumer.operations.live_traffic import LiveTraffic
from consumer.operations.run_progress import Progress, Told, Worked
from consumer.operations.run_retag import retag
from consumer.operations.runs import times_ms
from consumer.runs.definition import WORKED_ON, Run
from consumer.service.replay_sink import ReplaySink
from consumer.service.run import Service
from consumer.service.run_sink import RunSink
from consumer.service.signals import stop_on_signals
from consumer.service.starting import StopRequested
from consumer.service.streams import Job
from consumer.settings import Settings
from consumer.telemetry import Log

_LOOK_S: Final = 1.0


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
    if run.state == "complete" or not (run.follows or run.total):
        ended = await asyncio.to_thread(run_log.complete, settings.kafka, run)
        return Worked(ended, complete=True, outcomes={})
    if run.kind != "replay":
        await asyncio.to_thread(run_log.require_answers, settings.kafka, run)
    if run.kind == "retag":
        stopping = threading.Event()
        with stop_on_signals(stopping.set):
            return await asyncio.to_thread(retag, settings, run, told, stopping)
    service, pace = job_service(settings, log), Pace(run.rate, LiveTraffic(settings))
    kafka = settings.kafka
    topic = kafka.topics.answers(run.run_id)
    job = Job(
        GroupRanges(run.topic, run.ranges, times_ms(run)),
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
        if state is None or state.state not in WORKED_ON:
            # Another worker may have seen first that nothing is left.
            last = state or run
            return last.state == "complete", last
        run = state
        if not run.follows and done >= run.total:
            return True, await wait("kafka", partial(asyncio.to_thread, run_log.complete, settings.kafka, run))
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
