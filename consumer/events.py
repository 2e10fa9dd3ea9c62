"""Kafka records, the events in them, photos and scores, and the JSON form of events and tags. No I/O.

The JSON Schemas under `docs/schemas/`, the published contract, are generated from these classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from consumer import payloads
from consumer.errors import PhotoRejected
from consumer.tags import Brand as Brand
from consumer.tags import Deletion as Deletion
from consumer.tags import PhotoId as PhotoId
from consumer.tags import Quality as Quality
from consumer.tags import Source as Source
from consumer.tags import Tags as Tags
from consumer.tags import format_source as format_source
from consumer.tags import format_time as format_time
from consumer.tags import milliseconds as milliseconds
from consumer.tags import parse_source as parse_source
from consumer.tags import unframed

Headers = tuple[tuple[str, bytes | None], ...]
Pixels = npt.NDArray[np.uint8]

UPLOADED: Final = "photo.uploaded"
DELETED: Final = "photo.deleted"
TAGGED: Final = "photo.tagged"

#: The headers of a tombstone in the result topic: what Redis keeps of the deletion.
VERSION_HEADER: Final = "version"
DELETED_AT_HEADER: Final = "deleted_at"
SOURCE_HEADER: Final = "source"


def _with_a_date(value: object) -> object:
    """The value, if it is a text with a date: a number would be taken as seconds or milliseconds since 1970.

    Raises:
        ValueError: it is anything else.
    """
    if not isinstance(value, str) or "-" not in value[1:]:
        raise ValueError("not a date and time such as 2026-11-21T10:15:00Z")
    return value


def _in_utc(moment: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        ValueError: it is outside the calendar in UTC.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is outside the calendar") from None


def _whole(value: object) -> object:
    """A whole number that was written as `4.0`; any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: Without conversions, as in the schema: the text "7" is not a revision, the number 1700000000 is not a time.
_STRICT: Final = ConfigDict(strict=True)
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_with_a_date), AfterValidator(_in_utc)]
#: A revision or a time in milliseconds: 13 decimal digits reach to the year 2286.
MAX_REVISION: Final = 9_999_999_999_999
#: JSON has one kind of number, and some languages write a whole one as `4.0`.
Revision = Annotated[int, Field(ge=0, le=MAX_REVISION), BeforeValidator(_whole)]
#: How far the time of an event may be ahead of its record's: a wrong clock would outrank every later event.
MAX_CLOCK_AHEAD_S: Final = 86_400.0
#: Earlier times stand for "no time" in some language or format: the year 1, 1601, 1900, 1904, 1970, 1980.
EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
#: A time of RFC 3339, from a year on; the schemas promise this form, and a few more are read (`2026-11-21T10:15Z`).
_TIME: Final = (
    r"^{year}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{{1,9}})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
TIME_FORM: Final = _TIME.format(year="[0-9]{4}")
EventTime = Annotated[Moment, Field(json_schema_extra={"pattern": _TIME.format(year="(199[0-9]|[2-9][0-9]{3})")})]


_SEPARATORS: Final = str.maketrans("", "", "-_")


def _plain(header: str) -> str:
    return header.lower().translate(_SEPARATORS)


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record with its coordinates; `epoch` numbers the assignment that delivered it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0
    epoch: int = 0
    #: Why it, or its headers, cannot be read; empty if they can. The type of the event is unknown then.
    unreadable: str = ""

    def header(self, name: str, absent: str) -> str:
        """The last header of that name as text, with escapes where it is not UTF-8; `absent` where there is none.

        Names count in any capitals, and with `-`, `_` or neither: `ce-type`, `Content-Type`, `contentType`.
        """
        for key, value in reversed(self.headers):
            if value is not None and _plain(key) == _plain(name):
                return value.decode(errors="backslashreplace")
        return absent


@dataclass(frozen=True, slots=True)
class PhotoUploaded:
    """A photo was uploaded for the first time or again. Unknown fields are ignored."""

    __pydantic_config__: ClassVar = _STRICT

    #: The photo; also the key of the record. Without control characters.
    photo_id: PhotoId
    #: Where the photo is fetched from: an absolute URL of a scheme and host that the operator allows.
    uri: Annotated[str, Field(min_length=1, max_length=4096)]
    #: When this content was uploaded, with a time zone: not before 1990, at most a day after the record was written. It
    #: orders the contents of a photo that have no `revision`.
    uploaded_at: EventTime
    #: Orders the contents of one photo; without it, the time of upload does. A pipeline must not mix the two.
    revision: Revision | None = None
    #: Who uploaded it; not read by the service.
    uploader: str | None = None
    #: Where it was taken; not read by the service.
    place: str | None = None
    #: The digest of the file: what is fetched and has another one is refused.
    content_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    #: Anything else about the photo; not read by the service.
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PhotoDeleted:
    """A photo was deleted: its tags are removed, and older uploads do not restore them."""

    __pydantic_config__: ClassVar = _STRICT

    #: The photo, as in its upload; also the key of the record.
    photo_id: PhotoId
    #: When it was deleted, with a time zone: not before 1990, at most a day after the record was written. The contents
    #: that were uploaded up to then are deleted.
    deleted_at: EventTime
    #: The last deleted revision, for pipelines that number their uploads.
    revision: Revision | None = None


@dataclass(slots=True)
class Photo:
    """The encoded bytes of one photo, until they are dropped: they are not needed beside the pixels."""

    photo_id: str
    uri: str
    body: bytes
    #: Called when the bytes are dropped; releases their part of the bytes in flight.
    on_drop: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def drop(self) -> None:
        """Drops the bytes; again does nothing."""
        self.body = b""
        if self.on_drop is not None:
            self.on_drop()


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one photo, and the versions of the models that gave them.

    `quality_score` is 0..1, `brand_probs` float32 [brands + no_logo] in the order of the contract's labels.
    """

    quality_score: float
    brand_probs: npt.NDArray[np.float32]
    models: Mapping[str, str]


Event = PhotoUploaded | PhotoDeleted

UPLOADED_ADAPTER: Final = TypeAdapter(PhotoUploaded)
DELETED_ADAPTER: Final = TypeAdapter(PhotoDeleted)
TAGS_ADAPTER: Final = TypeAdapter(Tags)
_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {
    UPLOADED: UPLOADED_ADAPTER,
    DELETED: DELETED_ADAPTER,
}


def says_nothing(record: Record) -> bool:
    """Whether a record has no value, as purges, compacted topics and change data capture leave them.

    One whose header says `photo.deleted` is an event all the same, an invalid one: a deletion is not skipped.
    """
    return record.value is None and not record.unreadable and record.header("ce_type", UPLOADED) != DELETED


def parse(record: Record, *, max_ahead_s: float = MAX_CLOCK_AHEAD_S, now_ms: int | None = None) -> Event:
    """The event in a record; its type is in the header `ce_type`, `photo.uploaded` without one.

    A value of the content type `application/cloudevents+json` has type and event in itself.

    Its time must be plausible, because it orders all events of a photo: at most `max_ahead_s` after the record's own
    time. A producer may stamp its records itself, so a record's time does not count where it is after `now_ms` (by
    default, now) or what an unset time looks like (0, or seconds for milliseconds).

    Raises:
        PhotoRejected: `invalid_event`, naming the field that is missing, ill-typed or implausible.
    """
    if record.unreadable:
        # Not read as an upload: it may be a deletion.
        raise PhotoRejected("invalid_event", record.unreadable)
    if record.value is None:
        raise PhotoRejected("invalid_event", "the record has no value")
    kind, value = payloads.event_of(record.value, record.header("ce_type", UPLOADED), record.header("content-type", ""))
    event = _event(kind, value)
    now_ms = milliseconds(datetime.now(UTC)) if now_ms is None else now_ms
    stamped = milliseconds(EARLIEST) <= record.timestamp_ms <= now_ms
    _check_time(event, record.timestamp_ms if stamped else now_ms, max_ahead_s)
    return event


def trace_of(record: Record) -> Headers:
    """The sender's W3C trace context: of the headers, else of a CloudEvent in structured mode."""
    trace = tuple((name, value) for key, value in record.headers if (name := key.lower()) in payloads.TRACE)
    if trace or record.value is None:
        return trace
    attributes = payloads.trace_of(record.value, record.header("content-type", ""))
    return tuple((name, text.encode()) for name, text in attributes.items())


