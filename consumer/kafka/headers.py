"""Record headers: parsing those of a delivery, and adding those of the retry topic, dead letters and CloudEvents. Pure.

The headers that the service adds are always last and in a fixed order: a sender's header of the same name is kept, and
without the last ones there is exactly what was sent. Retry headers count on records of the retry topic alone.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final, Protocol

from consumer.errors import Reason
from consumer.events import Headers, Record, Source, format_source, format_time, source_of, trace_of
from consumer.resilience import Deferral

_ORIGIN: Final = ("original_topic", "original_partition", "original_offset")
#: Only what the service itself may have written is believed: anyone may write to a topic.
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_MAX_PARTITION: Final = 2**31 - 1
_MAX_OFFSET: Final = 2**63 - 1
#: Attempts or rounds of one record; at one a minute, two years.
_MAX_COUNT: Final = 1_000_000
#: As the bound of `retry.delays_s`.
LONGEST_WAIT: Final = timedelta(days=7)
#: A wait is up to a tenth longer than its delay, and the clocks of two hosts differ: a time that is further ahead was
#: not written by this service, or by one whose clock was wrong.
MOST_AHEAD: Final = LONGEST_WAIT + timedelta(days=1)
#: Before those of the retry topic, where traces are on: the `traceparent` of the span that deferred the record. The
#: sender's own `traceparent` stays as it is, as the conventions of OpenTelemetry want it of those between two ends.
DEFERRED_BY: Final = "deferred_by"
_TRACEPARENT_LENGTH: Final = 55
RETRY_HEADERS: Final = ("reason", "detail", "attempt", "round", "not_before", *_ORIGIN)
DEAD_HEADERS: Final = ("reason", "detail", "attempt", *_ORIGIN, "failed_at")
#: The last header of a dead letter whose value did not fit, and its first one, unless that value was empty.
VALUE_OMITTED: Final = "value_omitted_bytes"
VALUE_SHA256: Final = "value_sha256"
#: The longest key of a dead letter that must fit in any topic.
_SHORT_KEY_BYTES: Final = 128
#: On a redriven record, its dead letter: `topic/partition/offset`.
REDRIVEN_FROM: Final = "redriven_from"
#: On a note in the dead-letter topic, the dead letter that was redriven: `partition/offset`.
REDRIVEN: Final = "redriven"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record became a dead letter, after how many attempts, and where it was first read."""

    reason: str
    detail: str
    attempt: int
    origin: Source
    failed_at: datetime
    value_omitted: bool = False


@dataclass(frozen=True, slots=True)
class Unread:
    """What of an assigned partition is still to be read: the offsets from `start` to below `end`, as last known.

    `start` is None where no position is known, and `end` where the end of the log is not. `finished` are offsets that
    an earlier owner finished; `epoch` is that of the assignment.
    """

    epoch: int
    start: int | None
    end: int | None
    finished: frozenset[int]


class Owner(Protocol):
    """What delivered a record: the `Source`, as the pipeline uses it."""

    @property
    def unread(self) -> Mapping[tuple[str, int], Unread]:
        """What was not read yet, by assigned partition; it may be some seconds old."""

    def done(self, record: Record) -> None:
        """The record reached its outcome."""

    def holds(self, record: Record) -> bool:
        """Whether the assignment that delivered the record still lasts."""


@dataclass(slots=True)
class Wait:
    """What an unfinished record waits for, in words for an operator; and since when (monotonic) it is in flight."""

    what: str = "its turn"
    since_s: float = field(default_factory=monotonic)
    #: Why it became a dead letter, once it has.
    rejected: Reason | None = None
    #: It only moves to the retry topic, if that takes it: an earlier event of its photo takes long.
    steps_aside: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record with its parsed headers."""

    record: Record
    owner: Owner
    #: Where it was first read: its own coordinates, unless it comes from the retry topic.
    origin: Source
    #: The headers that the sender wrote.
    sent: Headers
    #: None unless it comes from the retry topic.
    deferral: Deferral | None = None
    #: What it waits for now; each step of the path says so.
    wait: Wait = field(default_factory=Wait, compare=False)

    @property
    def trace(self) -> Headers:
        """The sender's W3C trace context, which is passed on with the result."""
        return trace_of(self.record)

    def done(self) -> None:
        """The record reached its outcome; its offset may be committed once all before it have one too."""
        self.owner.done(self.record)

    def is_ours(self) -> bool:
        """Whether the assignment that delivered it still lasts; it may have ended a moment ago."""
        return self.owner.holds(self.record)


#: Parses the records of one topic.
DeliveryReader = Callable[[Record, Owner], Delivery]


def delivery_of(record: Record, owner: Owner) -> Delivery:
    """A record of any topic but the retry topic: all of its headers are the sender's, whatever their names."""
    return Delivery(record, owner, source_of(record), record.headers)


def retried_delivery_of(record: Record, owner: Owner) -> Delivery:
    """A record of the retry topic; one without valid retry headers is taken as if it had been sent there."""
    deferral = deferral_of(record.headers)
    if deferral is None:
        return delivery_of(record, owner)
    return Delivery(record, owner, deferral.origin, _before_wait(record.headers)[0], deferral)


def deferral_of(headers: Headers) -> Deferral | None:
    """What the headers of a record of the retry topic say; None where they are not valid."""
    try:
        return replace(_deferral(_last(headers, RETRY_HEADERS)), by=_before_wait(headers)[1])
    except ValueError:
        return None


