import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumer import events
from consumer.errors import DependencyDown, RecordRefused
from consumer.events import Deletion, Headers, Record, Source, Tags
from consumer.kafka.headers import DEAD_HEADERS, RETRY_HEADERS, failure_of, retry_headers
from consumer.kafka.publisher import Publisher
from consumer.kafka.registry import Registry
from consumer.resilience import Deferral
from consumer.topic_names import TopicNames
from tests.fakes import MOMENT, FakeProducer, Produced, RecordingLog, World, record, tags

TRACE = (("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", b"a=1"))
TOPICS = TopicNames("uploads", "tags", "dead", "retry", "releases")
DELETION = Deletion("photo-1", "0000000000001.999999.9999999999999", Source("photo-uploads", 3, 7), MOMENT)

delivered = World().delivery


def publishing(producer: FakeProducer) -> Publisher:
    return Publisher(lambda _: producer, TOPICS, failed=pytest.fail, log=RecordingLog())


def larger_than(limit_bytes: int) -> Callable[[Produced], int | None]:
    """Brokers that refuse messages above a size."""

    def refuses(message: Produced) -> int | None:
        pairs = ((name.encode(), value) for name, value in message.headers)
        parts = (message.key, message.value, *(part for pair in pairs for part in pair))
        too_large = sum(len(part or b"") for part in parts) > limit_bytes
        return KafkaError.MSG_SIZE_TOO_LARGE if too_large else None

    return refuses


def without_key(message: Produced) -> int | None:
    """Brokers of a compacted topic."""
    return KafkaError.INVALID_RECORD if message.key is None else None


async def last_letter(one: Record, refuses: Callable[[Produced], int | None], detail: str = "cut off") -> Record:
    """The dead letter of a record as the brokers took it at last."""
    producer = FakeProducer(refuses=refuses)
    with publishing(producer) as publisher:
        await publisher.dead_letter(delivered(one), "corrupt_image", detail, 3)
    taken = producer.produced[-1]
    return Record("dead", 0, 0, taken.key, taken.value, tuple(taken.headers))


async def letter_of(one: Record, detail: str = "cut off") -> Produced:
    producer = FakeProducer()
    with publishing(producer) as publisher:
        await publisher.dead_letter(delivered(one), "corrupt_image", detail, 3)
    (produced,) = producer.produced
    return produced


async def tags_message(one: Record, decided: Tags = tags()) -> Produced:  # noqa: B008 - a frozen value
    producer = FakeProducer()
    with publishing(producer) as publisher:
        await publisher.result(decided, delivered(one))
    (produced,) = producer.produced
    return produced


async def test_tags_go_to_their_topic_keyed_by_photo_id() -> None:
    produced = await tags_message(record())
    assert (produced.topic, produced.key) == ("tags", b"photo-1")
    assert events.decode_tags(produced.value or b"") == tags()


async def test_tags_carry_the_attributes_of_a_cloud_event() -> None:
    produced = await tags_message(record(offset=5, partition=2, headers=(("ce_type", b"photo.uploaded"),)))
    assert produced.header("ce_specversion") == "1.0"
    assert produced.header("ce_type") == "photo.tagged"
    assert produced.header("ce_source")
    assert produced.header("ce_subject") == "photo-1"
    assert produced.header("content-type") == "application/json"
    assert datetime.fromisoformat(produced.header("ce_time") or "").utcoffset() == timedelta(0)
    names = [name for name, _ in produced.headers]
    assert len(names) == len(set(names))


async def test_the_id_of_a_result_is_the_place_of_its_event_so_that_a_repeat_can_be_told() -> None:
    decided = tags(source=Source("photo-uploads", 2, 5))
    ids = {(await tags_message(record(offset=offset), decided)).header("ce_id") for offset in (5, 9)}
    assert ids == {"photo-uploads/2/5"}


async def test_the_trace_of_the_event_travels_on_and_nothing_else_of_it() -> None:
    produced = await tags_message(record(headers=(*TRACE, ("authorization", b"hunter2"))))
    assert [pair for pair in produced.headers if pair in TRACE] == list(TRACE)
    assert "authorization" not in dict(produced.headers)


async def test_a_tombstone_is_an_empty_value_under_the_photo_id() -> None:
    producer = FakeProducer()
    with publishing(producer) as publisher:
        await publisher.result(DELETION, delivered(record(headers=TRACE)))
    (produced,) = producer.produced
    assert (produced.topic, produced.key, produced.value) == ("tags", b"photo-1", None)
    assert produced.header("ce_type") == "photo.deleted"
    assert produced.header("traceparent")


