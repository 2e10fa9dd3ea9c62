from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.events import Headers, Record, Source
from consumer.kafka.headers import (
    DEAD_HEADERS,
    DEFERRED_BY,
    LONGEST_WAIT,
    MOST_AHEAD,
    RETRY_HEADERS,
    VALUE_OMITTED,
    Delivery,
    Failure,
    dead_headers,
    delivery_of,
    failure_of,
    redriven_headers,
    retried_delivery_of,
    retry_headers,
)
from consumer.resilience import Deferral, RetrySchedule
from tests.fakes import MOMENT, World, record

DEFERRAL = Deferral("http_5xx", "busy: \u7834", 4, 1, MOMENT, Source("photo-uploads", 2, 41))
FAILURE = Failure("http_5xx", "busy", 8, Source("photo-uploads", 2, 41), MOMENT)
NAMES = st.sampled_from(["a", "reason", "attempt", "round", "not_before", "failed_at", "original_topic", DEFERRED_BY])
ANY_HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=5)), max_size=12).map(tuple)


def read(one: Record) -> Delivery:
    return retried_delivery_of(one, World().delivery(one).owner)


def waiting(one: Record, deferral: Deferral) -> Record:
    return replace(one, topic="retry", offset=7, headers=retry_headers(read(one).sent, deferral))


@given(ANY_HEADERS, st.sampled_from(["", f"00-{1:032x}-{2:016x}-01"]))
def test_the_senders_headers_come_back_whole_after_any_number_of_rounds(headers: Headers, by: str) -> None:
    one = record(headers=headers)
    for number in (1, 2, 3):
        one = waiting(one, replace(DEFERRAL, round=number, by=by))
        assert read(one).deferral == replace(DEFERRAL, round=number, by=by)
        assert read(one).sent == headers
    named = bool(by) or (bool(headers) and headers[-1][0] == DEFERRED_BY)
    assert len(one.headers) == len(headers) + named + len(RETRY_HEADERS)


def test_a_version_without_traces_takes_what_deferred_a_record_for_a_header_of_the_sender_and_loses_nothing() -> None:
    one = waiting(record(headers=(("a", b"1"),)), replace(DEFERRAL, by="00-1-2-01"))
    assert [name for name, _ in one.headers] == ["a", DEFERRED_BY, *RETRY_HEADERS]


def test_the_origin_is_the_first_record_and_not_the_one_that_waited() -> None:
    assert read(record(offset=3)).origin == Source("photo-uploads", 0, 3)
    assert read(waiting(record(), DEFERRAL)).origin == DEFERRAL.origin


def test_outside_the_retry_topic_the_headers_of_a_wait_are_the_senders() -> None:
    one = waiting(record(), DEFERRAL)
    delivery = delivery_of(one, World().delivery(one).owner)
    assert delivery.deferral is None
    assert delivery.sent == one.headers
    assert delivery.origin == Source("retry", 0, 7)


@pytest.mark.parametrize("name", ["attempt", "round", "not_before", "original_offset"])
def test_headers_that_only_look_like_ours_are_the_senders(name: str) -> None:
    headers = tuple((each, b"x" if each == name else value) for each, value in waiting(record(), DEFERRAL).headers)
    one = record(headers=headers)
    assert read(one).deferral is None
    assert read(one).sent == headers


def test_a_time_without_a_zone_is_utc() -> None:
    headers = [
        (name, b"2026-11-21T10:15" if name == "not_before" else value)
        for name, value in waiting(record(), DEFERRAL).headers
    ]
    deferral = read(record(headers=tuple(headers))).deferral
    assert deferral is not None
    assert deferral.not_before == datetime(2026, 11, 21, 10, 15, tzinfo=UTC)


@given(ANY_HEADERS, st.booleans())
def test_a_dead_letter_is_read_as_it_was_written_and_redriven_as_it_was_sent(headers: Headers, omitted: bool) -> None:
    added = dead_headers(FAILURE)
    if omitted:
        assert failure_of((*added, (VALUE_OMITTED, b"9"))) == replace(FAILURE, value_omitted=True)
    assert failure_of((*headers, *added)) == FAILURE
    assert redriven_headers(headers, Source("dead", 0, 5)) == (
        *headers,
        ("redriven_from", b"dead/0/5"),
    )


def test_only_the_last_redrive_is_named() -> None:
    once = redriven_headers((("a", b"1"),), Source("dead", 0, 5))
    twice = redriven_headers(once, Source("dead", 0, 9))
    assert twice == (("a", b"1"), ("redriven_from", b"dead/0/9"))


def test_a_record_of_another_kind_is_no_dead_letter() -> None:
    assert failure_of(()) is None
    assert failure_of((("redriven", b"0/1"),)) is None


