from datetime import timedelta

import pytest

from consumer.events import Record, Source
from consumer.kafka.headers import Unread
from consumer.service import behind
from consumer.service.behind import Behind
from tests.fakes import MOMENT, record

A, B = ("photo-uploads", 0), ("photo-uploads", 1)
LATER, SOON = MOMENT + timedelta(hours=1), MOMENT + timedelta(seconds=5)


def unread(start: int | None, end: int | None, *finished: int, epoch: int = 0) -> Unread:
    return Unread(epoch, start, end, frozenset(finished))


def copied(*offsets: int, one: Record | None = None) -> Behind:
    """What is known once records up to 9 were read, and some have copies that are due much later."""
    made = Behind()
    made.read(one or record(offset=9))
    for offset in offsets:
        made.moved(one or record(offset=3), Source(*A, offset), LATER)
    return made


@pytest.mark.parametrize(
    ("rest", "new"),
    [
        (unread(10, 13), False),
        # As of a moment ago: before the last were read, or the last copy was made.
        (unread(0, 12), False),
        (unread(10, 14), True),
        (unread(10, 14, 13), False),
        # What was finished before what is unread, or after the end, does not count.
        (unread(10, 14, 9, 14), True),
        (unread(12, 13), False),
        (unread(13, 13), False),
        (unread(None, 13), True),
        (unread(10, None), True),
    ],
)
def test_only_what_is_no_copy_and_was_not_finished_is_new(rest: Unread, new: bool) -> None:
    assert copied(10, 11, 12).anything_new({A: rest}, SOON) == new


def test_a_copy_that_is_due_soon_is_worth_reaching() -> None:
    known = copied(10)
    known.moved(record(offset=4), Source(*A, 11), SOON)
    assert known.anything_new({A: unread(10, 12)}, SOON)
    assert not known.anything_new({A: unread(10, 12)}, SOON - timedelta(milliseconds=1))
    known.read(record(offset=11))
    assert not known.anything_new({A: unread(10, 12)}, SOON)


def test_any_partition_may_have_something_new_one_of_which_nothing_was_read_too() -> None:
    known = copied(10)
    assert not known.anything_new({A: unread(10, 11), B: unread(0, 0)}, SOON)
    assert known.anything_new({A: unread(10, 11), B: unread(0, 1)}, SOON)


def test_nothing_that_was_known_before_holds_in_a_later_assignment() -> None:
    known = copied(10, 11)
    anew = unread(0, 2, epoch=1)
    assert known.anything_new({A: anew}, SOON), "offsets of the old log tell nothing of the new one"
    later = Record(*A, 1, None, None, epoch=1)
    known.read(later)
    known.moved(later, Source(*A, 2), LATER)
    assert not known.anything_new({A: unread(2, 3, epoch=1)}, SOON)


def test_the_span_is_that_of_the_same_assignment() -> None:
    known = copied()
    assert known.span(record(offset=3)) == 7
    assert known.span(Record(*A, 3, None, None, epoch=1)) == 0
    assert known.span(record(offset=3, partition=1)) < 0


def test_more_copies_than_are_remembered_count_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "_MOST_COPIES", 2)
    known = copied(10, 11, 12)
    assert known.anything_new({A: unread(10, 13)}, SOON)
    known.read(record(offset=12))
    assert not known.anything_new({A: unread(13, 13)}, SOON)


def test_offsets_of_an_earlier_assignment_or_beyond_the_known_end_hide_nothing() -> None:
    assert copied(10, 11).anything_new({A: unread(10, 12, epoch=1)}, SOON)
    assert copied(10, 20).anything_new({A: unread(10, 12)}, SOON)
    known, later = copied(10), Record(*A, 1, None, None, epoch=1)
    known.read(later)
    known.moved(later, Source(*A, 11), LATER)
    assert known.anything_new({A: unread(10, 12, epoch=1)}, SOON)
