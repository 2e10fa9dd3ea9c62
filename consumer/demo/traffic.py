"""The demo's own Kafka clients: topics, the upload events, and the watching of what becomes of them."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from consumer.demo.errors import DemoFailed
from consumer.demo.photos import DemoPhoto
from consumer.events import (
    UPLOADED,
    Headers,
    PhotoUploaded,
    Record,
    Tags,
    decode_tags,
    encode,
    format_time,
    milliseconds,
)
from consumer.kafka import clients
from consumer.kafka.scan import TopicReader
from consumer.kafka.sender import NewRecord, Sender
from consumer.kafka.topics import TopicNames, create_topics

_METADATA_TIMEOUT_S: Final = 10.0
_SEND_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the headers of a dead letter say."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one photo, and when the broker's record says that it did."""

    result: Tags | Refusal
    at_ms: int


@dataclass(slots=True)
class Ledger:
    """Every published event and its outcome.

    Attributes:
        published_ms: By photo id, the time in the record of its event.
        outcomes: By photo id, its first outcome.
        contradictions: A line for each record that does not fit: a second outcome of another kind, or one of no photo.
    """

    published_ms: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every published event has an outcome."""
        return self.outcomes.keys() >= self.published_ms.keys()

    def enter(self, photo_id: str, outcome: Outcome) -> None:
        """Notes an outcome; delivery is at least once, so the same one may come again."""
        first = self.outcomes.setdefault(photo_id, outcome)
        if photo_id not in self.published_ms:
            self.contradictions.append(f"{photo_id}: an outcome without an event")
        elif type(first.result) is not type(outcome.result):
            self.contradictions.append(f"{photo_id}: both tags and a dead letter")


def prepare_topics(bootstrap_servers: str, names: TopicNames, *, is_mock: bool) -> None:
    """Makes the topics; the mock broker makes its own when they are asked for."""
    if not is_mock:
        create_topics(bootstrap_servers, names)
        return
    producer = clients.producer_client(bootstrap_servers, {})
    for name in (*_all(names), names.retry):
        producer.list_topics(name, timeout=_METADATA_TIMEOUT_S)


def _all(names: TopicNames) -> tuple[str, str, str]:
    return names.uploads, names.tags, names.dead


def publish(bootstrap_servers: str, names: TopicNames, photos: Sequence[DemoPhoto], ledger: Ledger) -> None:
    """Publishes one event for each photo, and returns when the broker has them all.

    Raises:
        DependencyDown: The broker did not take one.
    """

    def made() -> Iterator[NewRecord]:
        for photo in photos:
            now = datetime.now(UTC)
            at_ms = ledger.published_ms[photo.photo_id] = milliseconds(now)
            value = encode(PhotoUploaded(photo.photo_id, photo.uri, now))
            yield NewRecord(names.uploads, photo.photo_id.encode(), value, _headers(now), at_ms)

    # An upload pipeline's producer is connected before its first event; the latency is not to count that.
    Sender(bootstrap_servers, {}, _all(names)).send(made(), _SEND_TIMEOUT_S)


def watch(
    bootstrap_servers: str, names: TopicNames, ledger: Ledger, patience_s: float, tick: Callable[[], None]
) -> Iterator[str]:
    """Yields each photo id as its outcome arrives, until every published event has one.

    Args:
        bootstrap_servers: Kafka.
        names: The topics.
        ledger: Knows the events, and is told the outcomes.
        patience_s: The longest time without an outcome.
        tick: Called several times a second; may raise to end the watching.

    Raises:
        DemoFailed: No outcome came for `patience_s`.
        DependencyDown: Kafka does not answer, or refuses the results.
    """
    with TopicReader(bootstrap_servers, {}, (names.tags, names.dead)) as reader:
        reader.start({partition: held.start for partition, held in reader.ranges().items()})
        last_s = time.monotonic()
        while not ledger.complete:
            tick()
            known = len(ledger.outcomes)
            for record in reader.read(_POLL_S):
                yield from _note(record, names, ledger)
            if len(ledger.outcomes) > known:
                last_s = time.monotonic()
            elif time.monotonic() - last_s > patience_s:
                missing = sorted(ledger.published_ms.keys() - ledger.outcomes.keys())
                raise DemoFailed(
                    f"no outcome for {patience_s:.0f} s; {len(missing)} photos wait, the first is {missing[0]}"
                )


def _note(record: Record, names: TopicNames, ledger: Ledger) -> Iterator[str]:
    """Enters an outcome.

    Yields:
        The photo id, if it is the photo's first.

    Raises:
        DemoFailed: The result does not follow the schema.
    """
    photo_id = (record.key or b"").decode(errors="replace")
    result: Tags | Refusal
    if record.topic == names.dead:
        result = Refusal(record.header("reason", ""), record.header("detail", ""))
    else:
        try:
            result = decode_tags(record.value or b"")
        except ValueError as error:
            raise DemoFailed(f"the result of {photo_id} does not follow the schema: {error}") from error
    is_first = photo_id not in ledger.outcomes
    ledger.enter(photo_id, Outcome(result, record.timestamp_ms))
    if is_first:
        yield photo_id


def _headers(now: datetime) -> Headers:
    values = {
        "ce_id": str(uuid.uuid4()),
        "ce_type": UPLOADED,
        "ce_source": "/demo",
        "ce_specversion": "1.0",
        "ce_time": format_time(now),
    }
    return tuple((name, value.encode()) for name, value in values.items())