@pytest.mark.parametrize("count", [1_000_000, 1_000_001, 10**9, 10**400])
def test_a_count_beyond_what_is_believed_is_written_as_the_highest(count: int) -> None:
    failure = failure_of(dead_headers(replace(FAILURE, attempt=count)))
    assert failure is not None
    assert failure.attempt == 1_000_000
    deferral = read(waiting(record(), replace(DEFERRAL, attempt=count, round=count))).deferral
    assert deferral is not None
    assert (deferral.attempt, deferral.round) == (1_000_000, 1_000_000)


@given(st.integers(1, 8), st.lists(st.floats(0.1, 1000), min_size=1, max_size=4), st.floats(0, 1))
def test_a_record_waits_as_often_as_the_rounds_say_and_never_shorter_than_its_delay(
    rounds: int, delays_s: list[float], jitter: float
) -> None:
    schedule = RetrySchedule(rounds, tuple(delays_s))
    before: Deferral | None = None
    for number in range(1, rounds + 1):
        later = schedule.next_after(before, MOMENT, jitter)
        assert later is not None
        delay_s = delays_s[min(number, len(delays_s)) - 1]
        assert later[0] == number
        tick = timedelta(microseconds=2)
        assert timedelta(seconds=delay_s) - tick <= later[1] - MOMENT <= timedelta(seconds=delay_s * 1.1) + tick
        before = replace(DEFERRAL, round=number)
    assert schedule.next_after(before, MOMENT, jitter) is None


def test_without_rounds_nothing_waits() -> None:
    assert RetrySchedule(0, (1.0,)).next_after(None, MOMENT, 0.0) is None


HOSTILE = {
    "attempt": [b"-1", b"+1", b" 1", b"1_0", "\u0661".encode(), b"1.0", b"9" * 4_300, b"9" * 5_000, b"1000001", b""],
    "round": [b"-9", b"9" * 4_300, b"1e3", b"\xff"],
    "not_before": [
        b"",
        b"tomorrow",
        b"0001-01-01T00:00:00+23:59",
        b"9" * 4_300,
        b"9999-12-31T23:59:59Z",
        b"9999-12-31T23:59:59-23:59",
    ],
    "original_topic": [b"", b"a/b", b"\xff", b"t" * 250, b"\x1b[2J", b"t\n"],
    "original_partition": [b"-1", b"2147483648", b"0x1"],
    "original_offset": [b"-1", b"9223372036854775808", b"9" * 5_000],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HOSTILE.items() for value in values])
def test_a_retry_header_that_the_service_cannot_have_written_is_the_senders(name: str, value: bytes) -> None:
    honest = waiting(record(), DEFERRAL).headers
    one = record(headers=tuple((each, value if each == name else text) for each, text in honest))
    assert read(one).deferral is None
    assert read(one).sent == one.headers
    assert read(one).origin == Source("photo-uploads", 0, 0)


@pytest.mark.parametrize(
    "ahead", [LONGEST_WAIT * 1.1, MOST_AHEAD - timedelta(minutes=1), MOST_AHEAD + timedelta(minutes=1)]
)
def test_no_record_waits_for_longer_than_the_service_lets_one_wait(ahead: timedelta) -> None:
    deferral = replace(DEFERRAL, not_before=datetime.now(UTC).replace(microsecond=0) + ahead)
    assert read(waiting(record(), deferral)).deferral == (deferral if ahead < MOST_AHEAD else None)


@given(st.tuples(*[st.none() | st.binary(max_size=30) | st.text(max_size=30).map(str.encode)] * len(RETRY_HEADERS)))
def test_nothing_in_the_headers_raises_and_what_is_believed_can_be_written_again(values: tuple[bytes | None]) -> None:
    one = record(headers=tuple(zip(RETRY_HEADERS, values, strict=True)))
    deferral = read(one).deferral
    if deferral is not None:
        assert read(waiting(one, deferral)).deferral == deferral


@given(st.tuples(*[st.none() | st.binary(max_size=30)] * len(DEAD_HEADERS)))
def test_nothing_in_the_headers_of_a_dead_letter_raises(values: tuple[bytes | None]) -> None:
    failure = failure_of(tuple(zip(DEAD_HEADERS, values, strict=True)))
    assert failure is None or failure.attempt >= 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempt", b"9" * 4_300),
        ("attempt", b"-1"),
        ("failed_at", b"9999-12-31T23:59:59-23:59"),
        ("original_offset", b"x"),
    ],
)
def test_a_record_with_impossible_headers_is_no_dead_letter(name: str, value: bytes) -> None:
    assert failure_of(tuple((each, value if each == name else text) for each, text in dead_headers(FAILURE))) is None
