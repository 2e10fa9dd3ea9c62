"""The servers, topics and photos that every contender works on in its turn; sends events and reads their results."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks import machine
from benchmarks.compare import contenders, photos
from benchmarks.compare.contenders import Place
from consumer import events
from consumer.embedded.process import GuardianClient, Server
from consumer.embedded.servers import Stack
from consumer.kafka.topics import create_topics
from consumer.reader import TagReader
from consumer.topic_names import TopicNames

#: Scores of one photo differ in the last digits with the batch that it is judged in.
TOLERANCE = 2e-3
_PARTITIONS = 4
_WARM = 60
_START_S = 90.0
_SILENCE_S = 60.0
#: The broker stamps results, so that looking for them seldom costs nothing but the driver's patience.
_POLL_S = 0.2


class Failed(Exception):
    """A contender ended, or did not tag what it was sent; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Result:
    """A record of the result topic: the tags, and when the broker appended it."""

    at_s: float
    tags: events.Tags


class Rig:
    """Owns the clients of the driver and the photo host. A context manager."""

    def __init__(self, stack: Stack, folder: Path, logs: Path) -> None:
        self.stack, self.folder, self.logs = stack, folder, logs
        self.kafka = stack.kafka.bootstrap_servers
        # They outlive the broker, and would say so.
        self._client = {"bootstrap.servers": self.kafka, "log_level": 2}
        self.admin = AdminClient(self._client)
        self.producer = Producer({**self._client, "linger.ms": 1, "compression.type": "lz4"})
        self.reader = TagReader(stack.redis.url)
        self.guardian = GuardianClient(logs)
        argv = [sys.executable, "-m", "benchmarks.compare.photo_host", str(folder)]
        self._host = contenders.child(self.guardian, "photo-host", argv, answers=lambda: bool(self.http))
        self._host.start()
        self.reference = contenders.reference(self.place(TopicNames(), "reference"), photos.every_name())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()
        self.guardian.close()

    @property
    def http(self) -> str:
        """The address of the photos, once the host has printed it."""
        return self._host.log_path.read_text().strip()

    def place(self, topics: TopicNames, group: str) -> Place:
        """Where a contender works."""
        return Place(self.stack, topics, group, self.folder)

    @contextmanager
    def topics(self, tag: str, uploads: str | None = None) -> Iterator[TopicNames]:
        """Topics for one run; results carry the time at which the broker appended them.

        Yields:
            Their names; all but a given uploads topic are deleted at the end.
        """
        names = TopicNames(uploads or f"{tag}-uploads", f"{tag}-tags", f"{tag}-dead", f"{tag}-retry")
        stamped = {"message.timestamp.type": "LogAppendTime"}
        self.admin.create_topics([NewTopic(names.tags, _PARTITIONS, 1, config=stamped)])[names.tags].result(30)
        create_topics(self.kafka, names, partitions=_PARTITIONS)
        try:
            yield names
        finally:
            made = [name for name in (names.uploads, names.tags, names.dead, names.retry) if name != uploads]
            self.admin.delete_topics(made)

    def usage(self, run: "Run") -> machine.Reading:
        """CPU seconds of each process, and the load of the machine, until now."""
        servers = {"Triton": self.stack.triton, "Kafka": self.stack.kafka, "Redis": self.stack.redis}
        groups = {name: lambda pid=server.pid: machine.cpu_seconds(pid) for name, server in servers.items()}
        client = {"client": lambda: machine.cpu_seconds(run.process.pid)}
        own = {"driver": time.process_time, "host": lambda: machine.cpu_seconds(self._host.pid)}
        return machine.read(client | groups | own)

    @contextmanager
    def run(self, name: str, tag: str, **options: bool) -> Iterator["Run"]:
        """Starts a contender on topics of its own and lets it tag some photos, so that it is warm.

        Yields:
            The running contender, which is ended afterwards.
        """
        with self.topics(tag) as names, self.started(name, tag, names) as run:
            run.send("warm", photos.mix(_WARM, seed=5), **options)
            run.wait(_START_S)
            yield run

    @contextmanager
    def started(self, name: str, tag: str, names: TopicNames) -> Iterator["Run"]:
        """Starts a contender.

        Yields:
            The contender, which may not be connected yet, and is ended afterwards.
        """
        process = contenders.contender(self.guardian, name, self.place(names, tag), tag)
        process.launch()
        results = Consumer({**self._client, "group.id": f"driver-{tag}", "enable.auto.commit": False})
        try:
            yield Run(self, tag, names, process, results)
        finally:
            results.close()
            process.stop()


