"""Ids of topics, asked in the background of a client whose answers a test decides."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumer.kafka.topic_ids import Answer, TopicIds

ID = "I" * 22


class Client:
    """An admin client: `outcome` is a topic's id or its error; a list of topics is given when `up`."""

    def __init__(self, outcome: str | KafkaError) -> None:
        self.outcome, self.up = outcome, True
        self.reconnected = self.polled = 0
        self.gate = threading.Event()
        self.gate.set()

    def poll(self, _: float) -> None:
        self.polled += 1

    def list_topics(self, timeout: float) -> None:
        assert timeout > 0
        self.reconnected += 1
        if not self.up:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def describe_topics(self, _: Any, request_timeout: float) -> dict[str, Future[Any]]:
        assert request_timeout > 0
        self.gate.wait(5)
        future: Future[Any] = Future()
        if isinstance(self.outcome, KafkaError):
            future.set_exception(KafkaException(self.outcome))
        else:
            future.set_result(SimpleNamespace(topic_id=self.outcome))
        return {"t": future}


def taken(take: Callable[[], Answer | None]) -> Answer:
    end = time.monotonic() + 5
    while (answer := take()) is None:
        assert time.monotonic() < end
        time.sleep(0.001)
    return answer


@pytest.mark.parametrize(
    ("outcome", "ids", "answered"),
    [
        (ID, {"t": ID}, True),
        ("A" * 22, {}, True),
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), {}, True),
        (KafkaError(KafkaError._TIMED_OUT), {}, False),
    ],
)
def test_the_answer_has_the_ids_of_the_topics_that_are_there(outcome: Any, ids: dict[str, str], answered: bool) -> None:
    topic_ids = TopicIds(lambda: Client(outcome))  # type: ignore[arg-type,return-value]
    topic_ids.ask(["t"])
    answer = taken(topic_ids.take)
    assert (answer.ids, answer.answered, topic_ids.asking) == (ids, answered, False)
    assert answer.missing == ({"t"} if isinstance(outcome, KafkaError) and answered else frozenset())


def test_a_question_holds_nobody_up_and_there_is_one_at_a_time() -> None:
    client = Client(ID)
    client.gate.clear()
    topic_ids = TopicIds(lambda: client)  # type: ignore[arg-type,return-value]
    topic_ids.ask(["t"])
    topic_ids.ask(["other"])
    assert (topic_ids.take(), topic_ids.asking) == (None, True)
    client.gate.set()
    assert taken(topic_ids.take).ids == {"t": ID}
    assert topic_ids.take() is None


def test_after_a_question_without_an_answer_the_client_connects_again_first() -> None:
    client = Client(KafkaError(KafkaError._TIMED_OUT))
    topic_ids = TopicIds(lambda: client)  # type: ignore[arg-type,return-value]
    for up, outcome, answered, reconnected in [
        (True, client.outcome, False, 0),
        (False, ID, False, 1),
        (True, ID, True, 2),
        (True, ID, True, 2),
    ]:
        client.up, client.outcome = up, outcome
        topic_ids.ask(["t"])
        assert taken(topic_ids.take).answered == answered
        assert client.reconnected == reconnected


def test_what_the_client_logs_is_taken_with_each_question() -> None:
    client = Client(ID)
    topic_ids = TopicIds(lambda: client)  # type: ignore[arg-type,return-value]
    for polled in (1, 2):
        topic_ids.ask(["t"])
        assert taken(topic_ids.take).answered
        assert client.polled == polled


def test_no_topics_are_no_question() -> None:
    topic_ids = TopicIds(lambda: Client(ID))  # type: ignore[arg-type,return-value]
    topic_ids.ask([])
    assert not topic_ids.asking


def test_without_a_descriptor_or_a_thread_left_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client, lacks = Client(ID), [KafkaException(KafkaError(KafkaError._FAIL))]

    def connect() -> Client:
        if lacks:
            raise lacks.pop()
        return client

    topic_ids = TopicIds(connect)  # type: ignore[arg-type]
    topic_ids.ask(["t"])
    assert (topic_ids.take(), topic_ids.asking) == (None, False)
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")))
        topic_ids.ask(["t"])
    assert (topic_ids.take(), topic_ids.asking) == (None, False)
    topic_ids.ask(["t"])
    assert taken(topic_ids.take).ids == {"t": ID}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_question_that_fails_by_itself_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    client, before = Client(ID), set(threading.enumerate())
    topic_ids = TopicIds(lambda: client)  # type: ignore[arg-type,return-value]
    with monkeypatch.context() as without:
        without.setattr(client, "describe_topics", raising(MemoryError()))
        topic_ids.ask(["t"])
        for thread in set(threading.enumerate()) - before:
            thread.join(30)  # its failure is of this test, not of the next
        assert not taken(topic_ids.take).answered
    topic_ids.ask(["t"])
    assert taken(topic_ids.take).ids == {"t": ID}


def raising(failure: Exception) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise failure

    return call
