"""Dead letters: reads, filters and redrives them, for the command line.

A redrive sends the original bytes, key and headers to the upload topic, and then a note to the dead-letter topic: a
record without a value whose header `redriven` names the dead letter. So the topic itself records what was sent again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from time import monotonic, sleep
from typing import Literal

from consumer import events, versions
from consumer.errors import PhotoRejected, SettingsError
from consumer.events import PhotoUploaded, Record, Tags
from consumer.kafka.headers import REDRIVEN, Failure, failure_of, redriven_headers
from consumer.kafka.scan import Scan
from consumer.kafka.sender import NewRecord, Sender
from consumer.operations.admin import read_tags
from consumer.settings import Settings

State = Literal["waiting", "redriven", "succeeded"]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, and when it was redriven, if it was."""

    record: Record
    failure: Failure
    redriven_at: datetime | None = None

    @property
    def letter_id(self) -> str:
        """`partition/offset` in the dead-letter topic."""
        return f"{self.record.partition}/{self.record.offset}"

    @property
    def photo_id(self) -> str:
        """The photo id, from the key of the record."""
        return (self.record.key or b"").decode(errors="backslashreplace")


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
            and self.photo_id in {None, letter.photo_id}
            and (self.since is None or self.since <= failed_at)
            and (self.until is None or failed_at < self.until)
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A letter with the state of its photo."""

    letter: Letter
    state: State


def letters_of(records: Sequence[Record]) -> list[Letter]:
    """The letters among the records of the dead-letter topic, with the times of their redrives."""
    redriven: dict[str, datetime] = {}
    letters = []
    for record in records:
        letter_id = record.header(REDRIVEN, "")
        failure = failure_of(record.headers)
        if failure is not None:
            letters.append(Letter(record, failure))
        elif letter_id and record.value is None:
            redriven[letter_id] = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    return [Letter(each.record, each.failure, redriven.get(each.letter_id)) for each in letters]


def state_of(letter: Letter, tags: Mapping[str, Tags]) -> State:
    """`succeeded` where the photo has tags of this content or a newer one, else whether the letter was redriven."""
    try:
        event = events.parse(letter.record, max_ahead_s=inf)
    except PhotoRejected:
        event = None
    if isinstance(event, PhotoUploaded) and (found := tags.get(event.photo_id)) is not None:
        own = versions.content_revision(event.revision, events.milliseconds(event.uploaded_at))
        if int(found.version.partition(".")[0]) >= own:
            return "succeeded"
    return "waiting" if letter.redriven_at is None else "redriven"


def list_letters(settings: Settings, query: Query) -> list[Listed]:
    """The letters that match a query, oldest first.

    Raises:
        DependencyDown: Kafka or Redis does not answer.
    """
    kafka = settings.kafka
    # A letter is written after its photo failed, and its note after the letter: no record is older than `since`.
    with Scan(kafka.bootstrap_servers, kafka.extra, kafka.dead_topic, since=query.since) as scan:
        records = [record for batch in scan for record in batch]
    letters = [letter for letter in letters_of(records) if query.matches(letter)]
    letters.sort(key=lambda letter: letter.failure.failed_at)
    tags = read_tags(settings, [letter.photo_id for letter in letters], 0.0) if letters else {}
    return [Listed(letter, state_of(letter, tags)) for letter in letters]


def find_letter(settings: Settings, letter_id: str) -> Listed | None:
    """One letter by `partition/offset`; None where there is none.

    Raises:
        DependencyDown: as `list_letters`.
        SettingsError: it is not a dead-letter id.
    """
    if not all(part.isdecimal() for part in letter_id.split("/")) or letter_id.count("/") != 1:
        raise SettingsError(f"not a dead-letter id: {letter_id}; use partition/offset, as `dlq list` shows it")
    found = [listed for listed in list_letters(settings, Query()) if listed.letter.letter_id == letter_id]
    return found[0] if found else None


def to_redrive(listed: Sequence[Listed], *, again: bool) -> list[Letter]:
    """The letters to send again: neither succeeded nor without their value, nor redriven unless `again`."""
    wanted: set[State] = {"waiting", "redriven"} if again else {"waiting"}
    return [each.letter for each in listed if each.state in wanted and not each.letter.failure.value_omitted]


def redrive(settings: Settings, letters: Sequence[Letter], rate: float, progress: Callable[[int, int], None]) -> None:
    """Sends letters to the upload topic again, at most `rate` per second, each acknowledged and then noted.

    Raises:
        DependencyDown: the brokers did not acknowledge one; those before it are sent and noted.
    """
    kafka = settings.kafka
    sender = Sender(kafka.bootstrap_servers, kafka.extra, [kafka.uploads_topic, kafka.dead_topic])
    began_s = monotonic()
    progress(0, len(letters))
    for number, letter in enumerate(letters):
        sleep(max(0.0, began_s + number / rate - monotonic()))
        record = letter.record
        headers = redriven_headers(record.headers, events.source_of(record))
        sender.send([NewRecord(kafka.uploads_topic, record.key, record.value, headers)])
        note = ((REDRIVEN, letter.letter_id.encode()),)
        sender.send([NewRecord(kafka.dead_topic, record.key, None, note)])
        progress(number + 1, len(letters))
