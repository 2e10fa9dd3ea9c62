"""`photo-tagger dlq`: list, show and redrive dead letters."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.table import Table

from consumer import events, settings
from consumer.cli.console import Exit, echo_json, err, explained, out, progress_bar
from consumer.cli.times import parse_time
from consumer.errors import REASONS, SettingsError

if TYPE_CHECKING:
    from consumer.operations.dead_letters import Listed, Query

app = typer.Typer(help="Look at dead letters and send them again.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="only with this reason, such as http_5xx")]
Photo = Annotated[str | None, typer.Option(help="only of this photo id")]
Since = Annotated[str | None, typer.Option(help="only from this time on: 2026-11-21T10:00:00Z or 2h (ago)")]
Until = Annotated[str | None, typer.Option(help="only before this time, in the same forms")]


@app.command(name="list")
def list_(reason: Reason = None, photo: Photo = None, since: Since = None, until: Until = None) -> None:
    """List dead letters, oldest first; JSON lines in a pipe."""
    from consumer.operations.dead_letters import list_letters  # noqa: PLC0415 - `--help` must not load Kafka

    with explained():
        listed = list_letters(settings.load(), _query(reason, photo, since, until))
    if not out.is_terminal:
        for each in listed:
            echo_json(_fields(each))
        return
    table = Table("id", "time", "photo", "reason", "detail", "attempts", "state", box=None, header_style="bold")
    for each in listed:
        failure = each.letter.failure
        when = events.format_time(failure.failed_at)
        row = (each.letter.letter_id, when, each.letter.photo_id, failure.reason, failure.detail)
        table.add_row(*row, str(failure.attempt), each.state)
    out.print(table)


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="partition/offset, as `dlq list` shows it")],
) -> None:
    """Show one dead letter with its headers and its payload. Exit code 6 where there is none."""
    from consumer.operations.dead_letters import find_letter  # noqa: PLC0415 - as in `list_`

    with explained():
        found = find_letter(settings.load(), letter_id)
    if found is None:
        err.print(f"no dead letter {letter_id}", style="yellow", markup=False)
        raise typer.Exit(Exit.NOT_FOUND)
    record = found.letter.record
    headers = [[name, _text(value)] for name, value in record.headers]
    try:
        payload = orjson.loads(record.value or b"")
    except ValueError:
        payload = _text(record.value)
    echo_json({**_fields(found), "headers": headers, "payload": payload}, indent=out.is_terminal)


@app.command()
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
    from consumer.operations.dead_letters import list_letters, redrive, to_redrive  # noqa: PLC0415 - as in `list_`

    with explained():
        loaded = settings.load()
        letters = to_redrive(list_letters(loaded, _query(reason, photo, since, until)), again=again)
        if execute:
            with progress_bar("sending again") as progress:
                redrive(loaded, letters, rate, progress)
    reasons = Counter(letter.failure.reason for letter in letters)
    if out.is_terminal:
        parts = ", ".join(f"{count} {name}" for name, count in sorted(reasons.items())) or "none"
        out.print(f"{'sent again' if execute else 'would send again'}: {parts}", highlight=False)
        if letters and not execute:
            out.print("This was a dry run; --execute sends them.")
        return
    echo_json({"executed": execute, "letters": len(letters), "reasons": dict(sorted(reasons.items()))})


def _query(reason: str | None, photo: str | None, since: str | None, until: str | None) -> "Query":
    from consumer.operations.dead_letters import Query  # noqa: PLC0415 - as in `list_`

    if reason is not None and reason not in REASONS:
        raise SettingsError(f"unknown reason {reason!r}: use one of {', '.join(REASONS)}")
    begin, end = (None if text is None else parse_time(text) for text in (since, until))
    return Query(reason, photo, begin, end)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


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
