"""What reading tags costs, and what their indexes do: `.venv/bin/python -m benchmarks.reader`.

On a Redis of its own with photos that code tags: one in five shows one of 34 brands, two in three are good.
It prints Redis' CPU time of a write, by the writing script of this version and, in turns, by that of another commit
(`--before COMMIT`); p50 and p99 of the calls of both readers; and the rate of `watch` on a Kafka of its own. The bytes
of a photo: `benchmarks.redis_memory`.
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from redis import Redis

from consumer import events
from consumer.embedded.kafka import Kafka
from consumer.embedded.servers import Servers
from consumer.events import Brand, Quality, Source, Tags
from consumer.reader import AsyncTagReader, TagReader, Watch
from consumer.redis.commands import Command
from consumer.redis.schema import bucket, fields_of, index_prefix, keys_of, photo_key
from consumer.tags import level_of

BRANDS = [f"brand-{number:02d}" for number in range(34)]
#: Two in three photos are good then, as of 4,000 that people rated (BIQ2021, from 0.6 on).
GOOD = 0.41
PIPELINE = 500
#: The offset stands in the hash: one of few digits would take less memory than that of a topic in use.
FIRST_OFFSET = 10_000_000
BEGAN = datetime(2026, 11, 28, tzinfo=UTC)
SCRIPT = Path("consumer/redis/write_tags.lua")

Id = Callable[[int, random.Random], str]
IDS: dict[str, Id] = {
    "13 characters": lambda number, _: f"photo-{number:07d}",
    "32 characters": lambda _, chance: chance.randbytes(16).hex(),
}


def photos(count: int, name: Id, brands: Sequence[str] = BRANDS) -> Iterator[Tags]:
    """Scores are around 0.5.

    Yields:
        Tags as the service writes them.
    """
    chance = random.Random(20261129)
    for number in range(count):
        score = round(min(max(chance.gauss(0.5, 0.2), 0.0), 1.0), 6)
        shown = (Brand(chance.choice(brands), round(chance.uniform(0.6, 1), 4)),) if chance.random() < 0.2 else ()
        yield Tags(
            photo_id=name(number, chance),
            quality=Quality(score, level_of(score), good=score >= GOOD),
            brands=shown,
            probabilities={},
            models={"brand_logo": "2", "photo_quality": "2"},
            version=f"{1795258842291 + number * 37:013d}.000003.0000000000000",
            source=Source("photo-uploads", number % 4, FIRST_OFFSET + number // 4),
            tagged_at=BEGAN + timedelta(milliseconds=37 * number),
        )


class Writer:
    """Writes through a script as `Store` does, in pipelines; only Redis' own CPU time is of interest."""

    def __init__(self, client: Redis, source: str, *, declares_all: bool) -> None:
        self._client, self._declares_all = client, declares_all
        self._sha = client.script_load(source)

    def write(self, decisions: Sequence[Tags], together: int) -> None:
        """Writes all, so many in a round trip."""
        left = iter(decisions)
        while batch := list(islice(left, together)):
            pipeline = self._client.pipeline(transaction=False)
            for each in batch:
                pipeline.execute_command(*self._call(each))
            for answer in pipeline.execute():
                assert answer[0] in {b"written", b"unchanged"}, answer

    def _call(self, tags: Tags) -> Command:
        prefix = index_prefix(bucket(tags.photo_id))
        without = [photo_key(tags.photo_id), *(prefix + each.brand for each in tags.brands)]
        keys = keys_of(tags) if self._declares_all else without
        fields = [part for pair in fields_of(tags).items() for part in pair]
        return ("EVALSHA", self._sha, len(keys), *keys, tags.photo_id, prefix, "keep", *fields)


