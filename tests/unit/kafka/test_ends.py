"""Ends of partitions, asked of a client whose answers a test decides."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.kafka import ends as ends_module
from consumer.kafka.ends import Ends

A, B = ("t", 0), ("t", 1)


class Client:
    """An admin client that answers when told to."""

    def __init__(self) -> None:
        self.questions: list[dict[TopicPartition, Future[Any]]] = []

    def list_offsets(self, question: dict[TopicPartition, Any], request_timeout: float) -> dict[Any, Future[Any]]:
        assert request_timeout > 0
        self.questions.append({place: Future() for place in question})
        return self.questions[-1]

    def answer(self, *ends: int | None) -> None:
        for future, end in zip(self.questions[-1].values(), ends, strict=True):
            if end is None:
                future.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
            else:
                future.set_result(SimpleNamespace(offset=end))


def asking() -> tuple[Ends, Client]:
    client = Client()
    return Ends(lambda: client), client  # type: ignore[arg-type,return-value]


def test_nothing_is_asked_of_no_partitions() -> None:
    ends, client = asking()
    ends.ask([])
    assert ends.take() == {}
    assert client.questions == []


def test_each_question_has_one_answer_and_none_is_asked_before_it() -> None:
    ends, client = asking()
    ends.ask([A, B])
    ends.ask([A])
    assert ends.take() == {}
    client.answer(7, 0)
    assert ends.take() == {A: 7, B: 0}
    assert ends.take() == {}
    ends.ask([A])
    assert [len(question) for question in client.questions] == [2, 1]


def test_a_question_that_is_never_answered_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(ends_module, "monotonic", lambda: now_s)
    ends, client = asking()
    ends.ask([A])
    now_s += 9.0
    ends.ask([A])
    assert len(client.questions) == 1
    now_s += 2.0
    ends.ask([A])
    client.answer(7)
    assert ends.take() == {A: 7}


def test_what_a_broker_does_not_tell_is_left_out() -> None:
    ends, client = asking()
    ends.ask([A, B])
    client.answer(None, 3)
    assert ends.take() == {B: 3}


def test_an_answer_that_is_no_longer_wanted_is_not_told() -> None:
    ends, client = asking()
    ends.ask([A])
    ends.forget()
    client.answer(7)
    assert ends.take() == {}
    ends.ask([A])
    assert len(client.questions) == 2


def test_without_a_descriptor_or_a_thread_left_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, client, lacks = 100.0, Client(), [KafkaException(KafkaError(KafkaError._FAIL))]
    monkeypatch.setattr(ends_module, "monotonic", lambda: now_s)

    def connect() -> Client:
        if lacks:
            raise lacks.pop()
        return client

    ends = Ends(connect)  # type: ignore[arg-type]
    ends.ask([A])
    assert ends.take() == {}
    ends.ask([A])
    client.answer(7)
    assert ends.take() == {A: 7}
