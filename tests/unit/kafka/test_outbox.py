import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumer.errors import DependencyDown, ProducerFailed, RecordRefused
from consumer.events import Source
from consumer.kafka.clients import Properties
from consumer.kafka.outbox import Outbox
from consumer.kafka.sender import NewRecord
from tests.fakes import FakeProducer, Produced, RecordingLog
from tests.harness import eventually

RECORD = NewRecord("t", b"k", b"v", (("a", b"1"), ("a", None)))


def fatal() -> FakeProducer:
    """A producer that ends once something was sent."""
    return FakeProducer(fatal=KafkaException(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "made up", True)))


@dataclass
class Desk:
    """An outbox over fake producers: `batched` in turn, and one for records that are sent alone."""

    batched: list[FakeProducer]
    alone: FakeProducer = field(default_factory=FakeProducer)
    log: RecordingLog = field(default_factory=RecordingLog)
    failures: list[ProducerFailed] = field(default_factory=list)
    made: int = 0

    def connect(self, special: Properties) -> FakeProducer:
        if special.get("batch.num.messages") == 1:
            return self.alone
        self.made += 1
        return self.batched[self.made - 1]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Outbox]:
        outbox = Outbox(self.connect, failed=self.failures.append, log=self.log)
        outbox.start()
        try:
            yield outbox
        finally:
            outbox.close()


async def sent(outbox: Outbox, record: NewRecord = RECORD) -> None:
    """Sends as the pipeline does: for as long as Kafka does not answer."""
    while True:
        try:
            await outbox.send(record)
        except DependencyDown:
            await asyncio.sleep(0.01)
        else:
            return


@pytest.mark.parametrize(
    "code",
    [
        *(KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD),
        *(KafkaError.POLICY_VIOLATION, KafkaError._INVALID_DIFFERENT_RECORD),
    ],
)
async def test_a_refused_batch_blames_only_the_record_that_is_refused_alone(code: int) -> None:
    def refuses(message: Produced) -> int | None:
        return code if message.key == b"3" else None

    desk = Desk([FakeProducer(errors=[KafkaError(code)] * 10)], FakeProducer(refuses=refuses))
    async with desk.open() as outbox:
        sends = [outbox.send(NewRecord("t", b"%d" % number, b"v")) for number in range(12)]
        answers = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Source] * 3 + [RecordRefused] + [Source] * 8
    assert [message.key for message in desk.alone.produced] == [b"%d" % number for number in range(10)]


async def test_what_the_client_itself_refuses_is_refused_for_good() -> None:
    refusal = KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    desk = Desk([FakeProducer(refusal=refusal)], FakeProducer(refusal=refusal))
    async with desk.open() as outbox:
        with pytest.raises(RecordRefused, match="MSG_SIZE_TOO_LARGE"):
            await outbox.send(RECORD)