def cpu_s(client: Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def writes(client: Redis, count: int, before: str, rounds: int) -> None:
    here = SCRIPT.read_text(encoding="utf-8")
    shown = subprocess.run(["git", "show", f"{before}:{SCRIPT}"], capture_output=True, text=True, check=True).stdout
    contenders = {"before": Writer(client, shown, declares_all=False), "now": Writer(client, here, declares_all=True)}
    tags = list(photos(count, IDS["32 characters"]))
    again = [rescored(each) for each in tags]
    for together in (1, 16):
        found: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for name, writer in contenders.items():
                client.flushall()
                for kind, decisions in (("new", tags), ("rescored", again)):
                    began = cpu_s(client)
                    writer.write(decisions, together)
                    found.setdefault((kind, name), []).append((cpu_s(client) - began) / count * 1e6)
        for kind in ("new", "rescored"):
            old, new = (statistics.median(found[kind, name]) for name in contenders)
            ratio = f"{old:.1f} us before, {new:.1f} now, x{new / old:.2f}"
            print(f"Redis' CPU of a write, {together} together, {kind}: {ratio}")


def rescored(tags: Tags) -> Tags:
    score = round(min(1.0, tags.quality.score + 0.03), 6)
    quality = Quality(score, level_of(score), good=score >= GOOD)
    return replace(tags, quality=quality, version=tags.version.replace(".000003.", ".000004."))


def told(what: str, times_s: Sequence[float]) -> None:
    cuts = statistics.quantiles(times_s, n=100)
    print(f"{what}: p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms ({len(times_s)} calls)")


def calls(url: str, count: int, rounds: int) -> None:
    chance = random.Random(1)
    with TagReader(url, timeout_s=30) as reader:

        def some(number: int) -> list[str]:
            return [IDS["13 characters"](chance.randrange(count), chance) for _ in range(number)]

        asked: dict[str, Callable[[], object]] = {
            "get": lambda: reader.get(some(1)[0]),
            "get_many(500)": lambda: reader.get_many(some(500)),
            "find(brand), 100 photos": lambda: reader.find(chance.choice(BRANDS)),
            "find(), 100 of the good photos": reader.find,
            "find(), the page behind the first": lambda: reader.find(cursor=second),
            "find(three brands), 20 photos": lambda: reader.find(chance.sample(BRANDS, 3), limit=20),
            "find(level=4), 100 photos": lambda: reader.find(level=4),
            "find(since the last hundredth), 100 photos": lambda: reader.find(since=late),
            "brands()": reader.brands,
        }
        second = reader.find().cursor
        late = BEGAN + timedelta(milliseconds=37 * count * 0.99)
        for what, call in asked.items():
            repeats = rounds * (10 if what == "get" else 1)
            times = []
            for _ in range(repeats):
                began = time.perf_counter()
                call()
                times.append(time.perf_counter() - began)
            told(what, times)


async def tasks(url: str, count: int, rounds: int, together: int = 16) -> None:
    chance, times = random.Random(2), list[float]()
    async with AsyncTagReader(url, timeout_s=30) as reader:

        async def work() -> None:
            for _ in range(rounds):
                began = time.perf_counter()
                await reader.get(IDS["13 characters"](chance.randrange(count), chance))
                times.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(together)))
        took = time.perf_counter() - began
    told(f"AsyncTagReader.get, {together} tasks, {len(times) / took:,.0f}/s", times)


def changes(kafka: Kafka, count: int) -> None:
    topic = f"bench-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])[topic].result(15)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 20})
    every = dict.fromkeys([*BRANDS, "no_logo"], 0.01)
    for each in photos(count, IDS["13 characters"]):
        value = events.encode(replace(each, probabilities=every))
        producer.produce(topic, key=each.photo_id, value=value, partition=0)
        producer.poll(0)
    producer.flush()
    with Watch(kafka.bootstrap_servers, topic=topic) as watch:
        next(watch)
        began, cpu = time.perf_counter(), time.process_time()
        for _ in islice(watch, count - 1):
            pass
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"watch: {count / took:,.0f} changes/s, {cpu / count * 1e6:.0f} us of CPU each, of {len(value)} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--before", help="a commit to compare the writing script with")
    parser.add_argument("--no-watch", action="store_true")
    options = parser.parse_args()
    with Servers() as servers:
        url = servers.start_redis().url
        with Redis.from_url(url, socket_timeout=60) as client:
            print(f"Redis {client.info('server')['redis_version']}, {options.photos:,} photos")
            if options.before:
                writes(client, min(options.photos, 10_000), options.before, 7)
            client.flushall()
            source = SCRIPT.read_text(encoding="utf-8")
            Writer(client, source, declares_all=True).write(
                list(photos(options.photos, IDS["13 characters"])), PIPELINE
            )
        calls(url, options.photos, options.rounds)
        asyncio.run(tasks(url, options.photos, options.rounds))
        if not options.no_watch:
            changes(servers.start_kafka("real"), min(options.photos, 50_000))


if __name__ == "__main__":
    main()
