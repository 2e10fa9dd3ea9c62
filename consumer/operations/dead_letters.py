"""Dead letters: reads and filters them, for the command line; `redrive` sends them again.

A redrive sends the original bytes, key and headers to the upload topic, and then a note to the dead-letter topic: a
record without a value whose header `redriven` names the dead letter. So the topic itself records what was sent again.
Its key is its own: where the topic is compacted, it would otherwise remove the letters with that key.
An event that fails again gets another letter, whose header `redriven_from` names the earlier one; only the newest of
them is sent again.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import inf
from typing import Final, Literal

from consumer import events, versions
from consumer.errors import PhotoRejected, SettingsError
from consumer.escape import printable
from consumer.events import Event, Headers, PhotoUploaded, Record, Tags
from consumer.kafka.headers import (
    DEAD_HEADERS,
    REDRIVEN,
    REDRIVEN_FROM,
    Failure,
    failure_of,
    keys_of_letters,
)
from consumer.kafka.scan import Scan, TopicReader
from consumer.operations.admin import read_tags
from consumer.settings import Settings

#: `failed_again`: it was sent again, and that became another dead letter.
State = Literal["waiting", "redriven", "failed_again", "succeeded"]

#: The end of the year 9999.
_LAST_MS: Final = 253_402_300_799_000
#: The end of a letter's key that is the origin of a record without one, or the digest of a long one.
_NO_OWN_KEY: Final = re.compile(rb"/[0-9]+/[0-9]+\Z|\Asha256:")
#: Numbers of Kafka have fewer.
_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, when it was redriven, if it was, and whether the same event has a newer letter."""

    record: Record
    failure: Failure
    redriven_at: datetime | None = None
    failed_again: bool = False
    #: The id of the event's first letter.
    root: str = ""

    @property
    def letter_id(self) -> str:
        """`partition/offset` in the dead-letter topic."""
        return f"{self.record.partition}/{self.record.offset}"

    @property
    def key(self) -> bytes | None:
        """The key of the record that failed, or `sha256:` and its digest where it was too long."""
        return None if self.record.key in keys_of_letters(None, self.failure.origin) else self.record.key

    @property
    def photo_id(self) -> str:
        """The photo id: the key, or what the event says where it has none."""
        if self.key is None and self.event is not None:
            return self.event.photo_id
        return (self.key or b"").decode(errors="backslashreplace")

    @property
    def event(self) -> Event | None:
        """The event, if it can be read."""
        try:
            return events.parse(self.record, max_ahead_s=inf)
        except PhotoRejected:
            return None

    @property
    def sent(self) -> Headers:
        """The headers that the sender wrote; none where they were left out with the value."""
        return () if self.failure.value_omitted else self.record.headers[: -len(DEAD_HEADERS)]

    @property
    def redriven_from(self) -> str:
        """The id of the letter that was sent again and failed as this one; empty where there is none."""
        return redriven_from(self.sent, self.record.topic)


def judged_dead(settings: Settings) -> frozenset[tuple[int, int]]:
    """The partition and offset of each upload that has a dead letter.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    kafka, found = settings.kafka, set[tuple[int, int]]()
    with Scan(kafka.bootstrap_servers, kafka.extra, kafka.dead_topic) as scan:
        for record in (record for records in scan for record in records):
            failure = failure_of(record.headers)
            if failure is not None and failure.origin.topic == kafka.uploads_topic:
                found.add((failure.origin.partition, failure.origin.offset))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Query:
    """A filter of dead letters; None matches all."""

    reason: str | None = None
    photo_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether a letter passes the filter: `since` inclusive, `until` exclusive."""
        failed_at = letter.failure.failed_at
        return (
            self.reason in {None, letter.failure.reason}
            and (self.photo_id is None or self._names(letter))
            and (self.since is None or self.since <= failed_at)
            and (self.until is None or failed_at < self.until)
        )

    def may_match(self, record: Record) -> bool:
        """Whether a record of the topic is a note, or a letter that may match by its key: reading one takes longer."""
        if self.photo_id is None or "\\" in self.photo_id or record.value is None or record.key is None:
            return True
        # A backslash may stand for what is not printable in a key. A letter without a key of its own has its origin's.
        own = self.photo_id.encode(errors="surrogateescape")
        return record.key == own or _NO_OWN_KEY.search(record.key) is not None

    def _names(self, letter: Letter) -> bool:
        """Whether the letter is of the photo: as it is shown, or by a key that was cut down in the letter."""
        *_, short = keys_of_letters((self.photo_id or "").encode(errors="surrogateescape"), letter.failure.origin)
        return self.photo_id in {letter.photo_id, printable(letter.photo_id)} or letter.key == short


@dataclass(frozen=True, slots=True)
class Listed:
    """A letter with the state of its photo."""

    letter: Letter
    state: State


def written_at(record: Record) -> datetime:
    """The timestamp of a record; the nearest time that a date can say, where a sender gave it another one."""
    return datetime.fromtimestamp(min(max(record.timestamp_ms, 0), _LAST_MS) / 1000, UTC)


