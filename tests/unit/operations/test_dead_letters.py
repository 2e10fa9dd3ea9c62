from dataclasses import replace
from datetime import timedelta

import pytest

from consumer.events import Headers, Record, Source
from consumer.kafka.headers import REDRIVEN, Failure, dead_headers
from consumer.operations import dead_letters
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


def test_only_what_waits_and_has_its_value_is_sent_again() -> None:
    lost = Letter(dead(), replace(FAILURE, value_omitted=True))
    listed = [
        Listed(letter(), "waiting"),
        Listed(letter(), "redriven"),
        Listed(letter(), "succeeded"),
        Listed(lost, "waiting"),
    ]
    assert dead_letters.to_redrive(listed, again=False) == [listed[0].letter]
    assert dead_letters.to_redrive(listed, again=True) == [listed[0].letter, listed[1].letter]