def retry_headers(sent: Headers, deferral: Deferral) -> Headers:
    """The sender's headers, followed by the retry headers; a sender's last one of the name `DEFERRED_BY` stays so."""
    values = (
        *(deferral.reason, deferral.detail, _count(deferral.attempt), _count(deferral.round)),
        format_time(deferral.not_before),
        *_texts(deferral.origin),
    )
    named = deferral.by or (sent and sent[-1][0] == DEFERRED_BY)
    by = _encoded((DEFERRED_BY,), (deferral.by,)) if named else ()
    return (*sent, *by, *_encoded(RETRY_HEADERS, values))


def dead_headers(failure: Failure) -> Headers:
    """The headers of a dead letter that follow the sender's."""
    values = (failure.reason, failure.detail, _count(failure.attempt), *_texts(failure.origin))
    return _encoded(DEAD_HEADERS, (*values, format_time(failure.failed_at)))


def failure_of(headers: Headers) -> Failure | None:
    """What the headers of a dead letter say; None on any other record."""
    omitted = bool(headers) and headers[-1][0] == VALUE_OMITTED
    try:
        values = _last(headers[:-1] if omitted else headers, DEAD_HEADERS)
        attempt, failed_at = _number(values["attempt"], _MAX_COUNT), _moment(values["failed_at"])
        return Failure(values["reason"], values["detail"], attempt, _origin(values), failed_at, omitted)
    except ValueError:
        return None


def keys_of_letters(key: bytes | None, origin: Source) -> tuple[bytes | None, bytes, bytes]:
    """The keys that the dead letter of a record may have, each shorter than the one before or the same.

    Its own; where it has none, its origin, since a compacted topic insists on a key; and of a long one the digest.
    """
    given = format_source(origin).encode() if key is None else key
    short = given if len(given) <= _SHORT_KEY_BYTES else b"sha256:" + sha256_of(given)
    return key, given, short


def sha256_of(data: bytes) -> bytes:
    """The digest of a key or a value, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest().encode()


def redriven_headers(sent: Headers, source: Source) -> Headers:
    """The headers of an event that is sent again: the sender's, and which dead letter it was (`source`)."""
    return (*never_redriven(sent), (REDRIVEN_FROM, format_source(source).encode()))


def never_redriven(headers: Headers) -> Headers:
    """The headers without what `redriven_headers` added."""
    return tuple(pair for pair in headers if pair[0] != REDRIVEN_FROM)


def cloud_event_headers(kind: str, event_id: str, source: str, **more: str) -> Headers:
    """The headers of a CloudEvent in binary mode, whose time is now, and `more` attributes."""
    attributes = {"specversion": "1.0", "id": event_id, "type": kind, "source": source, **more}
    attributes["time"] = format_time(datetime.now(UTC))
    return tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())


def _before_wait(headers: Headers) -> tuple[Headers, str]:
    """The sender's headers of a record of the retry topic, and which span deferred it; empty where none did."""
    sent = headers[: -len(RETRY_HEADERS)]
    if not sent or sent[-1][0] != DEFERRED_BY:
        return sent, ""
    return sent[:-1], (sent[-1][1] or b"")[:_TRACEPARENT_LENGTH].decode("ascii", "replace")


def _deferral(values: dict[str, str]) -> Deferral:
    not_before = _moment(values["not_before"])
    if not_before > datetime.now(UTC) + MOST_AHEAD:
        raise ValueError("too far ahead")
    return Deferral(
        values["reason"],
        values["detail"],
        _number(values["attempt"], _MAX_COUNT),
        _number(values["round"], _MAX_COUNT),
        not_before,
        _origin(values),
    )


def _origin(values: dict[str, str]) -> Source:
    topic, partition, offset = (values[name] for name in _ORIGIN)
    if not _TOPIC.fullmatch(topic):
        raise ValueError("not a topic")
    return Source(topic, _number(partition, _MAX_PARTITION), _number(offset, _MAX_OFFSET))


def _texts(origin: Source) -> tuple[str, str, str]:
    return origin.topic, str(origin.partition), str(origin.offset)


def _count(number: int) -> str:
    """A count as text that will be believed when it is read."""
    return str(min(number, _MAX_COUNT))


def _number(text: str, most: int) -> int:
    """A number from 0 to `most`, in plain digits: `int` also reads signs, spaces, underscores and other scripts.

    Raises:
        ValueError: it is anything else.
    """
    if not (text.isascii() and text.isdecimal()) or (number := int(text)) > most:
        raise ValueError("not a number in its range")
    return number


def _moment(text: str) -> datetime:
    """The moment in UTC, which is meant where no zone is given.

    Raises:
        ValueError: it is no time, or outside the calendar in UTC.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("outside the calendar") from None


def _last(headers: Headers, names: tuple[str, ...]) -> dict[str, str]:
    """The last headers as text.

    Raises:
        ValueError: they are not these in this order.
    """
    last = headers[-len(names) :]
    if tuple(name for name, _ in last) != names:
        raise ValueError("other headers")
    return {name: (value or b"").decode(errors="backslashreplace") for name, value in last}


def _encoded(names: tuple[str, ...], values: tuple[str, ...]) -> Headers:
    # A detail may quote a file name that is not UTF-8.
    return tuple((name, value.encode(errors="backslashreplace")) for name, value in zip(names, values, strict=True))