def _event(kind: str, value: bytes) -> Event:
    if kind not in _ADAPTERS:
        said = repr(kind[: payloads.MAX_QUOTED])
        raise PhotoRejected("invalid_event", f"its type (ce_type) is {said}, expected {UPLOADED} or {DELETED}")
    event: Event = payloads.validated(_ADAPTERS[kind], value)
    return event


def _check_time(event: Event, written_ms: int, max_ahead_s: float) -> None:
    """Refuses what cannot be the time of an event that was written at `written_ms`.

    Raises:
        PhotoRejected: `invalid_event`.
    """
    name, moment = (
        ("uploaded_at", event.uploaded_at) if isinstance(event, PhotoUploaded) else ("deleted_at", event.deleted_at)
    )
    if moment < EARLIEST:
        raise PhotoRejected("invalid_event", f"field {name}: {format_time(moment)} is what an unset time looks like")
    ahead_s = (milliseconds(moment) - written_ms) / 1000
    if ahead_s > max_ahead_s:
        late = f"{format_time(moment)} is {ahead_s:.0f} s after its record was written, {max_ahead_s:.0f} are allowed"
        raise PhotoRejected("invalid_event", f"field {name}: {late}")


def is_under_way(event: PhotoUploaded, now: datetime, grace_s: float) -> bool:
    """Whether the upload may not be complete or visible yet: it began less than `grace_s` ago.

    Neither may it be that far ahead: a sender's clock that is wrong by more must not make the grace endless.
    """
    return abs((now - event.uploaded_at).total_seconds()) < grace_s


def source_of(record: Record) -> Source:
    """The coordinates of a record."""
    return Source(record.topic, record.partition, record.offset)


def encode(value: Tags | PhotoUploaded | PhotoDeleted) -> bytes:
    """The JSON form of an event: UTF-8, absent values as null, times as RFC 3339."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def decode_tags(payload: bytes) -> Tags:
    """The tags in a `photo.tagged` payload, perhaps behind the number of its schema.

    Raises:
        ValueError: the payload does not follow the schema, or its time is outside the calendar in UTC; the message
            names the field.
    """
    try:
        tags = TAGS_ADAPTER.validate_json(unframed(payload))
    except ValidationError as error:
        raise ValueError(payloads.explain(error)) from None
    try:
        return replace(tags, tagged_at=_in_utc(tags.tagged_at))
    except ValueError as error:
        raise ValueError(f"field tagged_at: {error}") from None
