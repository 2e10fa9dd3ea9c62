from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from consumer import events
from consumer.escape import printable
from consumer.events import Headers, Record, Source
from consumer.kafka.headers import REDRIVEN, REDRIVEN_FROM, Failure, dead_headers
from consumer.operations import dead_letters, redrive
from consumer.operations.dead_letters import Letter, Listed, Query, State
from tests.fakes import MOMENT, record, tags, uploaded_json

FAILURE = Failure("http_5xx", "busy", 8, Source("photo-uploads", 2, 41), MOMENT)
SECOND = timedelta(seconds=1)


def dead(offset: int = 0, value: bytes | None = None, failure: Failure = FAILURE) -> Record:
    one = record(value, headers=dead_headers(failure), offset=offset)
    return replace(one, topic="dead")


def note(letter_id: str, value: bytes | None = None) -> Record:
    headers: Headers = ((REDRIVEN, letter_id.encode()),)
    return Record("dead", 0, 99, b"photo-1", value, headers, timestamp_ms=1_000)


def letter(**changes: object) -> Letter:
    return Letter(dead(), replace(FAILURE, **changes))


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        (Query(), True),
        (Query(reason="http_5xx"), True),
        (Query(reason="http_4xx"), False),
        (Query(photo_id="photo-1"), True),
        (Query(photo_id="photo-2"), False),
        (Query(since=MOMENT), True),
        (Query(since=MOMENT + SECOND), False),
        (Query(until=MOMENT), False),
        (Query(until=MOMENT + SECOND), True),
        (Query("http_5xx", "photo-1", MOMENT, MOMENT + SECOND), True),
    ],
)
def test_a_query_takes_what_meets_all_of_it_from_its_start_to_before_its_end(query: Query, taken: bool) -> None:
    assert query.matches(letter()) is taken


def test_notes_mark_their_letters_and_are_none_themselves() -> None:
    first, second = dead_letters.letters_of([dead(0), dead(1), note("0/1"), note("0/7"), record()])
    assert (first.letter_id, first.redriven_at) == ("0/0", None)
    assert (second.letter_id, second.redriven_at is not None) == ("0/1", True)


@pytest.mark.parametrize(
    ("revision", "held", "state"), [(5, 5, "succeeded"), (5, 6, "succeeded"), (5, 4, "waiting"), (5, None, "waiting")]
)
def test_a_letter_has_succeeded_where_its_photo_has_tags_of_its_content_or_a_newer_one(
    revision: int, held: int | None, state: State
) -> None:
    found = {} if held is None else {"photo-1": tags(version=f"{held:013d}.003007.0000000000000")}
    one = Letter(dead(0, uploaded_json(revision=revision)), FAILURE)
    assert dead_letters.state_of(one, found) == state
    sent = replace(one, redriven_at=MOMENT)
    assert dead_letters.state_of(sent, found) == ("redriven" if state == "waiting" else state)


def test_an_event_that_cannot_be_read_never_succeeds() -> None:
    one = Letter(dead(0, b"{"), FAILURE)
    assert dead_letters.state_of(one, {"photo-1": tags()}) == "waiting"


def failed(offset: int, sent_again: str = "", *, key: bytes = b"photo-1", partition: int = 0) -> Record:
    """A letter of an event that was sent again from another letter, if that is named."""
    sent: Headers = ((REDRIVEN_FROM, f"dead/{sent_again}".encode()),) if sent_again else ()
    failure = replace(FAILURE, failed_at=MOMENT + offset * SECOND)
    return Record("dead", partition, offset, key, b"{}", (*sent, *dead_headers(failure)))


def newest(*records: Record) -> list[str]:
    return [each.letter_id for each in dead_letters.letters_of(records) if not each.failed_again]


def test_only_the_newest_letter_of_an_event_counts_however_often_it_failed_again() -> None:
    first, second, third = failed(1), failed(2, "0/1"), failed(3, "0/2")
    assert newest(first, second, third) == ["0/3"]
    twice = failed(4, "0/1")  # two operators sent the first letter again
    assert newest(first, second, twice) == ["0/4"]
    assert newest(first, second, twice, failed(5, "0/2")) == ["0/5"]
    assert newest(failed(3, "1/2"), failed(2, partition=1)) == ["0/3"], "whatever the order of the partitions"


@pytest.mark.parametrize("named", ["0/1", "0/9", "", "x", "-1/2", "0/" + "9" * 4300, "1/0/2", "٣/٤"])
def test_a_header_about_the_letter_of_another_photo_or_none_hides_nothing(named: str) -> None:
    assert newest(failed(1), failed(2, named, key=b"another")) == ["0/1", "0/2"]


@pytest.mark.parametrize("key", [None, b"photo-1"])
def test_a_header_about_a_letter_with_another_value_hides_nothing(key: bytes | None) -> None:
    first, second = (replace(each, key=key) for each in (failed(1), failed(2, "0/1")))
    assert newest(first, second) == ["0/2"]
    assert newest(first, replace(second, value=b"[]")) == ["0/1", "0/2"]
    omitted = replace(first, value=None, headers=(*dead_headers(FAILURE), ("value_omitted_bytes", b"2")))
    assert newest(omitted, second) == ["0/2"]