@pytest.mark.parametrize(
    "code",
    [
        *(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
        *(KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.INVALID_TIMESTAMP, KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        *(KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, KafkaError._MSG_TIMED_OUT),
        *(KafkaError._PURGE_QUEUE, KafkaError._FATAL),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
async def test_what_concerns_every_record_is_waited_for(code: int, alone: bool) -> None:
    refused = [KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)]
    desk = Desk(
        [FakeProducer(errors=refused if alone else [KafkaError(code)])],
        FakeProducer(errors=[KafkaError(code)]),
    )
    async with desk.open() as outbox:
        with pytest.raises(DependencyDown, match=KafkaError(code).name()) as caught:
            await outbox.send(RECORD)
    assert caught.value.dependency == "kafka"
    of_the_topic = {"UNKNOWN_TOPIC_OR_PART", "TOPIC_AUTHORIZATION_FAILED", "NOT_ENOUGH_REPLICAS"}
    assert caught.value.part == ("topic t" if KafkaError(code).name() in of_the_topic else "")


async def test_a_second_producer_that_cannot_be_made_now_is_no_fault_of_the_record() -> None:
    desk, made = Desk([FakeProducer(errors=[KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)] * 2)]), list[Properties]()

    def connect(special: Properties) -> FakeProducer:
        made.append(special)
        if len(made) == 2:
            raise KafkaException(KafkaError(KafkaError._CRIT_SYS_RESOURCE, "Failed to create thread"))
        return desk.connect(special)

    outbox = Outbox(connect, failed=desk.failures.append, log=desk.log)
    outbox.start()
    with pytest.raises(DependencyDown, match="Failed to create thread"):
        await outbox.send(RECORD)
    await outbox.send(RECORD)
    outbox.close()
    assert desk.failures == []


async def test_after_a_fatal_error_what_was_not_acknowledged_is_sent_by_a_new_producer() -> None:
    desk = Desk([fatal(), FakeProducer()])
    async with desk.open() as outbox:
        await asyncio.gather(*(sent(outbox, NewRecord("t", b"%d" % number, b"v")) for number in range(20)))
        assert outbox.alive
    assert {message.key for message in desk.batched[1].produced} == {b"%d" % number for number in range(20)}
    (line,) = desk.log.named("producer.rebuilt")
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" in str(line["detail"])
    assert not desk.failures


async def test_a_fatal_error_of_the_producer_of_single_records_is_mended_too() -> None:
    refused = [KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)] * 2
    desk = Desk([FakeProducer(errors=refused)], fatal())
    async with desk.open() as outbox:
        first = asyncio.create_task(sent(outbox))
        await eventually(lambda: desk.alone.refusal is not None)
        desk.alone = FakeProducer()
        await first
    assert len(desk.alone.produced) <= 1
    assert not desk.failures


async def test_a_producer_that_fails_again_and_again_ends_the_service() -> None:
    desk = Desk([fatal() for _ in range(11)])
    async with desk.open() as outbox:
        sending = asyncio.create_task(sent(outbox))
        await eventually(lambda: desk.failures)
        assert desk.made == 11
        await eventually(lambda: not outbox.alive)
        sending.cancel()
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" in str(desk.failures[0])


@pytest.mark.parametrize(("step_s", "goes_on"), [(6.5, True), (5.5, False)])
async def test_producers_that_fail_now_and_then_end_nothing(
    monkeypatch: pytest.MonkeyPatch, step_s: float, goes_on: bool
) -> None:
    clock = count(1_000.0, step_s)
    monkeypatch.setattr("consumer.kafka.outbox.monotonic", lambda: next(clock))
    desk = Desk([*(fatal() for _ in range(11)), FakeProducer()])
    async with desk.open() as outbox:
        sending = asyncio.create_task(sent(outbox))
        await eventually(lambda: desk.failures or sending.done())
        sending.cancel()
    assert (desk.made, not desk.failures) == ((12, True) if goes_on else (11, False))


async def test_former_producers_are_let_go_once_they_have_answered_and_nothing_holds_up_the_process() -> None:
    desk = Desk([fatal(), FakeProducer()])
    async with desk.open() as outbox:
        await asyncio.gather(*(sent(outbox, NewRecord("t", b"%d" % number, b"v")) for number in range(5)))
        lane = outbox._batched
        await eventually(lambda: not lane._broken)
        assert len(desk.batched[0]) == 0
        assert lane._thread.daemon


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_bug_in_the_thread_of_acknowledgements_ends_the_service() -> None:
    class Buggy(FakeProducer):
        def poll(self, timeout: float) -> int:
            raise ZeroDivisionError(timeout)

    desk = Desk([Buggy()])
    outbox = Outbox(desk.connect, failed=desk.failures.append, log=desk.log)
    outbox.start()
    await eventually(lambda: desk.failures)
    await eventually(lambda: not outbox.alive)
    assert "bug" in str(desk.failures[0])


async def test_an_end_that_was_asked_for_is_no_failure() -> None:
    desk = Desk([FakeProducer()])
    async with desk.open() as outbox:
        assert await outbox.send(replace(RECORD, partition=3)) == Source("t", 3, 0)
    assert not outbox.alive
    assert not desk.failures


async def test_what_is_acknowledged_together_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, woken = asyncio.get_running_loop(), list[object]()
    call_soon = loop.call_soon_threadsafe

    def counted(call: Callable[..., object], *arguments: object) -> asyncio.Handle:
        woken.append(call)
        return call_soon(call, *arguments)

    desk = Desk([producer := FakeProducer()])
    async with desk.open() as outbox:
        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        callers = [asyncio.create_task(outbox.send(RECORD)) for _ in range(20)]
        await asyncio.sleep(0)
        # The loop stands still until all are acknowledged.
        deadline = time.monotonic() + 30
        while len(producer) and time.monotonic() < deadline:
            time.sleep(0.001)  # noqa: ASYNC251 - on purpose
        assert len(await asyncio.gather(*callers)) == 20
        # The last may have come a moment later.
        assert len(woken) <= 2


async def test_records_that_are_refused_or_cannot_be_handed_over_hold_back_no_others() -> None:
    refused = KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    desk = Desk([producer := FakeProducer(refusal=refused)], FakeProducer(refuses=lambda _: KafkaError.INVALID_RECORD))
    async with desk.open() as outbox:
        for _ in range(30):
            with pytest.raises(RecordRefused):
                await outbox.send(RECORD)
        producer.refusal = None
        assert len(await asyncio.gather(*(outbox.send(RECORD) for _ in range(30)))) == 30
        lanes = outbox._lanes
        assert [lane._accumulators[RECORD.topic]._under_way for lane in lanes] == [0, 0]