async def test_a_tombstone_says_in_headers_what_redis_keeps_of_it() -> None:
    producer = FakeProducer()
    with publishing(producer) as publisher:
        await publisher.result(DELETION, delivered(record(offset=9)))
    (produced,) = producer.produced
    assert produced.header("version") == DELETION.version
    assert produced.header("deleted_at") == "2026-11-21T10:15:00.123Z"
    assert produced.header("source") == "photo-uploads/3/7"


@pytest.mark.parametrize(("key", "value"), [(b"k", b"\xff\x00 not JSON"), (None, None), (b"", b"")])
async def test_a_dead_letter_keeps_key_value_and_headers_as_they_were(key: bytes | None, value: bytes | None) -> None:
    headers = (("a", b"\xff"), ("a", None), ("reason", b"of the sender"), *TRACE)
    produced = await letter_of(Record("photo-uploads", 2, 41, key, value, headers))
    assert (produced.topic, produced.key, produced.value) == ("dead", key, value)
    assert tuple(produced.headers[: len(headers)]) == headers


async def test_a_dead_letter_says_why_when_and_where_it_comes_from() -> None:
    produced = await letter_of(record(offset=41, partition=2), detail="ungültig: 破")
    assert [name for name, _ in produced.headers] == [
        *["reason", "detail", "attempt"],
        *["original_topic", "original_partition", "original_offset", "failed_at"],
    ]
    said = {name: produced.header(name) for name, _ in produced.headers}
    assert (said["reason"], said["detail"], said["attempt"]) == ("corrupt_image", "ungültig: 破", "3")
    assert (said["original_topic"], said["original_partition"], said["original_offset"]) == ("photo-uploads", "2", "41")
    assert datetime.fromisoformat(said["failed_at"] or "").utcoffset() == timedelta(0)


async def test_a_record_that_waits_keeps_key_value_and_headers_and_says_until_when() -> None:
    producer, one = FakeProducer(), record(offset=41, partition=2, headers=(("reason", b"of the sender"), *TRACE))
    deferral = Deferral("http_5xx", "busy", 4, 1, MOMENT, Source("photo-uploads", 2, 41))
    with publishing(producer) as publisher:
        assert await publisher.retry(delivered(one), deferral)
    (produced,) = producer.produced
    assert (produced.topic, produced.key, produced.value) == ("retry", one.key, one.value)
    assert tuple(produced.headers[: len(one.headers)]) == one.headers
    assert [name for name, _ in produced.headers[len(one.headers) :]] == list(RETRY_HEADERS)
    assert produced.header("not_before") == "2026-11-21T10:15:00.123Z"


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("ours", [True, False])
async def test_a_record_moves_to_the_end_of_its_partition_as_it_is(waits: bool, ours: bool) -> None:
    producer, world, sent = FakeProducer(), World(), (("reason", b"of the sender"), *TRACE)
    deferral = Deferral("http_5xx", "busy", 4, 1, MOMENT, Source("photo-uploads", 2, 41))
    one = Record("retry", 3, 7, None, b"\xff", retry_headers(sent, deferral) if waits else sent)
    world.ours = ours
    with publishing(producer) as publisher:
        if not (waits and ours):
            with pytest.raises(RecordRefused):
                await publisher.move(world.delivery(one))
            assert producer.produced == []
            return
        assert await publisher.move(world.delivery(one)) == Source("retry", 3, 0)
    (copy,) = producer.produced
    assert (copy.topic, copy.partition, copy.key, copy.value) == ("retry", 3, None, b"\xff")
    assert tuple(copy.headers) == one.headers


async def test_a_dead_letter_after_a_wait_names_the_first_record_and_keeps_no_header_of_the_wait() -> None:
    first = record(offset=41, partition=2, headers=TRACE)
    deferral = Deferral("http_5xx", "busy", 4, 1, MOMENT, Source("photo-uploads", 2, 41))
    produced = await letter_of(Record("retry", 0, 3, first.key, first.value, retry_headers(first.headers, deferral)))
    assert tuple(produced.headers[: len(TRACE)]) == TRACE
    assert [name for name, _ in produced.headers[len(TRACE) :]] == list(DEAD_HEADERS)
    assert (produced.header("original_topic"), produced.header("original_offset")) == ("photo-uploads", "41")


