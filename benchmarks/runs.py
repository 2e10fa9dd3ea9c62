"""Runs for thresholds, their promotion and their rollback on real servers: photos a second of each, and CPU time.

Results are made by code, as the service publishes them; no photo is fetched or judged, as in a run of this kind.
"""

import argparse
import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from benchmarks import machine
from consumer import events
from consumer.contract import NO_LOGO
from consumer.embedded.paths import repository_root
from consumer.embedded.servers import start_stack
from consumer.events import Source, Tags
from consumer.kafka.sender import NewRecord, Sender
from consumer.kafka.topics import create_topics
from consumer.operations import promotion, run_diff, run_release, run_work, runs
from consumer.operations.promotion import Wish
from consumer.operations.runs import Plan
from consumer.releases import Release
from consumer.settings import Settings
from consumer.tagging import brands_of, quality_of
from consumer.telemetry import configure_logging

_SENT_AT_ONCE = 20_000


def results(count: int, release: Release, labels: tuple[str, ...]) -> Iterator[Tags]:
    """Makes tags as of so many photos, of which one in five shows a brand.

    Yields:
        Those of each photo.
    """
    chance, now = random.Random(1), datetime.now(UTC).replace(microsecond=0)
    for number in range(count):
        probabilities = dict.fromkeys(labels, 0.001)
        probabilities[chance.choice(labels) if chance.random() < 0.2 else NO_LOGO] = round(chance.uniform(0.5, 1), 4)
        yield Tags(
            photo_id=f"{number:032x}",
            quality=quality_of(chance.random(), release.decision.good_threshold),
            brands=brands_of(probabilities, release.decision.brand_threshold, 5),
            probabilities=probabilities,
            models=dict(sorted(release.models.items())),
            version=f"{1_795_000_000_000 + number:013d}.000001.0000000000000",
            source=Source("photo-uploads", 0, number),
            tagged_at=now,
        )


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    """Prints how many photos a second a step does, and the CPU time of this process and of those that it started.

    Yields:
        Nothing.
    """
    began_s, cpu_s = time.monotonic(), _cpu_s()
    yield
    took_s = time.monotonic() - began_s
    cpu_us = (_cpu_s() - cpu_s) / count * 1e6
    print(f"{what:10} {count / took_s:9,.0f} photos/s  {cpu_us:6.0f} CPU-us a photo  {took_s:6.1f} s")


def _cpu_s() -> float:
    return sum(os.times()[:4])


async def measure(settings: Settings, count: int) -> None:
    """One run of each kind over so many photos."""
    log, quiet = configure_logging("error", "json"), ignore
    first = (await promotion.promote(settings, Wish(), "the first", forced=True)).release
    labels = (*(f"brand{number}" for number in range(10)), NO_LOGO)
    kafka = settings.kafka
    sender = Sender(kafka.bootstrap_servers, kafka.extra, [kafka.tags_topic])
    made = list(results(count, first.release, labels))
    for place in range(0, count, _SENT_AT_ONCE):
        part = made[place : place + _SENT_AT_ONCE]
        sender.send((NewRecord(kafka.tags_topic, each.photo_id.encode(), events.encode(each)) for each in part), 60)
    run = await runs.prepare(settings, Wish(brand_threshold=0.5), Plan("retag"), "a benchmark")
    runs.start(settings, run)
    with timed("retag", count):
        await run_work.work(settings, log, run, quiet)
    with timed("diff", count):
        await run_diff.diff(settings, run.run_id)
    with timed("promote", count):
        await run_release.promote(settings, log, run.run_id, "a benchmark", quiet, forced=True)
    with timed("rollback", count):
        await run_release.rollback(settings, log, run.run_id, "a benchmark", quiet)


def ignore(*_: object) -> None:
    """Shows no progress."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=50_000)
    arguments = parser.parse_args()
    print(machine.describe())
    with start_stack(None, repository_root() / "triton_models", "real") as stack:
        servers = {"kafka": {"bootstrap_servers": stack.kafka.bootstrap_servers}, "redis": {"url": stack.redis.url}}
        settings = Settings.model_validate({**servers, "triton": {"url": stack.triton.grpc_url}})
        create_topics(stack.kafka.bootstrap_servers, settings.kafka.topics)
        asyncio.run(measure(settings, arguments.photos))


if __name__ == "__main__":
    main()
