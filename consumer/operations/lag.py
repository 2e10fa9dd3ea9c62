"""How far the service is behind: by partition, with the age of the oldest unfinished record."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from consumer.kafka.offsets import Partition
from consumer.kafka.scan import TopicReader
from consumer.operations import run_log
from consumer.operations.dead_letters import written_at
from consumer.service.streams import retry_group
from consumer.settings import Settings

#: For the first record of each partition that is behind.
_READ_S: Final = 5.0
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """Records of a partition that have no outcome, or that a finished one waits for; all where nothing is committed.

    `oldest_at` is the time of the record at the committed position, `oldest_age_s` how long ago that was; None where
    there is no such record. In the retry topic, records wait for their time.
    """

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    oldest_at: datetime | None
    oldest_age_s: float | None


def lag(settings: Settings) -> list[PartitionLag]:
    """The lag of the live group, in the upload topic and then in the retry topic.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    kafka = settings.kafka
    groups = ((kafka.group_id, kafka.uploads_topic), (retry_group(kafka.group_id), kafka.retry_topic))
    return [each for group, topic in groups for each in _lag(settings, group, topic)]


def _lag(settings: Settings, group: str, topic: str) -> list[PartitionLag]:
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [topic]) as reader:
        held, positions = reader.ranges(), run_log.positions(kafka, group)
        unread = behind(held, positions)
        times = _first_times(reader, {key: each.start for key, each in unread.items() if each})
    now = datetime.now(UTC)
    return [
        PartitionLag(
            group=group,
            topic=topic,
            partition=key[1],
            committed=positions.get(key),
            end=each.stop,
            lag=len(unread[key]),
            oldest_at=times.get(key),
            oldest_age_s=None if key not in times else max(0.0, round((now - times[key]).total_seconds(), 1)),
        )
        for key, each in sorted(held.items())
    ]


def behind(held: Mapping[Partition, range], positions: Mapping[Partition, int]) -> dict[Partition, range]:
    """The offsets of each partition that a group with these positions has not committed; all where it has none."""
    return {key: range(max(each.start, positions.get(key, 0)), each.stop) for key, each in held.items()}


def _first_times(reader: TopicReader, starts: Mapping[Partition, int]) -> dict[Partition, datetime]:
    """The time of the first record at or after each of these offsets; none where there is no record."""
    found: dict[Partition, datetime] = {}
    if not starts:
        return found
    reader.start(starts)
    deadline_s = monotonic() + _READ_S
    while len(found) < len(starts) and monotonic() < deadline_s:
        for record in reader.read(_POLL_S):
            key = record.topic, record.partition
            if key not in found:
                found[key] = written_at(record)
                reader.stop(key)
    return found