class Run:
    """A running contender."""

    def __init__(
        self,
        rig: Rig,
        tag: str,
        topics: TopicNames,
        process: Server,
        results: Consumer,
    ) -> None:
        self.rig, self.tag, self.topics, self.process = rig, tag, topics, process
        self.sent = 0
        self._results = results

    def send(
        self, part: str, names: Sequence[str], *, http: bool = False, rate: float | None = None
    ) -> dict[str, float]:
        """Sends an event for each photo, all at once or at a constant rate; ids and the times at which each was due."""
        base = self.rig.http if http else self.rig.folder.as_uri()
        due: dict[str, float] = {}
        began = time.time()
        for number, name in enumerate(names):
            photo_id = f"{self.tag}-{part}-{number}"
            due[photo_id] = began + number / rate if rate else time.time()
            while (left := due[photo_id] - time.time()) > 0:
                time.sleep(left)
            event = events.PhotoUploaded(photo_id, f"{base}/{name}", datetime.now(UTC))
            self.rig.producer.produce(self.topics.uploads, events.encode(event), photo_id)
            self.rig.producer.poll(0)
        self.rig.producer.flush()
        self.sent += len(names)
        return due

    def wait(self, silence_s: float = _SILENCE_S) -> None:
        """Waits until there are as many results as events were sent.

        Raises:
            Failed: the contender ended, or no result came for so many seconds.
        """
        found, since = 0, time.monotonic()
        while (now := self.count()) < self.sent:
            if now > found:
                found, since = now, time.monotonic()
            self.require(now, time.monotonic() - since < silence_s)
            time.sleep(_POLL_S)

    def require(self, found: int, holds: bool = True) -> None:  # noqa: FBT001, FBT002 - a condition
        """Raises `Failed` where the process has ended or a condition does not hold."""
        if not self.process.running or not holds:
            state = "is silent" if self.process.running else "has ended"
            lines = self.process.log_path.read_text(errors="replace").splitlines()[-6:]
            raise Failed(f"{self.tag}: {state} after {found} of {self.sent} results\n  " + "\n  ".join(lines))

    def count(self) -> int:
        """Records in the result topic."""
        ends = 0
        for partition in range(_PARTITIONS):
            try:
                ends += self._results.get_watermark_offsets(TopicPartition(self.topics.tags, partition), timeout=5)[1]
            except KafkaException:
                return 0
        return ends

    def results(self) -> dict[str, Result]:
        """The first result of each photo, by its id."""
        left = self.count()
        places = [TopicPartition(self.topics.tags, partition, OFFSET_BEGINNING) for partition in range(_PARTITIONS)]
        self._results.assign(places)
        found: dict[str, Result] = {}
        while left > 0:
            messages = [message for message in self._results.consume(500, 1.0) if message.error() is None]
            left -= len(messages)
            for message in messages:
                result = Result(message.timestamp()[1] / 1000, events.decode_tags(message.value()))
                earlier = found.setdefault(result.tags.photo_id, result)
                if result.at_s < earlier.at_s:
                    found[result.tags.photo_id] = result
        self._results.unassign()
        return found


def right(rig: Rig, names: Mapping[str, str], results: Mapping[str, Result]) -> int:
    """How many photos, file names by id, have the expected scores in the result topic, and the same tags in Redis."""
    stored = rig.reader.get_many(names)
    count = 0
    for photo_id, name in names.items():
        result, kept, expected = results.get(photo_id), stored.get(photo_id), rig.reference.photos[name]
        if result is None or kept is None:
            continue
        tags = result.tags
        count += (
            abs(tags.quality.score - expected["score"]) < TOLERANCE
            and tags.probabilities.keys() == expected["probabilities"].keys()
            and all(abs(value - expected["probabilities"][b]) < TOLERANCE for b, value in tags.probabilities.items())
            and (kept.version, kept.quality, kept.brands) == (tags.version, tags.quality, tags.brands)
        )
    return count
