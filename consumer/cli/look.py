"""`photo-tagger ready`, `lag`, `status`: whether the service tags, how far behind it is, all about one photo."""

import asyncio
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final

import typer

from consumer import events, settings
from consumer.cli.asking import asks
from consumer.cli.console import Exit, columns, echo_json, err, explained, out, pairs
from consumer.errors import SettingsError
from consumer.events import Tags

if TYPE_CHECKING:
    from consumer.operations.status import Status, Unfinished

app = typer.Typer()

_ASKED_S: Final = 5.0
_AGAIN_S: Final = 0.5
#: Where a service that listens on every address is reached from its own machine.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - it is compared


@app.command()
@asks
def lag() -> None:
    """Show how far the service is behind, by partition, with the age of the oldest unfinished record."""
    from consumer.operations.lag import lag as lag_of  # noqa: PLC0415 - `--help` must not load Kafka

    with explained():
        loaded = settings.load()
        rows = lag_of(loaded)
    if all(row.committed is None for row in rows):
        told = f"group {loaded.kafka.group_id} has committed nothing: it never ran here, or kafka.group_id is another"
        err.print(told, style="yellow")
    if not out.is_terminal:
        for row in rows:
            echo_json(row)
        return
    table = columns("topic", "partition", "committed", "end", "lag", "oldest", names=2)
    for row in rows:
        committed = "nothing" if row.committed is None else str(row.committed)
        oldest = "" if row.oldest_age_s is None else f"{row.oldest_age_s:,.1f} s"
        table.add_row(row.topic, str(row.partition), committed, str(row.end), str(row.lag), oldest)
    out.print(table)
    out.print(f"{sum(row.lag for row in rows):,} records behind, group {rows[0].group}")


@app.command()
@asks
def ready(
    wait_s: Annotated[float, typer.Option("--wait-s", "--wait", help="seconds to wait until it is", min=0)] = 0.0,
) -> None:
    """Ask the service on this machine whether it can tag photos now. Exit code 5 if not, with what it waits for."""
    with explained():
        health = settings.load().health
        if not health.enabled:
            raise SettingsError("it is false: nothing answers", setting="health.enabled")
        host = _LOOPBACK.get(health.host, health.host)
    why = asyncio.run(_not_ready(f"http://{_bracketed(host)}:{health.port}/ready", wait_s))
    if not out.is_terminal:
        echo_json({"ready": why is None, "waiting_for": why})
    elif why is None:
        out.print("ready")
    if why is not None:
        err.print(f"not ready: {why}", style="yellow")
        raise typer.Exit(Exit.DEPENDENCY)


async def _not_ready(url: str, wait_s: float) -> str | None:
    """What the service still waits for after some seconds; None as soon as it waits for nothing."""
    import aiohttp  # noqa: PLC0415 - as in `lag`

    deadline_s, timeout = monotonic() + wait_s, aiohttp.ClientTimeout(total=_ASKED_S)
    while True:
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                found = await answer.json()
            if not (waiting := [str(each) for each in found["waiting_for"]]):
                return None
            why = "; ".join(waiting)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            why = f"{url} gives no answer of a service: {error or type(error).__name__}"
        if monotonic() >= deadline_s:
            return why
        await asyncio.sleep(_AGAIN_S)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@app.command()
@asks
def status(
    photo_id: Annotated[str, typer.Argument(help="photo id")],
) -> None:
    """Show all that is known of one photo: tags, waits, dead letters. Exit code 6 if it was never seen."""
    from consumer.operations.status import status as status_of  # noqa: PLC0415 - as in `lag`

    with explained():
        found = status_of(settings.load(), photo_id)
    if out.is_terminal:
        out.print(pairs(_rows(found)))
    else:
        echo_json(found)
    if found.state == "not_seen":
        raise typer.Exit(Exit.NOT_FOUND)


def _rows(found: "Status") -> Iterator[tuple[str, str]]:
    yield "photo", found.photo_id
    yield "state", found.state.replace("_", " ")
    present = found.in_force
    if isinstance(present, Tags):
        brands = ", ".join(f"{brand.brand} {brand.probability:.2f}" for brand in present.brands) or "none"
        models = ", ".join(f"{name} {number}" for name, number in present.models.items())
        yield "quality", f"{present.quality.level}/5 ({present.quality.score:.2f})"
        yield "brands", brands
        yield "judged by", f"release {found.release}: {models}"
        yield "tagged at", events.format_time(present.tagged_at, "seconds")
    elif present is not None:
        yield "deleted at", events.format_time(present.deleted_at)
    if present is not None:
        yield "record", f"{events.format_source(present.source)}, version {present.version}"
    for each in found.waiting:
        yield "waits", _wait(each)
    for each in found.queued:
        yield "queued", f"{each.place}, sent at {events.format_time(each.sent_at)}: the service has not finished it"
    for letter in found.letters:
        when = events.format_time(letter.failed_at)
        yield "dead letter", f"{letter.letter_id}, {letter.state}, {when}: {letter.reason}: {letter.detail}"
    if found.state == "not_seen":
        yield "", "no tags, no record that waits or is unread, no dead letter: was it sent, and to this cluster?"


def _wait(each: "Unfinished") -> str:
    until = "" if each.until is None else f"until {events.format_time(each.until)}, "
    return f"{until}after {each.attempts} attempts: {each.reason}: {each.detail} ({each.place})"
