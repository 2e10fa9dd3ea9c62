"""Draws a uniform sample of photos from the result topic in bounded memory; a photo tagged repeatedly counts once."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from training.errors import DataError

_POLL_S: Final = 0.5
_AT_ONCE: Final = 500
_ANSWER_S: Final = 15.0
#: Reading fails when a topic delivers nothing for this time before its end.
_SILENCE_S: Final = 60.0
#: Candidates kept beyond the sample, since some are deleted later in the topic.
_SPARE: Final = 1000


@dataclass(frozen=True, slots=True)
class Tagged:
    """A photo's tags from the result topic, and the URI and place from its upload event."""

    photo_id: str
    score: float
    good: bool
    models: Mapping[str, str]
    #: Topic, partition and offset of the upload event.
    source: tuple[str, int, int]
    uri: str | None = None
    place: str | None = None


@dataclass(slots=True)
class Draw:
    """The photos with the least hashes of seed and key: a uniform sample, independent of the order of records."""

    count: int
    seed: int
    seen: int = 0
    unreadable: int = 0
    _kept: dict[str, tuple[int, Tagged]] = field(default_factory=dict)
    _bound: int = 1 << 64

    def add(self, key: str, tagged: Tagged | None) -> None:
        """Adds the newest record of a photo; None removes it."""
        self.seen += 1
        rank = int.from_bytes(hashlib.blake2b(f"{self.seed} {key}".encode(), digest_size=8).digest())
        if tagged is None:
            self._kept.pop(key, None)
        elif rank < self._bound:
            self._kept[key] = (rank, tagged)
            limit = self.count + _SPARE
            if len(self._kept) > 2 * limit:
                ranked = sorted(self._kept.items(), key=lambda item: item[1][0])
                self._bound, self._kept = ranked[limit][1][0], dict(ranked[:limit])

    def drawn(self) -> list[Tagged]:
        """At most `count` photos, in the order of their hashes."""
        return [tagged for _, tagged in sorted(self._kept.values(), key=lambda pair: pair[0])][: self.count]


