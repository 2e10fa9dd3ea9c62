"""Headers of records: what a delivery's say, and those that the service adds for the retry topic and dead letters.

Ours are always the last ones, in a fixed order: a sender's header of the same name stays what it was, and taking ours
off again leaves exactly what was sent. Those of a wait are believed on records of the retry topic alone. Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from consumer.events import Headers, Record, Source, format_time, source_of
from consumer.resilience import Deferral

_ORIGIN: Final = ("original_topic", "original_partition", "original_offset")
#: W3C trace context.
_TRACE: Final = frozenset({"traceparent", "tracestate"})
RETRY_HEADERS: Final = ("reason", "detail", "attempt", "round", "not_before", *_ORIGIN)
DEAD_HEADERS: Final = ("reason", "detail", "attempt", *_ORIGIN, "failed_at")
#: Behind the others of a dead letter whose value did not fit.
VALUE_OMITTED: Final = "value_omitted_bytes"
#: On a redriven record, the dead letter that it comes from: `topic/partition/offset`.
REDRIVEN_FROM: Final = "redriven_from"
#: On a note in the dead-letter topic, which is no letter: the letter that was redriven, `partition/offset`.
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


class Owner(Protocol):
    """Who delivered a record: `Source`, seen from the path."""

    def done(self, record: Record) -> None:
        """The record reached its outcome."""

    def holds(self, record: Record) -> bool:
        """Whether the record's partition is still ours, by the assignment that delivered it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record with what its headers say, read once."""

    record: Record
    owner: Owner
    #: Where it was first read: its own place, unless it comes from the retry topic.
    origin: Source
    #: The headers that the sender wrote.
    sent: Headers
    #: Those of them that belong to its trace and travel on with the result.
    trace: Headers
    #: Why and until when it waits; None unless it comes from the retry topic.
    deferral: Deferral | None = None

    def done(self) -> None:
        """The record reached its outcome; its offset may be committed once all before it have one too."""
        self.owner.done(self.record)

    def is_ours(self) -> bool:
        """Whether the assignment that delivered it still lasts, as of a moment ago."""
        return self.owner.holds(self.record)


#: Reads a record of one topic for the source that delivers it.
DeliveryReader = Callable[[Record, Owner], Delivery]


def delivery_of(record: Record, owner: Owner) -> Delivery:
    """A record of any topic but the retry topic: all of its headers are the sender's, whatever they look like."""
    return Delivery(record, owner, source_of(record), record.headers, _trace(record.headers))


def retried_delivery_of(record: Record, owner: Owner) -> Delivery:
    """A record of the retry topic; one without readable headers of ours is taken as if it had been sent there."""
    values = _block(record.headers, RETRY_HEADERS)
    try:
        deferral = None if values is None else _deferral(values)
    except ValueError:
        deferral = None
    if deferral is None:
        return delivery_of(record, owner)
    sent = record.headers[: -len(RETRY_HEADERS)]
    return Delivery(record, owner, deferral.origin, sent, _trace(sent), deferral)


def retry_headers(sent: Headers, deferral: Deferral) -> Headers:
    """The sender's headers and those of this wait."""
    values = (
        *(deferral.reason, deferral.detail, str(deferral.attempt), str(deferral.round)),
        format_time(deferral.not_before),
        *_places(deferral.origin),
    )
    return (*sent, *_encoded(RETRY_HEADERS, values))


def dead_headers(failure: Failure) -> Headers:
    """The headers of a dead letter that stand behind the sender's."""
    values = (failure.reason, failure.detail, str(failure.attempt), *_places(failure.origin))
    return _encoded(DEAD_HEADERS, (*values, format_time(failure.failed_at)))


def failure_of(headers: Headers) -> Failure | None:
    """What the headers of a dead letter say; None on any other record."""
    omitted = bool(headers) and headers[-1][0] == VALUE_OMITTED
    values = _block(headers[:-1] if omitted else headers, DEAD_HEADERS)
    try:
        return None if values is None else _failure(values, omitted=omitted)
    except ValueError:
        return None


def redriven_headers(headers: Headers, place: str) -> Headers:
    """The headers of a dead letter's record when it is sent again: the sender's, and which letter it was."""
    sent = [pair for pair in headers[: -len(DEAD_HEADERS)] if pair[0] != REDRIVEN_FROM]
    return (*sent, (REDRIVEN_FROM, place.encode()))


def _deferral(values: dict[str, str]) -> Deferral:
    return Deferral(
        values["reason"],
        values["detail"],
        int(values["attempt"]),
        int(values["round"]),
        _moment(values["not_before"]),
        _origin(values),
    )


def _failure(values: dict[str, str], *, omitted: bool) -> Failure:
    failed_at = _moment(values["failed_at"])
    return Failure(values["reason"], values["detail"], int(values["attempt"]), _origin(values), failed_at, omitted)


def _origin(values: dict[str, str]) -> Source:
    topic, partition, offset = (values[name] for name in _ORIGIN)
    return Source(topic, int(partition), int(offset))


def _trace(headers: Headers) -> Headers:
    return tuple(pair for pair in headers if pair[0] in _TRACE)


def _places(origin: Source) -> tuple[str, str, str]:
    return origin.topic, str(origin.partition), str(origin.offset)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _block(headers: Headers, names: tuple[str, ...]) -> dict[str, str] | None:
    """The last headers as text, if they are these in this order."""
    last = headers[-len(names) :]
    if tuple(name for name, _ in last) != names:
        return None
    return {name: (value or b"").decode(errors="backslashreplace") for name, value in last}


def _encoded(names: tuple[str, ...], values: tuple[str, ...]) -> Headers:
    # A detail may quote a file name that is not UTF-8.
    return tuple((name, value.encode(errors="backslashreplace")) for name, value in zip(names, values, strict=True))
