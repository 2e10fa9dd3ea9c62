"""The decision for one photo, tags or a deletion, and the text forms of its parts.

Standard library only: `consumer.reader` runs where nothing but `redis` is installed. `consumer.events` re-exports all
of this and adds the JSON form.
"""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the photo is: `score` 0..1, `level` 1 (unusable) to 5 (excellent), `good` above the threshold."""

    score: float
    level: int
    good: bool


@dataclass(frozen=True, slots=True)
class Brand:
    """A brand in the photo, with its probability 0..1."""

    brand: str
    probability: float


@dataclass(frozen=True, slots=True)
class Source:
    """The coordinates of the record that a decision comes from."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of one photo, and the payload of `photo.tagged`."""

    photo_id: str
    quality: Quality
    brands: tuple[Brand, ...]
    #: Of every brand and of `no_logo`, rounded: another threshold needs no new inference.
    probabilities: dict[str, float]
    models: dict[str, str]
    version: str
    source: Source
    tagged_at: datetime


@dataclass(frozen=True, slots=True)
class Deletion:
    """The decision to remove a photo's tags; `version` is the tombstone's."""

    photo_id: str
    version: str
    source: Source
    deleted_at: datetime


def format_source(source: Source) -> str:
    """`topic/partition/offset`."""
    return f"{source.topic}/{source.partition}/{source.offset}"


def parse_source(text: str) -> Source:
    """The source that `format_source` wrote.

    Raises:
        ValueError: the text is not of that form.
    """
    topic, partition, offset = text.rsplit("/", 2)
    return Source(topic, int(partition), int(offset))


def format_time(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, `2026-11-21T10:15:00.123Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970, by integer arithmetic: `timestamp()` is a float and rounds."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000 + delta.microseconds // 1_000