def test_a_note_of_any_time_is_read() -> None:
    notes = [replace(note("0/0"), timestamp_ms=stamp) for stamp in (-1, 2**62)]
    for each in notes:
        (one,) = dead_letters.letters_of([dead(0), each])
        assert one.redriven_at is not None


def test_a_binary_key_is_named_as_it_is_shown() -> None:
    one = Letter(replace(dead(), key=b"\xff\x00\x1bid"), FAILURE)
    assert Query(photo_id=r"\xff\x00\x1bid").matches(one)


ORIGIN = events.format_source(FAILURE.origin).encode()


def test_a_letter_whose_record_had_no_key_has_none_and_is_named_by_its_event() -> None:
    for key in (None, ORIGIN):
        one = Letter(replace(dead(), key=key), FAILURE)
        assert (one.key, one.photo_id) == (None, "photo-1")
        assert Query(photo_id="photo-1").matches(one)
        assert Letter(replace(one.record, value=b"{"), FAILURE).photo_id == ""
    own = Letter(replace(dead(value=uploaded_json(photo_id="other")), key=b"photo-1"), FAILURE)
    assert own.photo_id == "photo-1"


@pytest.mark.parametrize("photo_id", ["k" * 129, "é" * 65, "\udcff" * 129])
def test_a_letter_is_found_by_a_key_that_was_cut_down(photo_id: str) -> None:
    digest = b"sha256:" + sha256(photo_id.encode(errors="surrogateescape")).hexdigest().encode()
    one = Letter(replace(dead(), key=digest), replace(FAILURE, value_omitted=True))
    assert Query(photo_id=photo_id).matches(one)
    assert Query(photo_id=one.photo_id).matches(one)
    assert not Query(photo_id=photo_id + "k").matches(one)


@pytest.mark.parametrize(
    "photo_id", ["photo-1", "k" * 129, "a/1/2", "\udcff", "\udcff" * 129, "\x1b", r"\x1b", "é", ""]
)
def test_no_letter_that_matches_is_left_unread(photo_id: str) -> None:
    """By any name of the photo, and as it is shown; whether its record had a key, none, a long or a binary one."""
    given = photo_id.encode(errors="surrogateescape")
    event = uploaded_json(photo_id=given.decode(errors="replace"))
    keys = [given, None, ORIGIN, b"sha256:" + sha256(given).hexdigest().encode(), b"\xff", b"other", b"\x1b"]
    records = [replace(dead(value=event), key=key) for key in keys]
    for each in records:
        one = Letter(each, FAILURE)
        for query in (Query(photo_id=name) for name in (photo_id, one.photo_id, printable(one.photo_id))):
            assert query.may_match(each) or not query.matches(one)
    assert Query(photo_id=photo_id).may_match(note("0/0"))


def test_letters_of_other_photos_are_left_unread() -> None:
    assert not Query(photo_id="photo-2").may_match(dead())
    assert Query(reason="http_4xx").may_match(dead())


OMITTED = replace(FAILURE, value_omitted=True)
DIGEST = ("value_sha256", sha256(b"{").hexdigest().encode())


@pytest.mark.parametrize(
    ("key", "headers", "original", "same"),
    [
        (b"photo-1", (DIGEST,), Record("up", 2, 41, b"photo-1", b"{"), True),
        (ORIGIN, (DIGEST,), Record("up", 2, 41, None, b"{"), True),
        (b"sha256:" + sha256(b"k" * 999).hexdigest().encode(), (DIGEST,), Record("up", 2, 41, b"k" * 999, b"{"), True),
        (b"photo-1", (), Record("up", 2, 41, b"photo-1", b"["), True),
        (b"photo-1", (DIGEST,), Record("up", 2, 41, b"photo-1", b"["), False),
        (b"photo-1", (DIGEST,), Record("up", 2, 41, b"photo-1", b"{}"), False),
        (b"photo-1", (DIGEST,), Record("up", 2, 41, b"photo-2", b"{"), False),
        (b"photo-1", (DIGEST,), Record("up", 2, 41, None, b"{"), False),
        (ORIGIN, (DIGEST,), Record("up", 2, 41, b"photo-1", b"{"), False),
    ],
)
def test_an_event_is_that_of_a_letter_by_key_size_and_digest(
    key: bytes, headers: Headers, original: Record, same: bool
) -> None:
    said = (*headers, *dead_headers(FAILURE), ("value_omitted_bytes", b"1"))
    assert redrive.is_of(Letter(replace(dead(), key=key, value=None, headers=said), OMITTED), original) is same


def test_only_what_waits_is_sent_again() -> None:
    states: list[State] = ["waiting", "redriven", "failed_again", "succeeded"]
    listed = [Listed(letter(attempt=number), state) for number, state in enumerate(states)]
    assert dead_letters.to_redrive(listed, again=False) == [listed[0].letter]
    assert dead_letters.to_redrive(listed, again=True) == [listed[0].letter, listed[1].letter]
