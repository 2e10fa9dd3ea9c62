from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.cli.times import check_range, parse_time
from consumer.errors import SettingsError

NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("beginning", datetime(1970, 1, 1, tzinfo=UTC)),
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("0s", NOW),
        ("2026-11-21T10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21T12:00:00+02:00", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21T10:00:00.250Z", datetime(2026, 11, 21, 10, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_every_documented_form_is_a_time(text: str, moment: datetime) -> None:
    assert parse_time(text, NOW) == moment


@pytest.mark.parametrize("text", ["2026-11-21", "2026-11-21T10:00:00", "2026-11-21 10:00"])
def test_a_time_without_a_zone_is_local_time(text: str) -> None:
    parsed = parse_time(text, NOW)
    assert parsed.tzinfo is not None
    assert parsed == datetime.fromisoformat(text).astimezone()


def test_ages_are_counted_from_now() -> None:
    before, parsed, after = datetime.now(UTC), parse_time("1h"), datetime.now(UTC)
    assert before <= parsed + timedelta(hours=1) <= after


@pytest.mark.parametrize(
    "text", ["", " ", "h", "2", "2w", "-2h", "1.5h", "²h", "tomorrow", "Now", "2026-13-01", "10:00"]
)
def test_anything_else_is_an_error_that_shows_the_forms(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_time(text, NOW)
    assert repr(text) in str(caught.value)
    assert "2026-11-21T10:00:00Z" in str(caught.value)


def test_the_option_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^--from: 'soon' is not a time"):
        parse_time("soon", option="--from")


@given(st.text(max_size=12).filter(lambda text: not text[:-1].isdecimal() and "000" not in text))
def test_no_text_raises_anything_but_a_settings_error(text: str) -> None:
    try:
        parsed = parse_time(text, NOW)
    except SettingsError:
        return
    assert parsed.tzinfo is not None


@pytest.mark.parametrize("text", ["9999999d", "99999999999d", "9" * 30 + "s"])
def test_a_time_before_the_calendar_is_a_settings_error(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_time(text, NOW)


def test_both_ends_of_a_range_that_is_none_are_told_in_one_zone() -> None:
    begin, end = parse_time("2026-11-21T10:00:00+05:00"), parse_time("2026-11-21T02:00:00Z")
    with pytest.raises(SettingsError, match=r"ends at 2026-11-21T02:00:00\.000Z, before it begins at 2026-11-21T05:00"):
        check_range(begin, end, option="--to")
