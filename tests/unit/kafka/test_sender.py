from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumer.errors import DependencyDown
from consumer.events import Source
from consumer.kafka import clients
from consumer.kafka.reasons import REASONS
from consumer.kafka.sender import NewRecord, Sender

REFUSED = KafkaError(KafkaError.NOT_ENOUGH_REPLICAS)


@dataclass
class FakeProducer:
    """Answers in reverse order once it is polled with time; False stands for a record that is never acknowledged."""

    answers: list[KafkaError | bool] = field(default_factory=list)
    full: int = 0
    refusal: KafkaError | None = None
    fatal: KafkaError | None = None
    sent: list[dict[str, Any]] = field(default_factory=list)
    pending: list[Callable[[], object]] = field(default_factory=list)
    purged: bool = False

    def list_topics(self, timeout: float) -> Any:
        assert timeout > 0
        return SimpleNamespace(topics={"t": SimpleNamespace(partitions={0: None}, error=None)})

    def produce(
        self, topic: str, value: object, key: object, *, on_delivery: Callable[..., object], **more: Any
    ) -> None:
        if self.full:
            self.full -= 1
            raise BufferError
        if self.refusal is not None:
            raise KafkaException(self.refusal)
        self.sent.append({"topic": topic, "value": value, "key": key, **more})
        answer = self.answers.pop(0) if self.answers else True
        number = len(self.sent) - 1
        if isinstance(answer, KafkaError):
            self.pending.append(lambda: on_delivery(answer, None))
        elif answer:
            place = SimpleNamespace(topic=lambda: topic, partition=lambda: 0, offset=lambda: number)
            self.pending.append(lambda: on_delivery(None, place))

    def __len__(self) -> int:
        return len(self.pending)

    def poll(self, timeout: float) -> int:
        if self.fatal is not None and self.sent:
            fatal, self.fatal = self.fatal, None
            raise KafkaException(fatal)
        while timeout and self.pending:
            self.pending.pop()()
        return 0

    def purge(self) -> None:
        self.purged = True


@pytest.fixture(autouse=True)
def nothing_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What librdkafka said of the brokers of another test counts for a minute."""
    monkeypatch.setattr(REASONS, "_of", {})


def sender_of(producer: FakeProducer, *topics: str) -> Sender:
    with patch.object(clients, "producer_client", lambda *_: producer):
        return Sender("nowhere:9092", {}, topics or ["t"])


def records(count: int) -> list[NewRecord]:
    return [NewRecord("t", b"%d" % number, None) for number in range(count)]


def test_the_places_come_in_the_order_of_the_records() -> None:
    assert sender_of(FakeProducer()).send(records(3)) == [Source("t", 0, number) for number in range(3)]


def test_a_record_is_sent_as_it_is() -> None:
    producer = FakeProducer()
    sender_of(producer).send([NewRecord("t", None, b"v", (("a", b"1"), ("a", None)), 17, 4)])
    (sent,) = producer.sent
    headers = [("a", b"1"), ("a", None)]
    assert sent == {"topic": "t", "key": None, "value": b"v", "headers": headers, "timestamp": 17, "partition": 4}


def test_nothing_to_send_is_sent() -> None:
    assert sender_of(FakeProducer()).send([]) == []


def test_a_full_queue_is_waited_out() -> None:
    assert len(sender_of(FakeProducer(full=3)).send(records(2))) == 2


def test_a_queue_that_stays_full_times_out() -> None:
    with pytest.raises(DependencyDown, match=r"no acknowledgement within 0 s \(1 of 1 "):
        sender_of(FakeProducer(full=10**9)).send(records(1), timeout_s=0)


def test_the_brokers_reason_is_told() -> None:
    producer = FakeProducer([True, REFUSED, True])
    with pytest.raises(DependencyDown, match=r"NOT_ENOUGH_REPLICAS: .*\(1 of 3 records"):
        sender_of(producer).send(records(3))
    # All have their answer: a purge now would drop what is sent next.
    assert not producer.purged


def test_what_the_client_refuses_is_told_after_what_was_sent_before_it() -> None:
    producer = FakeProducer(refusal=KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    with pytest.raises(DependencyDown, match=r"MSG_SIZE_TOO_LARGE: .*\(1 of 1 records"):
        sender_of(producer).send(records(2))


def test_a_fatal_error_is_told_and_not_only_what_it_did_to_the_records() -> None:
    fatal = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "made up", True)
    producer = FakeProducer([True, REFUSED], fatal=fatal)
    with pytest.raises(DependencyDown, match=r"OUT_OF_ORDER_SEQUENCE_NUMBER: .*\(1 of 2 records"):
        sender_of(producer).send(records(2))


def test_a_record_that_was_not_acknowledged_in_time_is_not_sent_later() -> None:
    producer = FakeProducer([True, False])
    with pytest.raises(DependencyDown, match=r"no acknowledgement within 5 s \(1 of 2 records"):
        sender_of(producer).send(records(2), timeout_s=5)
    assert producer.purged


def test_a_missing_topic_is_named() -> None:
    with pytest.raises(DependencyDown, match="no topic other"):
        sender_of(FakeProducer(), "other", "t")


@pytest.mark.parametrize("code", [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD])
def test_a_record_that_is_refused_for_its_own_sake_is_no_outage(code: int) -> None:
    (one,) = records(1)
    assert not sender_of(FakeProducer([KafkaError(code)])).takes(one)
    assert not sender_of(FakeProducer(refusal=KafkaError(code))).takes(one)
    assert sender_of(FakeProducer()).takes(one)


def test_any_other_refusal_of_a_single_record_is_an_outage() -> None:
    (one,) = records(1)
    for producer in (FakeProducer([REFUSED]), FakeProducer(refusal=REFUSED)):
        with pytest.raises(DependencyDown, match="NOT_ENOUGH_REPLICAS"):
            sender_of(producer).takes(one)
    with pytest.raises(DependencyDown, match="no acknowledgement"):
        sender_of(FakeProducer([False])).takes(one)
