import pytest
from confluent_kafka import KafkaError

from consumer.kafka.unreadable import Unreadable

BAD = KafkaError(KafkaError._BAD_COMPRESSION)
PLACE = ("t", 0)


def answers(found: Unreadable, *offsets: int, error: KafkaError = BAD) -> list[bool]:
    return [found.gives_up(PLACE, offset, error) for offset in offsets]


def test_an_offset_is_given_up_at_the_third_error_in_a_row() -> None:
    found = Unreadable()
    assert answers(found, 5, 5, 6, 6, 5) == [False] * 5
    assert answers(found, 5, 5) == [False, True]


def test_partitions_are_counted_apart() -> None:
    found = Unreadable()
    assert answers(found, 5, 5) == [False, False]
    assert not found.gives_up(("t", 1), 5, BAD)
    assert answers(found, 5) == [True]


def test_what_is_left_of_a_turn_is_older_than_the_offset_that_follows() -> None:
    found = Unreadable()
    assert answers(found, 5, 5, 5, *[6] * 9) == [False, False, True, *[False] * 9]
    found.turn += 1
    assert answers(found, 6, 6, 6) == [False, False, True]


@pytest.mark.parametrize("code", [KafkaError._BAD_MSG, KafkaError._TRANSPORT, KafkaError.INVALID_MSG])
def test_nothing_is_given_up_for_another_error(code: int) -> None:
    assert answers(Unreadable(), *[5] * 9, error=KafkaError(code)) == [False] * 9
