"""The decision for one photo, tags or a deletion, and the text forms of its parts.

Standard library only: `consumer.reader` runs where nothing but `redis` is installed. `consumer.events` re-exports all
of this and adds the JSON form.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final, Literal

_VERSION_FORM: Final = re.compile(r"[0-9]{13}\.[0-9]{6}\.[0-9]{13}")
#: Numbers of 64 bits at most.
_SOURCE_FORM: Final = re.compile(r"(.*)/([0-9]{1,19})/([0-9]{1,19})", re.DOTALL)
#: What serializers with a registry write before a JSON object: Confluent 5 bytes or, with a GUID, 17; Apicurio 9; AWS
#: Glue 18.
_FRAME: Final = re.compile(rb"(\0.{4}|\0.{8}|\x01.{16}|\x03\0.{16})(?=\s*\{\s*[\"}])", re.DOTALL)


def unframed(value: bytes) -> bytes:
    """The value without what the serializer of a schema registry writes before its JSON."""
    frame = _FRAME.match(value)
    return value if frame is None else value[frame.end() :]


class Bounds:
    """Bounds of a field, in the words of a core schema of pydantic; that holds them, and the JSON Schema states them.

    This module does without pydantic, which finds this method where it is there.
    """

    def __init__(self, **bounds: object) -> None:
        self._bounds = bounds

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], dict[str, object]]) -> object:
        return {**handler(source), **self._bounds}


#: A score, a probability or another share of 1.
Share = Annotated[float, Bounds(ge=0, le=1)]
PhotoId = Annotated[str, Bounds(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Version = Annotated[str, Bounds(pattern=f"^{_VERSION_FORM.pattern}$")]


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the photo is."""

    #: From 0 (unusable) to 1 (excellent), to six digits.
    score: Share
    #: The nearest of five levels: 1 unusable, 5 excellent.
    level: Annotated[int, Bounds(ge=1, le=5)]
    #: Whether the score reaches the threshold of the release.
    good: bool


def level_of(score: float) -> int:
    """The nearest of the five levels, 1 (0) to 5 (1); half way between two, the higher one."""
    return 1 + int(score * 4 + 0.5)


def scores_of(level: int) -> tuple[float, float]:
    """The lowest score of a level, and the lowest one above it.

    Raises:
        ValueError: there is no such level.
    """
    if level not in range(1, 6):
        raise ValueError(f"level {level} is not 1 to 5")
    return max(0.0, (level - 1.5) / 4), (level - 0.5) / 4


@dataclass(frozen=True, slots=True)
class Brand:
    """A brand in the photo."""

    #: Its name, one of the labels of the model.
    brand: str
    #: How sure it is that the photo shows it.
    probability: Share


@dataclass(frozen=True, slots=True)
class Source:
    """The coordinates of the record that a decision comes from."""

    #: The topic that it was first sent to.
    topic: str
    #: Its partition there.
    partition: Annotated[int, Bounds(ge=0, le=2**31 - 1)]
    #: Its offset in the partition.
    offset: Annotated[int, Bounds(ge=0, le=2**63 - 1)]


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of one photo, and the payload of `photo.tagged`."""

    __pydantic_config__: ClassVar = {"strict": True}

    #: The photo, as in its upload; also the key of the record.
    photo_id: PhotoId
    #: How good the photo is.
    quality: Quality
    #: The brands whose probability reaches the threshold of the release, the likeliest first.
    brands: tuple[Brand, ...]
    #: Of every brand and of `no_logo`, to four digits, for a threshold of one's own. Of a result that was published
    #: again, the tagged brands alone.
    probabilities: dict[str, Share]
    #: The versions of the models that judged the photo, by name.
    models: dict[str, str]
    #: The order of all results of one photo, `content.release.run`: compare it as text, the higher one is newer.
    version: Version
    #: The record of the upload.
    source: Source
    #: When it was decided.
    tagged_at: Annotated[datetime, Bounds(tz_constraint="aware")]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The decision to remove a photo's tags; `version` is the tombstone's."""

    photo_id: str
    version: str
    source: Source
    deleted_at: datetime


def is_version(text: str) -> bool:
    """Whether a text from outside has the form of a version; any other must not be compared with one."""
    return _VERSION_FORM.fullmatch(text) is not None


def supersedes(one: Tags | Deletion, other: Tags | Deletion) -> bool:
    """Whether the first decision is the newer one: of a higher version, or tags of a later record of one partition.

    Two contents of a photo have one version where the uploader gives both the same time or revision; so the order of
    the records decides. Between partitions there is none.
    """
    if one.version != other.version:
        return one.version > other.version
    ours, theirs = one.source, other.source
    same_log = (ours.topic, ours.partition) == (theirs.topic, theirs.partition)
    return isinstance(one, Tags) and isinstance(other, Tags) and same_log and ours.offset > theirs.offset


def say_the_same(one: Tags | Deletion, other: Tags | Deletion) -> bool:
    """Whether two decisions are tags with the same quality, brands and models, whenever and from which record."""
    if not (isinstance(one, Tags) and isinstance(other, Tags)):
        return False
    return (one.quality, one.brands, one.models) == (other.quality, other.brands, other.models)


def format_source(source: Source) -> str:
    """`topic/partition/offset`."""
    return f"{source.topic}/{source.partition}/{source.offset}"


def parse_source(text: str) -> Source:
    """The source that `format_source` wrote.

    Raises:
        ValueError: the text is not of that form.
    """
    found = _SOURCE_FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"source {text!r} is not topic/partition/offset")
    topic, partition, offset = found.groups()
    return Source(topic, int(partition), int(offset))


def parse_time(text: str) -> datetime:
    """A time from outside, in UTC.

    Raises:
        ValueError: the text is no time, has no zone, or is outside the calendar in UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise ValueError(f"timestamp {text} has no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"timestamp {text} is outside the calendar") from None


def format_time(moment: datetime, timespec: Literal["seconds", "milliseconds"] = "milliseconds") -> str:
    """ISO 8601 in UTC, `2026-11-21T10:15:00.123Z`; what is finer is cut off."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970, by integer arithmetic: `timestamp()` is a float and rounds."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000 + delta.microseconds // 1_000
