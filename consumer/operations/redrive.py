"""Sends dead letters again, and notes each in the dead-letter topic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic, sleep
from typing import Final

from consumer import events
from consumer.events import Record, Source
from consumer.kafka.headers import (
    REDRIVEN,
    VALUE_OMITTED,
    VALUE_SHA256,
    keys_of_letters,
    never_redriven,
    redriven_headers,
    sha256_of,
)
from consumer.kafka.scan import TopicReader
from consumer.kafka.sender import NewRecord, Sender
from consumer.operations.dead_letters import Letter, redriven_from
from consumer.settings import Settings

#: How soon a job that waits for its next record notices that it has to stop.
_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Redrive:
    """What is sent again, each with its letter; and the letters whose value was left out and is nowhere any more."""

    records: list[tuple[Letter, NewRecord]]
    lost: list[Letter]


def events_of(settings: Settings, letters: Sequence[Letter]) -> Redrive:
    """The events of letters. A value that was left out of a letter is read where it was first, in the upload topic.

    Such a letter lacks the header that names an earlier letter of its event as well: it comes from there, too.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    originals = _originals(settings, [letter for letter in letters if letter.failure.value_omitted])
    records: dict[str, tuple[Letter, NewRecord]] = {}
    roots: dict[str, str] = {}
    lost = []
    for letter in letters:
        omitted = letter.failure.value_omitted
        original = originals.get(letter.letter_id) if omitted else replace(letter.record, key=letter.key)
        if original is None:
            lost.append(letter)
            continue
        sent = original.headers if omitted else letter.sent
        before = redriven_from(sent, letter.record.topic) if omitted else ""
        root = roots[letter.letter_id] = roots.get(before, letter.root)
        headers = redriven_headers(sent, events.source_of(letter.record))
        records[root] = letter, NewRecord(settings.kafka.uploads_topic, original.key, original.value, headers)
    return Redrive(list(records.values()), lost)


@dataclass(slots=True)
class Result:
    """The letters that were sent and noted, and those whose event the upload topic refuses."""

    sent: list[Letter] = field(default_factory=list)
    refused: list[Letter] = field(default_factory=list)


def send(
    settings: Settings,
    sends: Redrive,
    rate: float,
    progress: Callable[[int, int], None],
    stopping: Callable[[], bool],
) -> Result:
    """Sends events to the upload topic again, at most `rate` per second, each acknowledged and then noted.

    An event near the limit of the topic may not fit with the header that names its letter, and goes without it. Once
    `stopping`, it sends no further one: what was sent is noted, so that a repeat goes on with the next.

    Raises:
        DependencyDown: the brokers did not acknowledge one; those before it are sent and noted.
    """
    kafka = settings.kafka
    # Each waits for its acknowledgement, so there is nothing to send it with.
    properties = {"linger.ms": 0, **kafka.extra}
    sender = Sender(kafka.bootstrap_servers, properties, [kafka.uploads_topic, kafka.dead_topic])
    began_s, result = monotonic(), Result()
    progress(0, len(sends.records))
    for number, (letter, record) in enumerate(sends.records):
        while not stopping() and (left_s := began_s + number / rate - monotonic()) > 0:
            sleep(min(left_s, _LOOK_S))
        if stopping():
            break
        if sender.takes(record) or sender.takes(replace(record, headers=never_redriven(record.headers))):
            sender.send([_note_on(letter)])
            result.sent.append(letter)
        else:
            result.refused.append(letter)
        progress(number + 1, len(sends.records))
    return result


def _note_on(letter: Letter) -> NewRecord:
    """The note that a letter was sent again. No letter has its key, which on a compacted topic is removed with it."""
    key = events.format_source(events.source_of(letter.record)).encode()
    return NewRecord(letter.record.topic, key, None, ((REDRIVEN, letter.letter_id.encode()),))


def _originals(settings: Settings, letters: Sequence[Letter]) -> dict[str, Record]:
    """The events of letters without their value, by letter id, where the upload topic still has them."""
    kafka = settings.kafka
    letters = [letter for letter in letters if letter.failure.origin.topic == kafka.uploads_topic]
    if not letters:
        return {}
    held: dict[Source, Record] = {}
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [kafka.uploads_topic]) as reader:
        for topic, partition in reader.partitions:
            offsets = [origin.offset for letter in letters if (origin := letter.failure.origin).partition == partition]
            held |= {events.source_of(record): record for record in reader.records_at((topic, partition), offsets)}
    return {
        letter.letter_id: record
        for letter in letters
        if (record := held.get(letter.failure.origin)) is not None and is_of(letter, record)
    }


def is_of(letter: Letter, record: Record) -> bool:
    """Whether a record is the event of a letter: a topic that was made anew has another one there."""
    value, said = record.value or b"", letter.record.header
    return (
        letter.record.key in keys_of_letters(record.key, letter.failure.origin)
        and said(VALUE_OMITTED, "") == str(len(value))
        # Letters of earlier versions of the tagger have no digest.
        and said(VALUE_SHA256, digest := sha256_of(value).decode()) == digest
    )
