"""What is known of a record is delivered, also where the client cannot read all of it."""

from typing import Any

import pytest

from consumer import events
from consumer.errors import PhotoRejected
from consumer.events import Headers
from consumer.kafka.clients import record_of
from consumer.kafka.headers import delivery_of, failure_of, retried_delivery_of
from tests.fakes import World, deleted_json, uploaded_json


class Message:
    """A message whose headers can be read once, or not even that."""

    def __init__(self, value: bytes | None, answer: Headers | Exception | None) -> None:
        self._value = value
        self._answers = [answer]

    def headers(self) -> Any:
        answer = self._answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return None if answer is None else list(answer)

    def topic(self) -> str:
        return "photo-uploads"

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 7

    def key(self) -> bytes:
        return b"photo-1"

    def value(self) -> bytes | None:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


NOT_TEXT = [UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "unexpected end of data"), SystemError("an exception set")]


@pytest.mark.parametrize("failure", NOT_TEXT)
@pytest.mark.parametrize("value", [uploaded_json(), deleted_json(), None, b""])
@pytest.mark.parametrize("read", [delivery_of, retried_delivery_of])
def test_a_record_with_unreadable_headers_is_delivered_and_is_no_event(
    failure: Exception, value: bytes | None, read: Any
) -> None:
    one = record_of(Message(value, failure), 3)  # type: ignore[arg-type]
    assert (one.topic, one.partition, one.offset, one.epoch) == ("photo-uploads", 2, 7, 3)
    assert (one.key, one.value, one.headers, bool(one.unreadable)) == (b"photo-1", value, (), True)
    delivery = read(one, World().delivery(one).owner)
    assert (delivery.sent, delivery.deferral) == ((), None)
    assert failure_of(one.headers) is None
    assert not events.says_nothing(one)
    with pytest.raises(PhotoRejected, match="not UTF-8") as refused:
        events.parse(one)
    assert refused.value.reason == "invalid_event"


@pytest.mark.parametrize("headers", [None, (), (("a", b"1"), ("", None), ("a", b"\xff"))])
def test_readable_headers_are_delivered_as_they_are(headers: Headers | None) -> None:
    one = record_of(Message(b"{}", headers))  # type: ignore[arg-type]
    assert (one.headers, one.unreadable) == (headers or (), "")
