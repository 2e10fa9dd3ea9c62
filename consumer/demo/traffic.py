"""The demo's Kafka clients: they create the topics, publish the upload events and read the outcomes."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from consumer.demo.ledger import Ledger, Outcome
from consumer.demo.photos import DemoPhoto
from consumer.errors import TaggerError
from consumer.events import UPLOADED, PhotoUploaded, Record, Tags, decode_tags, encode, milliseconds
from consumer.kafka import clients
from consumer.kafka.headers import cloud_event_headers, failure_of
from consumer.kafka.scan import Scan, TopicReader
from consumer.kafka.sender import NewRecord, Sender
from consumer.kafka.topics import create_topics
from consumer.topic_names import TopicNames

_METADATA_TIMEOUT_S: Final = 10.0
_SEND_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05


class DemoFailed(TaggerError):
    """The demo cannot go on; the message says what happened and where to look."""


def prepare_topics(bootstrap_servers: str, names: TopicNames, *, is_mock: bool) -> None:
    """Creates the topics; the mock broker creates a topic when its metadata is requested."""
    if not is_mock:
        create_topics(bootstrap_servers, names)
        return
    producer = clients.producer_client(bootstrap_servers, {})
    for name in names.required:
        producer.list_topics(name, timeout=_METADATA_TIMEOUT_S)


def publish(bootstrap_servers: str, names: TopicNames, photos: Sequence[DemoPhoto], ledger: Ledger) -> None:
    """Publishes one event for each photo, and returns when the broker has them all.

    Raises:
        DependencyDown: The broker did not take one.
    """

    def records() -> Iterator[NewRecord]:
        for photo in photos:
            now = datetime.now(UTC)
            at_ms = ledger.published_ms[photo.photo_id] = milliseconds(now)
            value = encode(PhotoUploaded(photo.photo_id, photo.uri, now))
            yield NewRecord(
                names.uploads,
                photo.photo_id.encode(),
                value,
                cloud_event_headers(UPLOADED, str(uuid.uuid4()), "/demo"),
                at_ms,
            )

    # Connected before the first event, as an upload pipeline's producer is: connecting does not count as latency.
    Sender(bootstrap_servers, {}, (names.uploads, names.tags, names.dead)).send(records(), _SEND_TIMEOUT_S)


def watch(
    bootstrap_servers: str, names: TopicNames, ledger: Ledger, patience_s: float, tick: Callable[[], None]
) -> Iterator[str]:
    """Yields each photo id as its outcome arrives, until every published event has one.

    Args:
        bootstrap_servers: Kafka.
        names: The topics.
        ledger: Holds the events; the outcomes are entered into it.
        patience_s: The longest time without an outcome.
        tick: Called several times a second; may raise to stop.

    Raises:
        DemoFailed: No outcome came for `patience_s`.
        DependencyDown: Kafka does not answer, or refuses the results.
    """
    with TopicReader(bootstrap_servers, {}, (names.tags, names.dead)) as reader:
        reader.start({partition: held.start for partition, held in reader.ranges().items()})
        last_s = time.monotonic()
        while not ledger.complete:
            tick()
            for record in reader.read(_POLL_S):
                photo_id = (record.key or b"").decode(errors="replace")
                is_first = photo_id not in ledger.outcomes
                ledger.enter(photo_id, _outcome(record, photo_id, names))
                if is_first:
                    last_s = time.monotonic()
                    yield photo_id
            if time.monotonic() - last_s > patience_s:
                missing = sorted(ledger.published_ms.keys() - ledger.outcomes.keys())
                raise DemoFailed(
                    f"no outcome for {patience_s:.0f} s; {len(missing)} photos wait, the first is {missing[0]}"
                )


def newest_results(bootstrap_servers: str, names: TopicNames) -> dict[str, Tags]:
    """The last result of each photo in the result topic, by photo id.

    Raises:
        DemoFailed: One does not follow the schema.
        DependencyDown: Kafka does not answer.
    """
    found = {}
    with Scan(bootstrap_servers, {}, names.tags) as scan:
        for record in (record for records in scan for record in records):
            photo_id = (record.key or b"").decode(errors="replace")
            result = _outcome(record, photo_id, names).result
            if isinstance(result, Tags):
                found[photo_id] = result
    return found


def _outcome(record: Record, photo_id: str, names: TopicNames) -> Outcome:
    """What a record of the result topic or of the dead-letter topic says.

    Raises:
        DemoFailed: It does not follow the schema.
    """
    try:
        result = failure_of(record.headers) if record.topic == names.dead else decode_tags(record.value or b"")
    except ValueError as error:
        raise DemoFailed(f"the result of {photo_id} does not follow the schema: {error}") from error
    if result is None:
        raise DemoFailed(f"the dead letter of {photo_id} lacks its headers")
    return Outcome(result, record.timestamp_ms)
