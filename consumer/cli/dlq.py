"""`photo-tagger dlq`: list, show and redrive dead letters."""

from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer

from consumer import events, settings
from consumer.cli.asking import asks
from consumer.cli.console import Exit, columns, echo_json, err, explained, out, progress_bar, shortened
from consumer.cli.times import check_range, parse_time
from consumer.errors import REASONS, SettingsError
from consumer.service.signals import noted_stop_signals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.operations.dead_letters import Listed, Query

app = typer.Typer(help="Look at dead letters and send them again.", no_args_is_help=True)

#: Letters on one screen.
_SCREEN: Final = 100
#: Characters of what a row shows, in the table alone. No photo has a longer id, and no reason of ours is as long.
_LONGEST_ID: Final = 200
_LONGEST_REASON: Final = 40
_LONGEST_DETAIL: Final = 160

Reason = Annotated[str | None, typer.Option(help="only with this reason, such as http_5xx")]
Photo = Annotated[str | None, typer.Option(help="only of this photo id, as `dlq list` shows it")]
Since = Annotated[str | None, typer.Option(help="only from this time on: 2026-11-21T10:00:00Z or 2h (ago)")]
Until = Annotated[str | None, typer.Option(help="only before this time, in the same forms")]


@app.command(name="list")
@asks
def list_(
    reason: Reason = None,
    photo: Photo = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[
        int | None,
        typer.Option(help="the newest so many, 0 for all; by default 100 on a terminal", min=0),
    ] = None,
) -> None:
    """List dead letters, oldest first; JSON lines in a pipe. A long detail is cut: `dlq show ID` and --json have it."""
    from consumer.operations.dead_letters import list_letters  # noqa: PLC0415 - `--help` must not load Kafka

    with explained():
        most = (_SCREEN if out.is_terminal else 0) if limit is None else limit
        loaded = settings.load()
        listing = list_letters(loaded, _query(reason, photo, since, until), most)
    if not listing.letters:
        chosen = " like these" if any((reason, photo, since, until)) else ""
        err.print(f"no dead letters{chosen} in {loaded.kafka.dead_topic}", style="yellow")
    if not out.is_terminal:
        for each in listing.letters:
            echo_json(_fields(each))
        return
    if not listing.letters:
        return
    table = columns("id", "photo", "time", "reason", "detail", "attempts", "state", names=2)
    for each in listing.letters:
        table.add_row(*_row(each))
    out.print(table)
    if len(listing.letters) < listing.total:
        out.print(f"The newest {len(listing.letters)} of {listing.total}; --limit 0 lists all.")


@app.command()
@asks
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="partition/offset, as `dlq list` shows it")],
) -> None:
    """Show one dead letter with its headers and its payload. Exit code 6 where there is none."""
    from consumer.operations.dead_letters import find_letter  # noqa: PLC0415 - as in `list_`

    with explained():
        found = find_letter(settings.load(), letter_id)
    if found is None:
        err.print(f"no dead letter {letter_id}", style="yellow")
        raise typer.Exit(Exit.NOT_FOUND)
    record = found.letter.record
    headers = [[name, _text(value)] for name, value in record.headers]
    fields = _fields(found)
    if found.state != "succeeded":
        # One record is read, and what became of it stands in later ones.
        del fields["state"], fields["redriven_at"]
    echo_json({**fields, "headers": headers, "payload": _payload(record.value)}, indent=out.is_terminal)


@app.command()
@asks
def retry(
    reason: Reason = None,
    photo: Photo = None,
    since: Since = None,
    until: Until = None,
    rate: Annotated[float, typer.Option(help="most photos a second", min=0.01, max=1000)] = 10.0,
    *,
    again: Annotated[bool, typer.Option("--again", help="also those that were sent again before")] = False,
    execute: Annotated[bool, typer.Option("--execute", help="send them; without it nothing is sent")] = False,
) -> None:
    """Send dead letters to the upload topic again, as first sent; without --execute, print what would be sent."""
    from consumer.operations import dead_letters, redrive  # noqa: PLC0415 - as in `list_`

    with explained():
        loaded = settings.load()
        listing = dead_letters.list_letters(loaded, _query(reason, photo, since, until))
        sends = redrive.events_of(loaded, dead_letters.to_redrive(listing.letters, again=again))
        done = redrive.Result([letter for letter, _ in sends.records])
        if execute:
            with noted_stop_signals() as stopping, progress_bar("sending again") as progress:
                done = redrive.send(loaded, sends, rate, progress, stopping)
    _tell(dead_letters.reasons_of(done.sent), len(sends.lost) + len(done.refused), executed=execute)
    if left := len(sends.records) - len(done.sent) - len(done.refused):
        err.print(f"interrupted: {left} are left, with which the same command goes on", style="yellow")
        raise typer.Exit(Exit.FAILED)


def _tell(reasons: "Mapping[str, int]", lost: int, *, executed: bool) -> None:
    """What was sent again, or would be."""
    letters = sum(reasons.values())
    if not out.is_terminal:
        echo_json({"executed": executed, "letters": letters, "reasons": reasons, "lost": lost})
        return
    parts = ", ".join(f"{count} {shortened(name, _LONGEST_REASON)}" for name, count in reasons.items()) or "none"
    out.print(f"{'sent again' if executed else 'would send again'}: {parts}")
    if lost:
        out.print(
            f"{lost} cannot be sent: they are too large for the upload topic, "
            "or were for the dead-letter topic and the upload topic has them no longer"
        )
    if letters and not executed:
        out.print("This was a dry run; --execute sends them.")


def _query(reason: str | None, photo: str | None, since: str | None, until: str | None) -> "Query":
    from consumer.operations.dead_letters import Query  # noqa: PLC0415 - as in `list_`

    if reason is not None and reason not in REASONS:
        raise SettingsError(f"unknown reason {reason!r}: use one of {', '.join(REASONS)}", setting="--reason")
    begin = None if since is None else parse_time(since, option="--since")
    end = None if until is None else parse_time(until, option="--until")
    check_range(begin, end, option="--until")
    return Query(reason, photo, begin, end)


def _payload(value: bytes | None) -> object:
    """The JSON in a value; its text where it has none, or one that is nested too deep to be printed."""
    try:
        payload: object = orjson.loads(value or b"")
        orjson.dumps({"payload": payload})
    except (ValueError, TypeError):
        return _text(value)
    return payload


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _row(listed: "Listed") -> tuple[str, ...]:
    """The cells of a letter. Any program can write to the topic: what one wrote at length fills no screen."""
    letter, failure = listed.letter, listed.letter.failure
    photo, reason = shortened(letter.photo_id, _LONGEST_ID), shortened(failure.reason, _LONGEST_REASON)
    told = (events.format_time(failure.failed_at), reason, shortened(failure.detail, _LONGEST_DETAIL))
    return (letter.letter_id, photo, *told, str(failure.attempt), listed.state)


def _fields(listed: "Listed") -> dict[str, object]:
    letter, failure = listed.letter, listed.letter.failure
    return {
        "id": letter.letter_id,
        "time": events.format_time(failure.failed_at),
        "photo_id": letter.photo_id,
        "reason": failure.reason,
        "detail": failure.detail,
        "attempts": failure.attempt,
        "state": listed.state,
        "redriven_at": None if letter.redriven_at is None else events.format_time(letter.redriven_at),
        "original": events.format_source(failure.origin),
    }
