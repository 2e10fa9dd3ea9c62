"""The log of releases in Kafka: read from its beginning, appended to, and followed."""

import getpass
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import Final, Self

import orjson

from consumer import releases
from consumer.errors import DependencyDown
from consumer.events import Record
from consumer.kafka.headers import cloud_event_headers
from consumer.kafka.scan import Scan, TopicReader
from consumer.kafka.sender import NewRecord, Sender
from consumer.releases import Numbered, Release
from consumer.settings.sections import KafkaSettings
from consumer.versions import release_in

#: Called with a record of the log that is no release, and why.
Unreadable = Callable[[Record, str], object]

#: The only one of the log; those that another tool added are not read.
_PARTITION: Final = 0
_POLL_S: Final = 0.2
#: Without a record for so long before the end, the log cannot be read.
_SILENCE_S: Final = 10.0
_AGAIN_S: Final = 1.0
#: A log that was made anew may be as long as the old one: its beginning is read again after so long.
_ANEW_S: Final = 30.0
#: Of each partition of the result topic, whose last records have the highest number that was used.
_LAST_RESULTS: Final = 200
_EVENT_SOURCE: Final = "/photo-tagger/releases"


def _ignore(_: Record, __: str) -> None:
    """Passes over what is no release."""


def history(kafka: KafkaSettings, unreadable: Unreadable = _ignore) -> list[Numbered]:
    """The releases in the log, in their order; `releases.in_force` says which of them came into force.

    Raises:
        DependencyDown: the log cannot be read, or is missing.
    """
    with Scan(kafka.bootstrap_servers, kafka.extra, kafka.releases_topic, silence_s=_SILENCE_S) as scan:
        records = [record for records in scan for record in records if record.partition == _PARTITION]
    return list(_numbered(records, unreadable))


def append(kafka: KafkaSettings, release: Release) -> Numbered:
    """Appends a release and returns it with its number. It is in force at once, unless it decides nothing new.

    Raises:
        DependencyDown: the log cannot be read, or did not take it.
    """
    known = history(kafka)
    after = known[-1].release.numbers_after if known else _highest_used(kafka)
    release = replace(release, numbers_after=after)
    headers = cloud_event_headers(releases.RELEASE, f"{release.at.isoformat()}/{release.by}", _EVENT_SOURCE)
    record = NewRecord(kafka.releases_topic, None, releases.encode(release), headers, partition=_PARTITION)
    (stored,) = Sender(kafka.bootstrap_servers, kafka.extra, [record.topic]).send([record])
    return Numbered(after + stored.offset + 1, release)


def author() -> str:
    """Who writes a release from here: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Follower:
    """Reads the log in a thread of its own, and calls `seen` for each release there is, and each that comes.

    It begins again after a failure: the same release may be seen twice.
    """

    def __init__(self, kafka: KafkaSettings, seen: Callable[[Numbered], None], unreadable: Unreadable) -> None:
        self._kafka = kafka
        self._seen = seen
        self._unreadable = unreadable
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="releases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it; its thread is not waited for, which may be within a call to Kafka."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except DependencyDown:  # the releases that are known stay in force
                self._stopping.wait(_AGAIN_S)

    def _follow(self) -> None:
        topic, end_s = self._kafka.releases_topic, monotonic() + _ANEW_S
        with TopicReader(self._kafka.bootstrap_servers, self._kafka.extra, [topic]) as reader:
            reader.start({(topic, _PARTITION): 0})
            while not self._stopping.is_set() and monotonic() < end_s:
                for release in _numbered(reader.read(_POLL_S), self._unreadable):
                    self._seen(release)


def _numbered(records: list[Record], unreadable: Unreadable) -> Iterator[Numbered]:
    for record in records:
        try:
            yield releases.decode(record)
        except ValueError as error:
            unreadable(record, str(error))


def _highest_used(kafka: KafkaSettings) -> int:
    """The highest number of a release under which a result was published lately; 0 where there is none.

    Where the log of releases is gone, or older versions of tags have other numbers, a new log must continue above them.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    topic = kafka.tags_topic
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [topic]) as reader:
        last = {
            key: range(max(held.start, held.stop - _LAST_RESULTS), held.stop) for key, held in reader.ranges().items()
        }
    with Scan(kafka.bootstrap_servers, kafka.extra, topic, ranges=last, silence_s=_SILENCE_S) as scan:
        return max((_release_used(record) for records in scan for record in records), default=0)


def _release_used(result: Record) -> int:
    """The release of a result; 0 for a deletion, and for what is no result."""
    try:
        return release_in(str(orjson.loads(result.value or b"")["version"])) or 0
    except (ValueError, LookupError, TypeError):
        return 0