def letters_of(records: Iterable[Record]) -> list[Letter]:
    """The letters among the records of the dead-letter topic, oldest first, with what became of them."""
    redriven: dict[str, datetime] = {}
    letters: dict[str, Letter] = {}
    for record in records:
        letter_id = record.header(REDRIVEN, "")
        failure = failure_of(record.headers)
        if failure is not None:
            letter = Letter(record, failure)
            letters[letter.letter_id] = letter
        elif letter_id and record.value is None:
            redriven[letter_id] = written_at(record)
    letters = dict(sorted(letters.items(), key=lambda named: named[1].failure.failed_at))
    roots: dict[str, str] = {}
    for letter_id, letter in letters.items():
        before = letters.get(letter.redriven_from)
        # The header is the sender's to write: only a letter of the same bytes is an earlier one of this event.
        same = before is not None and _say_the_same(before, letter)
        roots[letter_id] = roots.get(letter.redriven_from, letter_id) if same else letter_id
    newest = {root: letter_id for letter_id, root in roots.items()}
    return [
        replace(
            letter,
            redriven_at=redriven.get(letter_id),
            failed_again=newest[roots[letter_id]] != letter_id,
            root=roots[letter_id],
        )
        for letter_id, letter in letters.items()
    ]


def _say_the_same(before: Letter, letter: Letter) -> bool:
    """Whether two letters have the same key and value; of a value that was left out, the key has to do."""
    values = before.record.value, letter.record.value
    return before.key == letter.key and (before.failure.value_omitted or values[0] == values[1])


def state_of(letter: Letter, tags: Mapping[str, Tags]) -> State:
    """`succeeded` where the photo has tags of this content or a newer one, else what became of its redrive."""
    event = letter.event
    if isinstance(event, PhotoUploaded) and (found := tags.get(event.photo_id)) is not None:
        own = versions.content_revision(event.revision, events.milliseconds(event.uploaded_at))
        if int(found.version.partition(".")[0]) >= own:
            return "succeeded"
    if letter.failed_again:
        return "failed_again"
    return "waiting" if letter.redriven_at is None else "redriven"


@dataclass(frozen=True, slots=True)
class Listing:
    """The letters that match a query, oldest first: of `total`, the newest; `reasons` counts those of any reason."""

    letters: list[Listed]
    total: int
    reasons: Mapping[str, int] = field(default_factory=dict)


def list_letters(settings: Settings, query: Query, limit: int = 0) -> Listing:
    """The letters that match a query; at a limit other than 0, the newest so many.

    Raises:
        DependencyDown: Kafka or Redis does not answer.
    """
    kafka = settings.kafka
    # A letter is written after its photo failed, and its note after the letter: no record is older than `since`.
    with Scan(kafka.bootstrap_servers, kafka.extra, kafka.dead_topic, since=query.since) as scan:
        letters = letters_of(record for batch in scan for record in batch if query.may_match(record))
    of_any_reason = replace(query, reason=None)
    letters = [each for each in letters if of_any_reason.matches(each)]
    found = [each for each in letters if query.matches(each)]
    return Listing(_with_states(settings, found[-limit:]), len(found), reasons_of(letters))


def find_letter(settings: Settings, letter_id: str) -> Listed | None:
    """One letter by `partition/offset`; None where there is none. Its redrive is not looked for.

    Raises:
        DependencyDown: as `list_letters`.
        SettingsError: it is not a dead-letter id.
    """
    if not is_letter_id(letter_id):
        raise SettingsError(f"not a dead-letter id: {letter_id}; use partition/offset, as `dlq list` shows it")
    kafka, (partition, offset) = settings.kafka, map(int, letter_id.split("/"))
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [kafka.dead_topic]) as reader:
        record = reader.record_at((kafka.dead_topic, partition), offset)
    letters = letters_of([] if record is None else [record])
    return next(iter(_with_states(settings, letters)), None)


def to_redrive(listed: Sequence[Listed], *, again: bool) -> list[Letter]:
    """The letters to send again: neither succeeded nor failed again, nor redriven unless `again`."""
    wanted: set[State] = {"waiting", "redriven"} if again else {"waiting"}
    return [each.letter for each in listed if each.state in wanted]


def reasons_of(letters: Iterable[Letter]) -> dict[str, int]:
    """How many letters have each reason."""
    return dict(sorted(Counter(letter.failure.reason for letter in letters).items()))


def redriven_from(sent: Headers, dead_topic: str) -> str:
    """The letter that an event's headers name as the one that was sent again; empty where they name none."""
    named = dict(sent).get(REDRIVEN_FROM) or b""
    letter_id = named.decode(errors="replace").removeprefix(f"{dead_topic}/")
    return letter_id if is_letter_id(letter_id) else ""


def is_letter_id(text: str) -> bool:
    """Whether a text is `partition/offset`."""
    partition, _, offset = text.partition("/")
    return all(part.isascii() and part.isdecimal() and len(part) < _DIGITS for part in (partition, offset))


def _with_states(settings: Settings, letters: Sequence[Letter]) -> list[Listed]:
    photo_ids = [event.photo_id for letter in letters if (event := letter.event) is not None]
    tags = read_tags(settings, photo_ids, 0.0) if photo_ids else {}
    return [Listed(letter, state_of(letter, tags)) for letter in letters]
