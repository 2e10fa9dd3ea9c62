"""The headers that the service writes behind a record's own when it moves it: to the retry topic, to the dead letters.

Ours are always the last ones, in a fixed order: a sender's header of the same name stays what it was, and taking ours
off again leaves exactly what was sent. Pure.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from consumer.events import Headers, Record, Source, format_time, source_of
from consumer.resilience import Deferral

_ORIGIN: Final = ("original_topic", "original_partition", "original_offset")
RETRY_HEADERS: Final = ("reason", "detail", "attempt", "round", "not_before", *_ORIGIN)
DEAD_HEADERS: Final = ("reason", "detail", "attempt", *_ORIGIN, "failed_at")
#: Behind the others of a dead letter whose value did not fit.
VALUE_OMITTED: Final = "value_omitted_bytes"
#: On a redriven record, the dead letter that it comes from: `topic/partition/offset`.
REDRIVEN_FROM: Final = "redriven_from"
#: On a note in the dead-letter topic, which is no letter: the letter that was redriven, `partition/offset`.
REDRIVEN: Final = "redriven"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a record became a dead letter, after how many attempts, and where it was first read."""

    reason: str
    detail: str
    attempt: int
    origin: Source
    failed_at: datetime
    value_omitted: bool = False


def deferral_of(record: Record) -> Deferral | None:
    """What the headers of a record from the retry topic say; None on any other record."""
    said = _block(record.headers, RETRY_HEADERS)
    try:
        return None if said is None else _deferral(said)
    except ValueError:
        return None


def origin_of(record: Record) -> Source:
    """Where the record was first read: its own place, unless it comes from the retry topic."""
    deferral = deferral_of(record)
    return source_of(record) if deferral is None else deferral.origin


def sent_headers(record: Record) -> Headers:
    """The headers that the sender wrote, without those of a wait in the retry topic."""
    return record.headers if deferral_of(record) is None else record.headers[: -len(RETRY_HEADERS)]


def retry_headers(record: Record, deferral: Deferral) -> Headers:
    """The sender's headers and those of this wait, which replace those of an earlier one."""
    values = (
        *(deferral.reason, deferral.detail, str(deferral.attempt), str(deferral.round)),
        format_time(deferral.not_before),
        *_places(deferral.origin),
    )
    return (*sent_headers(record), *_marks(RETRY_HEADERS, values))


def dead_headers(verdict: Verdict) -> Headers:
    """The headers of a dead letter that stand behind the sender's."""
    values = (verdict.reason, verdict.detail, str(verdict.attempt), *_places(verdict.origin))
    return _marks(DEAD_HEADERS, (*values, format_time(verdict.failed_at)))


def verdict_of(headers: Headers) -> Verdict | None:
    """What the headers of a dead letter say; None on any other record."""
    omitted = bool(headers) and headers[-1][0] == VALUE_OMITTED
    said = _block(headers[:-1] if omitted else headers, DEAD_HEADERS)
    try:
        return None if said is None else _verdict(said, omitted=omitted)
    except ValueError:
        return None


def redriven_headers(headers: Headers, place: str) -> Headers:
    """The headers of a dead letter's record when it is sent again: the sender's, and which letter it was."""
    sent = [pair for pair in headers[: -len(DEAD_HEADERS)] if pair[0] != REDRIVEN_FROM]
    return (*sent, (REDRIVEN_FROM, place.encode()))


def _deferral(said: dict[str, str]) -> Deferral:
    not_before = _moment(said["not_before"])
    return Deferral(said["reason"], said["detail"], int(said["attempt"]), int(said["round"]), not_before, _origin(said))


def _verdict(said: dict[str, str], *, omitted: bool) -> Verdict:
    failed_at = _moment(said["failed_at"])
    return Verdict(said["reason"], said["detail"], int(said["attempt"]), _origin(said), failed_at, omitted)


def _origin(said: dict[str, str]) -> Source:
    topic, partition, offset = (said[name] for name in _ORIGIN)
    return Source(topic, int(partition), int(offset))


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


def _marks(names: tuple[str, ...], values: tuple[str, ...]) -> Headers:
    # A detail may quote a file name that is not UTF-8.
    return tuple((name, value.encode(errors="backslashreplace")) for name, value in zip(names, values, strict=True))
