"""Times as people write them on a command line. Pure."""

from datetime import UTC, datetime, timedelta

from consumer.errors import SettingsError
from consumer.events import format_time


def check_range(begin: datetime | None, end: datetime | None, *, option: str) -> None:
    """Refuses a range in which nothing can be.

    Raises:
        SettingsError: it ends before it begins; the message names the `option` of its end.
    """
    if begin is not None and end is not None and end <= begin:
        ends = f"the range ends at {format_time(end)}, before it begins at {format_time(begin)}"
        raise SettingsError(ends, setting=option)


def parse_time(text: str, now: datetime | None = None, *, option: str = "") -> datetime:
    """A time with a zone: RFC 3339, `now`, `beginning`, or an age such as `90s`, `15m`, `2h`, `3d`.

    Raises:
        SettingsError: none of these; the message names the `option` of the command line.
    """
    now = now or datetime.now(UTC)
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if text == "now":
        return now
    if text == "beginning":
        return datetime(1970, 1, 1, tzinfo=UTC)
    try:
        if text[:-1].isdecimal() and text[-1] in units:
            return now - timedelta(**{units[text[-1]]: int(text[:-1])})
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.astimezone()
    except (ValueError, OverflowError):
        forms = "use 2026-11-21T10:00:00Z, 2h, now or beginning"
        raise SettingsError(f"{text!r} is not a time: {forms}", setting=option) from None