async def test_what_the_retry_topic_will_never_take_is_told_and_is_no_outage() -> None:
    deferral = Deferral("http_5xx", "busy", 4, 1, MOMENT, Source("photo-uploads", 2, 41))
    with publishing(FakeProducer(refuses=lambda _: KafkaError.MSG_SIZE_TOO_LARGE)) as publisher:
        assert not await publisher.retry(delivered(record()), deferral)


async def test_a_detail_of_any_text_is_published() -> None:
    assert (await letter_of(record(), detail="no such file: \udcff")).header("detail")


LARGE = b"x" * 2000


@pytest.mark.parametrize(
    ("one", "kept_key"),
    [
        (Record("photo-uploads", 2, 41, b"photo-1", LARGE, (("a", b"1"),)), b"photo-1"),
        (Record("photo-uploads", 2, 41, b"photo-1", b"{}", (("ce_type", LARGE),)), b"photo-1"),
        (Record("photo-uploads", 2, 41, b"photo-1", None, (("n" * 2000, None),)), b"photo-1"),
        (Record("photo-uploads", 2, 41, b"\xff\x00", LARGE, (("n", LARGE),)), b"\xff\x00"),
        (Record("photo-uploads", 2, 41, b"k" * 128, LARGE), b"k" * 128),
        (Record("photo-uploads", 2, 41, b"", LARGE), b""),
        (Record("photo-uploads", 2, 41, LARGE, b"{}"), b"sha256:" + sha256(LARGE).hexdigest().encode()),
        (Record("photo-uploads", 2, 41, None, LARGE), b"photo-uploads/2/41"),
    ],
)
@pytest.mark.parametrize("detail", ["cut off", "破" * 5000, "\udcff" * 5000])
async def test_a_dead_letter_that_is_refused_for_its_size_is_cut_down_to_what_fits(
    one: Record, kept_key: bytes, detail: str
) -> None:
    letter = await last_letter(one, larger_than(1200), detail)
    failure = failure_of(letter.headers)
    assert failure is not None
    assert failure.value_omitted
    assert (failure.reason, failure.attempt, failure.origin) == ("corrupt_image", 3, Source("photo-uploads", 2, 41))
    assert failure.detail
    assert (letter.key, letter.value) == (kept_key, None)
    assert letter.header("value_omitted_bytes", "") == str(len(one.value or b""))
    digest = sha256(one.value).hexdigest() if one.value else ""
    assert letter.header("value_sha256", "") == digest


async def test_a_dead_letter_keeps_its_whole_key_and_detail_where_only_the_value_is_too_large() -> None:
    one = Record("photo-uploads", 2, 41, b"k" * 500, LARGE)
    letter = await last_letter(one, larger_than(1800), "d" * 500)
    failure = failure_of(letter.headers)
    assert failure is not None
    assert (letter.key, failure.detail) == (b"k" * 500, "d" * 500)


async def test_a_record_without_a_key_gets_its_origin_for_one_where_the_topic_insists() -> None:
    letter = await last_letter(Record("photo-uploads", 2, 41, None, b"{}", TRACE), without_key)
    assert (letter.key, letter.value, letter.headers[:2]) == (b"photo-uploads/2/41", b"{}", TRACE)


async def test_a_dead_letter_that_is_refused_in_every_form_is_told() -> None:
    producer = FakeProducer(refuses=larger_than(10))
    with publishing(producer) as publisher, pytest.raises(RecordRefused, match="MSG_SIZE_TOO_LARGE"):
        await publisher.dead_letter(delivered(record()), "corrupt_image", "cut off", 3)


async def test_a_header_name_that_was_not_utf8_is_written_with_escapes() -> None:
    produced = await letter_of(record(headers=(("caf\udce9", b"1"),)))
    assert produced.headers[0] == ("caf\\udce9", b"1")


@pytest.mark.parametrize("decided", [tags(), DELETION], ids=["tags", "deletion"])
async def test_a_result_that_is_refused_with_the_trace_goes_without_it(decided: Tags | Deletion) -> None:
    producer = FakeProducer(refuses=larger_than(2000))
    with publishing(producer) as publisher:
        await publisher.result(decided, delivered(record(headers=(("traceparent", b"00"), ("tracestate", LARGE)))))
    assert producer.produced[-1].header("traceparent") is None
    assert producer.produced[-1].header("ce_subject") == "photo-1"