def tagged_of(value: bytes) -> tuple[Tagged, datetime]:
    """Parses a record of the result topic: the tags, and when they were made.

    Raises:
        ValueError: It does not match the schema.
    """
    try:
        # The service may write the number of a schema before it, in five bytes of which the first is zero.
        values: dict[str, Any] = json.loads(value[5:] if value[:1] == b"\0" else value)
        quality, source = values["quality"], values["source"]
        place = (str(source["topic"]), int(source["partition"]), int(source["offset"]))
        models = {str(name): str(version) for name, version in values["models"].items()}
        tagged = Tagged(str(values["photo_id"]), float(quality["score"]), bool(quality["good"]), models, place)
        return tagged, datetime.fromisoformat(values["tagged_at"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a photo.tagged record: {type(error).__name__}: {error}") from None


class Topics:
    """Reads topics from the beginning to their current end, without joining a group or committing offsets."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """With settings of librdkafka, `bootstrap.servers` among them; connects on first use.

        Raises:
            DataError: The client refuses the settings.
        """
        fixed = {
            "group.id": "photo-trainer-trial",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            # Retention may delete records while they are read.
            "auto.offset.reset": "earliest",
            # a fetch that waits at the end of a topic would delay the next seek
            "fetch.wait.max.ms": 10,
        }
        try:
            self._consumer = Consumer({**settings, **fixed})
        except (KafkaException, TypeError, ValueError) as error:
            raise DataError(f"Kafka's client refuses its settings: {error}") from None

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()

    def _watermarks(self, topic: str) -> dict[int, tuple[int, int]]:
        """First offset and end offset of each partition.

        Raises:
            DataError: No such topic, or Kafka does not respond.
        """
        with _failures(f"topic {topic}"):
            found = self._consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
            if found.error is not None:
                raise DataError(f"topic {topic}: {found.error}")
            partitions = [TopicPartition(topic, number) for number in found.partitions]
            return {p.partition: self._consumer.get_watermark_offsets(p, timeout=_ANSWER_S) for p in partitions}

    def records(self, topic: str) -> Iterator[Message]:
        """Every record from the first offset to the current end.

        Yields:
            Records; those of one partition in order.

        Raises:
            DataError: No such topic, or Kafka does not respond.
        """
        watermarks = self._watermarks(topic)
        ends = {number: end for number, (start, end) in watermarks.items() if end > start}
        self._consumer.assign([TopicPartition(topic, number, watermarks[number][0]) for number in ends])
        waited_s, last_error = 0.0, ""
        while ends:
            began_s = time.monotonic()
            with _failures(f"topic {topic}"):
                messages = self._consumer.consume(_AT_ONCE, _POLL_S)
            waited_s += time.monotonic() - began_s
            for message in messages:
                number, offset, error = message.partition() or 0, message.offset() or 0, message.error()
                if error is None and offset < ends.get(number, 0):
                    waited_s = 0.0
                    yield message
                elif error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client's own name
                    last_error = f"; last error: {error}"
                    continue
                # The end is reached by its last record, or by an end-of-partition event after compacted records.
                if offset + (error is None) >= ends.get(number, 0):
                    ends.pop(number, None)
            if ends and waited_s > _SILENCE_S:
                waiting = f"{len(ends)} partitions unfinished{last_error}"
                raise DataError(f"topic {topic} delivered nothing for {_SILENCE_S:g} s, {waiting}")

    def events(self, sources: Sequence[tuple[str, int, int]]) -> dict[tuple[str, int, int], dict[str, Any]]:
        """Upload events by topic, partition and offset, as far as they still exist and are valid.

        Raises:
            DataError: Kafka does not respond.
        """
        found: dict[tuple[str, int, int], dict[str, Any]] = {}
        with _failures("the list of topics"):
            known = self._consumer.list_topics(timeout=_ANSWER_S).topics
        for topic in sorted({source[0] for source in sources} & known.keys()):
            watermarks = self._watermarks(topic)
            for source in sorted(source for source in sources if source[0] == topic):
                low, high = watermarks.get(source[1], (0, 0))
                value = self._at(source) if low <= source[2] < high else None
                try:
                    event = json.loads(value) if value else None
                except ValueError:
                    continue
                if isinstance(event, dict):
                    found[source] = event
        return found

    def _at(self, source: tuple[str, int, int]) -> bytes | None:
        """The value of one record; None if it no longer exists.

        Raises:
            DataError: Kafka does not respond.
        """
        self._consumer.assign([TopicPartition(*source)])
        end = time.monotonic() + _ANSWER_S
        while time.monotonic() < end:
            message = self._consumer.poll(_POLL_S)
            error = None if message is None else message.error()
            if message is not None and error is None:
                return message.value() if message.offset() == source[2] else None
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - as above
                return None
        raise DataError(f"{source[0]}, partition {source[1]} does not respond")


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """Maps exceptions of Kafka's client.

    Yields:
        None.

    Raises:
        DataError: The client failed.
    """
    try:
        yield
    except KafkaException as error:
        raise DataError(f"{what} cannot be read: {error}") from None


def draw(topics: Topics, topic: str, count: int, seed: int, since: datetime | None) -> Draw:
    """Draws photos from a result topic.

    Args:
        topics: The connection.
        topic: The result topic.
        count: Largest number of photos.
        seed: The same topic and seed give the same photos.
        since: Photos whose newest tags are older are excluded.
    """
    found = Draw(count, seed)
    for message in topics.records(topic):
        key, value = message.key(), message.value()
        name = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
        if value is None:
            found.add(name, None)
            continue
        try:
            tagged, moment = tagged_of(value)
        except ValueError:
            found.unreadable += 1
            continue
        found.add(name, tagged if since is None or moment >= since else None)
    return found
