"""Follows the result topic and the releases, so that a page needs to ask nobody for the newest results."""

import threading
from collections.abc import Mapping
from math import ceil
from time import monotonic
from typing import Final, Self

from consumer import releases
from consumer.errors import DependencyDown
from consumer.events import Record
from consumer.kafka.offsets import Partition
from consumer.kafka.scan import TopicReader
from consumer.releases import Numbered
from consumer.service import release_log
from consumer.settings.sections import KafkaSettings
from consumer.webserver.newest import Newest

_POLL_S: Final = 0.2
_AGAIN_S: Final = 1.0
#: The keys of one photo stay in one partition, and keys spread unevenly: what is read again at the start, in parts.
_SPREAD: Final = 2
_LEAST: Final = 50
#: So often the brokers are asked which partitions there are and, without a record meanwhile, how far these go.
_LOOK_S: Final = 3.0


class Feed:
    """What was tagged last, and what is in force. A context manager; its threads begin again after every failure.

    Attributes:
        newest: The newest results.
        problem: Why the result topic cannot be followed now; empty while it can.
        caught_up: Whether everything was read that was there at the start.
    """

    def __init__(self, kafka: KafkaSettings, most: int) -> None:
        self.newest = Newest(most)
        self.problem = ""
        self.caught_up = False
        self._kafka, self._most = kafka, most
        self._chain: dict[int, Numbered] = {}
        self._releases = release_log.Follower(kafka, self._see, _pass_over)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)

    def __enter__(self) -> Self:
        self._releases.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends it; its threads are not waited for, which may be within a call to Kafka."""
        self._stopping.set()
        self._releases.__exit__(*exception)

    @property
    def chain(self) -> list[Numbered]:
        """The releases that came into force, the last one is; none before they are known."""
        return releases.in_force(sorted(self._chain.copy().values(), key=lambda each: each.number))

    def _see(self, release: Numbered) -> None:
        self._chain[release.number] = release

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except DependencyDown as down:
                self.problem = down.detail
                self._stopping.wait(_AGAIN_S)

    def _follow(self) -> None:
        """Reads from a little before the end on.

        Raises:
            DependencyDown: Kafka does not answer, or the topic is missing.
        """
        topic = self._kafka.tags_topic
        with TopicReader(self._kafka.bootstrap_servers, self._kafka.extra, [topic]) as reader:
            held = reader.ranges()
            reader.start(self._starts(held, len(held)))
            self.problem, silent, looked_s = "", True, monotonic()
            while not self._stopping.is_set():
                records = reader.read(_POLL_S)
                self.newest.add(records)
                silent &= not records
                self.caught_up |= all(reader.positions.get(key, 0) >= each.stop for key, each in held.items())
                if monotonic() < looked_s + _LOOK_S:
                    continue
                if added := reader.added():
                    held |= added
                    reader.start(self._starts(added, len(held)))
                elif silent and _was_made_anew(reader):
                    self.newest.clear()
                    return
                silent, looked_s = True, monotonic()

    def _starts(self, held: Mapping[Partition, range], partitions: int) -> dict[Partition, int]:
        """Where the newest results begin in some of so many partitions."""
        back = _LEAST + _SPREAD * ceil(self._most / max(1, partitions))
        return {key: max(each.start, each.stop - back) for key, each in held.items()}


def _was_made_anew(reader: TopicReader) -> bool:
    """Whether a partition ends before what was read of it: the topic was deleted and made anew.

    A client that has lost its brokers only waits for them; this question fails then.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    return any(reader.positions.get(key, 0) > each.stop for key, each in reader.ranges().items())


def _pass_over(_: Record, __: str) -> None:
    """A record that is no release."""