@pytest.mark.parametrize("headers", [(), TRACE])
async def test_a_result_that_is_refused_without_the_trace_too_is_told(headers: Headers) -> None:
    with publishing(FakeProducer(refuses=larger_than(100))) as publisher, pytest.raises(RecordRefused):
        await publisher.result(tags(), delivered(record(headers=headers)))


class Listing(FakeProducer):
    """A producer whose cluster has these topics, or does not answer."""

    def __init__(self, *topics: str, answers: bool = True) -> None:
        super().__init__()
        self.topics = {name: SimpleNamespace(error=None, partitions={0: None}) for name in topics}
        self.answers = answers

    def list_topics(self, timeout: float) -> "Listing":
        assert timeout > 0
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return self


async def test_every_topic_that_is_read_or_written_must_be_there() -> None:
    names = ("uploads", "tags", "dead", "retry", "releases")
    with publishing(Listing(*names)) as publisher:
        await publisher.require_topics("kafka:9092")
    for missing in names:
        there = Listing(*(name for name in names if name != missing))
        with publishing(there) as publisher, pytest.raises(DependencyDown, match=f"no topic {missing};"):
            await publisher.require_topics("kafka:9092")
    with publishing(Listing(*names, answers=False)) as publisher, pytest.raises(DependencyDown, match="kafka:9092"):
        await publisher.require_topics("kafka:9092")


async def test_a_full_queue_is_waited_out() -> None:
    producer = FakeProducer(full=2)
    with publishing(producer) as publisher:
        await publisher.result(tags(), delivered(record()))
    assert len(producer.produced) == 1


@pytest.mark.parametrize("code", [KafkaError._MSG_TIMED_OUT, KafkaError.NOT_ENOUGH_REPLICAS, KafkaError._PURGE_QUEUE])
async def test_a_message_that_is_not_acknowledged_is_an_outage(code: int) -> None:
    with publishing(FakeProducer(errors=[KafkaError(code)])) as publisher:
        with pytest.raises(DependencyDown) as caught:
            await publisher.result(tags(), delivered(record()))
        await publisher.result(tags(), delivered(record()))
    assert caught.value.dependency == "kafka"
    assert caught.value.detail.startswith(f"topic tags: {KafkaError(code).name()}")


async def test_a_message_that_is_not_taken_is_an_outage() -> None:
    producer = FakeProducer(refusal=KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC)))
    with publishing(producer) as publisher, pytest.raises(DependencyDown, match="_UNKNOWN_TOPIC"):
        await publisher.result(DELETION, delivered(record()))


async def test_many_messages_at_once_each_get_their_own_answer() -> None:
    errors = [KafkaError(KafkaError._MSG_TIMED_OUT)] * 3
    with publishing(FakeProducer(errors=errors)) as publisher:
        calls = [publisher.result(tags(), delivered(record(offset=offset))) for offset in range(50)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [DependencyDown] * 3 + [type(None)] * 47


async def test_a_caller_that_gave_up_does_not_disturb_the_others() -> None:
    with publishing(FakeProducer(full=1)) as publisher:
        waiting = asyncio.create_task(publisher.result(tags(), delivered(record())))
        await asyncio.sleep(0)
        waiting.cancel()
        await publisher.result(tags(), delivered(record(offset=1)))
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_what_was_taken_is_sent_at_the_end() -> None:
    producer = FakeProducer()
    with publishing(producer) as publisher:
        waiting = asyncio.create_task(publisher.result(tags(), delivered(record())))
        await asyncio.sleep(0)
    assert not len(producer)
    await waiting


class _Numbered(Registry):
    """A registry whose schemas all have one number."""

    def frame(self, subject: str, kind: str) -> bytes:
        assert (subject, kind) == ("tags-value", events.TAGGED)
        return b"\0\0\0\0\7"


async def test_only_tags_name_their_schema_and_only_where_there_is_a_registry() -> None:
    producer = FakeProducer()
    for registry in (None, _Numbered("http://r")):
        with Publisher(
            lambda _: producer, TOPICS, failed=pytest.fail, log=RecordingLog(), registry=registry
        ) as publisher:
            await publisher.find_schema()
            await publisher.result(tags(), delivered(record()))
            await publisher.result(DELETION, delivered(record()))
            await publisher.dead_letter(delivered(record()), "corrupt_image", "cut off", 3)
    values = [each.value for each in producer.produced]
    bare = events.encode(tags())
    assert values == [bare, None, record().value, b"\0\0\0\0\7" + bare, None, record().value]
