"""What output topics refuse, on a real Kafka, and producers that end, on a mock that decides which requests fail."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer import events
from consumer.embedded.kafka import Kafka
from consumer.errors import DependencyDown, ProducerFailed, RecordRefused
from consumer.events import Record, Source
from consumer.kafka import clients
from consumer.kafka.headers import Delivery, failure_of
from consumer.kafka.publisher import Publisher
from consumer.kafka.sender import NewRecord, Sender
from consumer.resilience import Deferral
from consumer.topic_names import TopicNames
from tests.fakes import MOMENT, RecordingLog, World, tags
from tests.harness import eventually, read_topic
from tests.mock_cluster import INIT_PRODUCER_ID, PRODUCE, MockCluster, mock_cluster

#: Of a topic without settings of its own.
LIMIT_BYTES = 1_048_588

delivered = World().delivery
noise = random.Random(1).randbytes

Open = Callable[..., AbstractContextManager[tuple[Publisher, TopicNames]]]


def record(key: bytes | None, value: bytes | None, headers: events.Headers = (), offset: int = 7) -> Record:
    return Record("photo-uploads", 0, offset, key, value, headers)


def publisher_of(
    servers: str, names: TopicNames, failures: list[ProducerFailed], log: RecordingLog, **extra: object
) -> Publisher:
    def connect(special: clients.Properties) -> Producer:
        return clients.producer_client(servers, {**special, **extra})

    return Publisher(connect, names, failed=failures.append, log=log)


@pytest.fixture
def publishing(kafka: Kafka) -> Open:
    """A publisher to topics of its own, whose settings are given by topic: `dead={"max.message.bytes": "9000"}`."""

    @contextmanager
    def open_(**settings: dict[str, str]) -> Iterator[tuple[Publisher, TopicNames]]:
        mark, failures = uuid4().hex[:12], list[ProducerFailed]()
        names = TopicNames(*(f"{kind}-{mark}" for kind in ("uploads", "tags", "dead", "retry")))
        new = [
            NewTopic(name, 2, 1, config=settings.get(name.partition("-")[0], {}))
            for name in (names.tags, names.dead, names.retry)
        ]
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        for future in admin.create_topics(new).values():
            future.result(10)
        with publisher_of(kafka.bootstrap_servers, names, failures, RecordingLog()) as publisher:
            yield publisher, names
        assert not failures

    return open_


def letters_by_offset(kafka: Kafka, topic: str) -> dict[int, tuple[Record, Message]]:
    """The dead letters of a topic by the offset of their record."""
    letters = [(clients.record_of(message), message) for message in read_topic(kafka.bootstrap_servers, topic)]
    found = {}
    for letter, message in letters:
        failure = failure_of(letter.headers)
        assert failure is not None
        found[failure.origin.offset] = letter, message
    assert len(found) == len(letters), "a letter stands twice"
    return found


async def reject_all(publisher: Publisher, records: list[Record]) -> None:
    await asyncio.gather(*(publisher.dead_letter(delivered(each), "invalid_event", "not JSON", 1) for each in records))


async def test_a_dead_letter_topic_with_a_lower_limit_keeps_every_value_that_fits(
    kafka: Kafka, publishing: Open
) -> None:
    records = [record(b"k%d" % n, noise(30_000 if n == 50 else 1500), offset=n) for n in range(200)]
    with publishing(dead={"max.message.bytes": "20000"}) as (publisher, names):
        await reject_all(publisher, records)
    letters = letters_by_offset(kafka, names.dead)
    values = {offset: letter.value for offset, (letter, _) in letters.items()}
    assert values == {each.offset: None if each.offset == 50 else each.value for each in records}
    assert letters[50][0].header("value_omitted_bytes", "") == "30000"


async def test_a_compacted_dead_letter_topic_takes_records_without_a_key_and_their_neighbours(
    kafka: Kafka, publishing: Open
) -> None:
    records = [record(None if n % 20 == 5 else b"k%d" % n, b"{", offset=n) for n in range(60)]
    with publishing(dead={"cleanup.policy": "compact"}) as (publisher, names):
        await reject_all(publisher, records)
    for offset, (letter, _) in letters_by_offset(kafka, names.dead).items():
        made = b"photo-uploads/0/%d" % offset
        assert (letter.key, letter.value) == (made if offset % 20 == 5 else b"k%d" % offset, b"{")


POISON = [
    record(b"large-header", b"{}", (("ce_type", noise(600_000)), ("more", noise(448_000)))),
    record(b"full-header", b"{}", (("ce_type", noise(LIMIT_BYTES - 140)),)),
    record(b"full-name", b"{}", (("n" * 32_000, noise(LIMIT_BYTES - 40_000)),)),
    record(noise(LIMIT_BYTES - 140), b"{}"),
    record(noise(LIMIT_BYTES - 140), None),
    record(b"full-value", noise(LIMIT_BYTES - 140)),
    record(None, noise(LIMIT_BYTES - 140)),
    record(b"above-the-clients-own-limit", bytes(17 * 1024 * 1024)),
]


async def test_what_an_upload_topic_takes_always_has_a_dead_letter(kafka: Kafka, publishing: Open) -> None:
    records = [record(each.key, each.value, each.headers, offset) for offset, each in enumerate(POISON)]
    small = [record(b"small%d" % n, b"{", offset=n) for n in range(100, 150)]
    with publishing(dead={"cleanup.policy": "compact"}) as (publisher, names):
        await reject_all(publisher, [*records, *small])
    letters = letters_by_offset(kafka, names.dead)
    assert letters.keys() == {each.offset for each in (*records, *small)}
    assert {letters[each.offset][0].value for each in small} == {b"{"}


async def test_the_shortest_dead_letter_fits_in_a_topic_of_a_thousand_bytes(kafka: Kafka, publishing: Open) -> None:
    worst = Record("t" * 249, 99_999, 2**62, noise(5000), noise(5000), (("n", noise(5000)),))
    with publishing(dead={"max.message.bytes": "1000"}) as (publisher, names):
        await publisher.dead_letter(delivered(worst), "unsupported_format", "破" * 5000, 10**6)
    assert letters_by_offset(kafka, names.dead).keys() == {2**62}


async def test_a_topic_that_takes_no_dead_letter_at_all_is_told_and_hurts_nobody_else(publishing: Open) -> None:
    with publishing(dead={"max.message.bytes": "100"}) as (publisher, _):
        refused = publisher.dead_letter(delivered(record(b"k", b"{")), "invalid_event", "not JSON", 1)
        answers = await asyncio.gather(
            refused,
            *(publisher.result(tags(), delivered(record(b"k", b"{"))) for _ in range(20)),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [RecordRefused] + [type(None)] * 20


async def test_results_are_all_there_once_though_the_topic_refuses_their_batches(
    kafka: Kafka, publishing: Open
) -> None:
    ids = [f"photo{number:04d}" for number in range(400)]
    with publishing(tags={"max.message.bytes": "4000"}) as (publisher, names):
        trace = (("tracestate", noise(3000)),)
        await asyncio.gather(
            *(publisher.result(tags(photo_id=each), delivered(record(b"k", b"{", trace))) for each in ids)
        )
    messages = read_topic(kafka.bootstrap_servers, names.tags)
    assert sorted(message.key().decode() for message in messages) == ids
    assert all(dict(message.headers())["tracestate"] == trace[0][1] for message in messages)


@pytest.mark.parametrize("name", ["traceparent", "tracestate"])
async def test_a_trace_near_the_limit_costs_only_itself(kafka: Kafka, publishing: Open, name: str) -> None:
    large = (("traceparent", b"00-aa-bb-01"), (name, noise(LIMIT_BYTES - 200)))
    with publishing() as (publisher, names):
        await asyncio.gather(
            publisher.result(tags(photo_id="large"), delivered(record(b"k", b"{", large))),
            *(publisher.result(tags(photo_id=f"p{n}"), delivered(record(b"k", b"{", large[:1]))) for n in range(20)),
        )
    traced = {
        message.key(): "traceparent" in dict(message.headers())
        for message in read_topic(kafka.bootstrap_servers, names.tags)
    }
    assert traced == {b"large": False, **{b"p%d" % n: True for n in range(20)}}


async def test_a_record_too_large_to_wait_is_told_and_its_neighbours_wait(kafka: Kafka, publishing: Open) -> None:
    deferral = Deferral("http_5xx", "busy", 4, 1, MOMENT, Source("photo-uploads", 0, 7))
    records = [record(b"k%d" % n, noise(9000 if n == 3 else 500)) for n in range(40)]
    with publishing(retry={"max.message.bytes": "5000"}) as (publisher, names):
        taken = await asyncio.gather(*(publisher.retry(delivered(each), deferral) for each in records))
    assert taken == [n != 3 for n in range(40)]
    assert len(read_topic(kafka.bootstrap_servers, names.retry)) == 39


@pytest.fixture
def brokers() -> Iterator[MockCluster]:
    with mock_cluster() as started:
        started.create_topics("", TopicNames())
        yield started


async def publish(publisher: Publisher, photo_id: str) -> None:
    """Publishes as the pipeline does: for as long as Kafka does not answer."""
    delivery: Delivery = delivered(record(b"k", b"{"))
    while True:
        try:
            return await publisher.result(tags(photo_id=photo_id), delivery)
        except DependencyDown:
            await asyncio.sleep(0.05)


#: Each record is a batch, so that several are on their way at once.
ALONE = {"batch.num.messages": 1, "linger.ms": 0}
OUT_OF_ORDER, INVALID_EPOCH, UNKNOWN_PRODUCER, NOT_ALLOWED = 45, 47, 59, 31


@pytest.mark.parametrize(
    "errors",
    [
        *((OUT_OF_ORDER,), (OUT_OF_ORDER,) * 3, (INVALID_EPOCH,), (UNKNOWN_PRODUCER,), (NOT_ALLOWED, OUT_OF_ORDER)),
        # Not for the sake of a record: no permission, no topic, too few replicas, another epoch, a format, a disk.
        *((29,) * 5, (3,) * 3, (19, 20, 19), (90,), (43,) * 3, (76,) * 3, (56,), (2,), (87, 10), (29, OUT_OF_ORDER, 3)),
    ],
)
async def test_every_result_is_published_though_producers_end(brokers: MockCluster, errors: tuple[int, ...]) -> None:
    failures, log = list[ProducerFailed](), RecordingLog()
    with publisher_of(brokers.bootstrap_servers, TopicNames(), failures, log) as publisher:
        await publisher.require_topics(brokers.bootstrap_servers)
        for broker in (1, 2):
            brokers.fail_next(broker, PRODUCE, errors)
        await asyncio.gather(*(publish(publisher, f"p{number}") for number in range(50)))
        assert publisher.alive
    published = {message.key() for message in read_topic(brokers.bootstrap_servers, TopicNames().tags)}
    assert published == {b"p%d" % number for number in range(50)}
    assert not failures
    assert OUT_OF_ORDER not in errors or log.named("producer.rebuilt")


NOT_LEADER = 6


def refuse_the_first_batch_late(brokers: MockCluster) -> None:
    """The first batch alone is refused, and that is told when others have been stored, however slow the machine is.

    Told at once, it is sent again before any other, and nothing is out of order.
    """
    for broker in (1, 2):
        brokers.fail_next(broker, PRODUCE, [NOT_LEADER], delay_ms=1000)


async def test_a_batch_that_a_new_leader_refused_is_stored_though_the_next_was_stored_first(
    brokers: MockCluster,
) -> None:
    failures = list[ProducerFailed]()
    with publisher_of(brokers.bootstrap_servers, TopicNames(), failures, RecordingLog(), **ALONE) as publisher:
        await publisher.require_topics(brokers.bootstrap_servers)
        refuse_the_first_batch_late(brokers)
        await asyncio.gather(*(publish(publisher, f"p{number}") for number in range(50)))
    published = {message.key() for message in read_topic(brokers.bootstrap_servers, TopicNames().tags)}
    assert published == {b"p%d" % number for number in range(50)}


def test_a_sender_takes_no_acknowledgement_without_an_offset(brokers: MockCluster) -> None:
    sender = Sender(brokers.bootstrap_servers, ALONE, [TopicNames().dead])
    refuse_the_first_batch_late(brokers)
    records = [NewRecord(TopicNames().dead, b"%d" % number, b"v") for number in range(20)]
    with pytest.raises(DependencyDown, match="without an offset"):
        sender.send(records)


async def test_a_producer_that_is_not_allowed_to_write_ends_with_a_reason(brokers: MockCluster) -> None:
    failures, log = list[ProducerFailed](), RecordingLog()
    for broker in (1, 2):
        brokers.fail_next(broker, INIT_PRODUCER_ID, [NOT_ALLOWED] * 100)
    with publisher_of(brokers.bootstrap_servers, TopicNames(), failures, log) as publisher:
        waiting = asyncio.create_task(publish(publisher, "p"))
        await eventually(lambda: failures)
        await eventually(lambda: not publisher.alive)
        waiting.cancel()
    assert "AUTHORIZATION" in str(failures[0])


def test_a_sender_whose_producer_ends_says_so(brokers: MockCluster) -> None:
    sender = Sender(brokers.bootstrap_servers, {}, [TopicNames().dead])
    for broker in (1, 2):
        brokers.fail_next(broker, PRODUCE, [OUT_OF_ORDER])
    for _ in range(2):
        with pytest.raises(DependencyDown, match=r"OUT_OF_ORDER_SEQUENCE_NUMBER|_FATAL"):
            sender.send([NewRecord(TopicNames().dead, b"%d" % number, b"v") for number in range(20)])
