from collections.abc import Callable
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import pytest

from consumer.events import Record
from consumer.kafka.headers import REDRIVEN, REDRIVEN_FROM, dead_headers
from consumer.kafka.sender import NewRecord
from consumer.operations import redrive
from consumer.operations.dead_letters import Letter, letters_of
from consumer.operations.redrive import Result
from consumer.settings import Settings
from tests.unit.operations.test_dead_letters import FAILURE

SENT = (("ce_type", b"photo.uploaded"), ("mine", b"1"))


@dataclass
class FakeSender:
    """Takes what `fits`, and keeps it in order."""

    fits: Callable[[NewRecord], bool] = lambda _: True
    stored: list[NewRecord] = field(default_factory=list)

    def takes(self, record: NewRecord) -> bool:
        if not self.fits(record):
            return False
        self.stored.append(record)
        return True

    def send(self, records: list[NewRecord]) -> None:
        self.stored += records


def letters(count: int, key: bytes | None = b"photo-1") -> list[Letter]:
    headers = (*SENT, *dead_headers(FAILURE))
    return letters_of(Record("dead", 3, number, key, b"{%d" % number, headers) for number in range(count))


def sent_by(sender: FakeSender, some: list[Letter], stopping: Callable[[], bool] = lambda: False) -> Result:
    sends = redrive.events_of(Settings(), some)
    with patch.object(redrive, "Sender", lambda *_: sender):
        return redrive.send(Settings(), sends, 1000.0, lambda *_: None, stopping)


@pytest.mark.parametrize("key", [b"photo-1", None, b"photo-uploads/2/41"])
def test_an_event_is_sent_as_it_was_and_noted_under_a_key_that_no_letter_has(key: bytes | None) -> None:
    sender, (letter,) = FakeSender(), letters(1, key)
    assert sent_by(sender, [letter]) == Result([letter])
    event, note = sender.stored
    own = None if key == b"photo-uploads/2/41" else key
    named = (*SENT, (REDRIVEN_FROM, b"dead/3/0"))
    assert event == NewRecord("photo-uploads", own, b"{0", named)
    assert note == NewRecord("dead", b"dead/3/0", None, ((REDRIVEN, b"3/0"),))


def test_an_event_that_does_not_fit_with_the_name_of_its_letter_goes_without_it() -> None:
    sender, (letter,) = FakeSender(lambda record: len(record.headers) == len(SENT)), letters(1)
    assert sent_by(sender, [letter]).sent == [letter]
    assert [record.headers for record in sender.stored] == [SENT, ((REDRIVEN, b"3/0"),)]


def test_an_event_that_does_not_fit_at_all_stops_no_other_and_is_not_noted() -> None:
    sender, some = FakeSender(lambda record: record.value != b"{1"), letters(3)
    assert sent_by(sender, some) == Result([some[0], some[2]], [some[1]])
    assert [record.headers[-1][1] for record in sender.stored if record.topic == "dead"] == [b"3/0", b"3/2"]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_run_that_is_asked_to_stop_ends_behind_a_note(after: int) -> None:
    sender, some = FakeSender(), letters(3)
    assert sent_by(sender, some, lambda: len(sender.stored) >= 2 * after) == Result(some[:after])
    assert len(sender.stored) == 2 * after


def test_a_value_that_was_left_out_is_lost_where_its_topic_is_not_the_upload_topic() -> None:
    (letter,) = letters(1)
    origin = replace(FAILURE.origin, topic="another")
    lost = replace(letter, failure=replace(FAILURE, value_omitted=True, origin=origin))
    assert redrive.events_of(Settings(), [lost]).lost == [lost]
