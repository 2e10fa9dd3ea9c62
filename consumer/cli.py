"""`photo-tagger`: every verb that a user needs. Thin: it parses, calls, and prints."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from consumer import __version__, events, settings
from consumer.errors import ContractMismatch, DependencyDown, SettingsError, SourceFailed, TaggerError
from consumer.events import Tags

app = typer.Typer(
    name="photo-tagger",
    help="Tags uploaded photos with quality and brands: Kafka in, Triton, Redis and Kafka out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


class Exit(IntEnum):
    """Exit codes, for scripts."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SETTINGS = 3
    CONTRACT = 4
    DEPENDENCY = 5
    NOT_FOUND = 6


_CODES: dict[type[TaggerError], Exit] = {
    SettingsError: Exit.SETTINGS,
    ContractMismatch: Exit.CONTRACT,
    DependencyDown: Exit.DEPENDENCY,
    SourceFailed: Exit.DEPENDENCY,
}


@contextmanager
def _explained() -> Iterator[None]:
    """Turns our errors into one line and an exit code; anything else is a bug and keeps its traceback.

    Raises:
        Exit: with the code of the error.
    """
    try:
        yield
    except TaggerError as error:
        err.print(f"photo-tagger: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(_CODES.get(type(error), Exit.FAILED)) from None


@app.command()
def run() -> None:
    """Run the service until SIGTERM; every setting comes from the environment, tagger.toml or its default."""
    with _explained():
        loaded = settings.load()
        from consumer.app import run_live  # noqa: PLC0415 - `--help` must not load Kafka, Triton and Pillow
        from consumer.telemetry import configure_logging  # noqa: PLC0415 - as above

        asyncio.run(run_live(loaded, configure_logging(loaded.log.level, loaded.log.format)))


@app.command()
def config() -> None:
    """Print every setting with its value and where it comes from; secrets are masked."""
    with _explained():
        rows = settings.rows(settings.load())
    if not out.is_terminal:
        for row in rows:
            typer.echo(orjson.dumps(row).decode())
        return
    table = Table("setting", "value", "from", "meaning", box=None, header_style="bold")
    for row in rows:
        table.add_row(row.name, row.value, row.origin, row.description)
    out.print(table)
    out.print(f"\nSet one in the environment ({settings.variable_of('kafka.group_id')}) or in tagger.toml.")


@app.command()
def topics(
    partitions: Annotated[int, typer.Option(help="partitions of the upload and result topics", min=1)] = 4,
    replication: Annotated[int, typer.Option(help="copies of each partition", min=1)] = 1,
    wait_s: Annotated[float, typer.Option(help="seconds to wait for a cluster that is not there yet")] = 30.0,
) -> None:
    """Create the topics that are missing; existing ones stay as they are."""
    from consumer.admin import create_topics_patiently  # noqa: PLC0415 - as in `run`

    with _explained():
        created = create_topics_patiently(settings.load(), partitions, replication, wait_s)
    out.print(f"created {', '.join(created)}" if created else "all topics are there")


@app.command()
def send(
    uri: Annotated[str, typer.Argument(help="where the photo is: https://..., file:///...")],
    photo_id: Annotated[str | None, typer.Option("--id", help="photo id; the URI's last part by default")] = None,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="send photo.deleted for this id instead")] = False,
) -> None:
    """Publish one photo.uploaded event, as the upload pipeline would."""
    from consumer.admin import send_event  # noqa: PLC0415 - as in `run`

    name = photo_id or uri.rstrip("/").rsplit("/", 1)[-1]
    now = datetime.now(UTC)
    event = events.PhotoDeleted(name, now) if delete else events.PhotoUploaded(name, uri, now)
    with _explained():
        place = send_event(settings.load(), event)
    out.print(f"{name} sent to {place}; read its tags with: photo-tagger tags {name}", highlight=False)


@app.command()
def tags(
    photo_ids: Annotated[list[str], typer.Argument(help="one id or many")],
    wait_s: Annotated[float, typer.Option("--wait", help="seconds to wait until all have tags")] = 0.0,
) -> None:
    """Show the tags of photos; JSON lines in a pipe. Exit code 6 where one has none."""
    from consumer.admin import read_tags  # noqa: PLC0415 - as in `run`

    with _explained():
        found = read_tags(settings.load(), photo_ids, wait_s)
    if out.is_terminal:
        out.print(_tags_table([found[photo_id] for photo_id in photo_ids if photo_id in found]))
    else:
        for photo_id in photo_ids:
            if photo_id in found:
                typer.echo(events.encode(found[photo_id]).decode())
    missing = [photo_id for photo_id in photo_ids if photo_id not in found]
    if missing:
        err.print(f"no tags: {', '.join(missing)}", style="yellow", markup=False)
        raise typer.Exit(Exit.NOT_FOUND)


@app.command()
def find(
    brand: Annotated[str, typer.Argument(help="brand as the model names it")],
    min_quality: Annotated[float, typer.Option(help="least quality score", min=0, max=1)] = 0.0,
    limit: Annotated[int, typer.Option(help="most photos", min=1)] = 20,
) -> None:
    """List the best photos that show a brand."""
    from consumer.admin import find_photos  # noqa: PLC0415 - as in `run`

    with _explained():
        photos = find_photos(settings.load(), brand, min_quality, limit)
    for photo in photos:
        line = f"{photo.quality:.3f}  {photo.photo_id}" if out.is_terminal else orjson.dumps(photo).decode()
        typer.echo(line)


@app.command()
def replay(
    since: Annotated[str, typer.Option("--from", help="2026-11-21T10:00:00Z, 2h (ago) or beginning")],
    until: Annotated[str, typer.Option("--to", help="the same forms, or now")] = "now",
) -> None:
    """Tag the events of a time range again, in a group of its own; only newer versions change a tag."""
    from consumer.rescore import replay as replay_range  # noqa: PLC0415 - as in `run`
    from consumer.telemetry import configure_logging  # noqa: PLC0415 - as in `run`

    with _explained():
        begin, end = parse_time(since), parse_time(until)
        loaded = settings.load()
        log = configure_logging("warning" if err.is_terminal else loaded.log.level, loaded.log.format, sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
            task = bar.add_task("replaying", total=None)
            result = asyncio.run(
                replay_range(
                    loaded,
                    log,
                    since=begin,
                    until=end,
                    progress=lambda finished, total: bar.update(task, completed=finished, total=total),
                )
            )
    if out.is_terminal:
        parts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result.outcomes.items()))
        out.print(f"replayed {sum(result.outcomes.values())} of {result.total} records: {parts or 'nothing in range'}")
    else:
        typer.echo(orjson.dumps(result).decode())
    if not result.complete:
        raise typer.Exit(Exit.FAILED)


@app.command()
def schemas(
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path("docs/schemas"),
) -> None:
    """Write the JSON Schemas of the events."""
    from consumer.schemas import write_schemas  # noqa: PLC0415 - as in `run`

    for path in write_schemas(output):
        out.print(str(path), highlight=False)


@app.command()
def demo(
    photos: Annotated[Path | None, typer.Option(help="a folder of your own photos")] = None,
    output: Annotated[Path, typer.Option(help="where the gallery and the logs go")] = Path("demo-output"),
    kafka: Annotated[Literal["auto", "real", "mock"], typer.Option(help="auto: real where Java is there")] = "auto",
    *,
    keep: Annotated[bool, typer.Option("--keep", help="leave everything up until Ctrl-C, to look around")] = False,
) -> None:
    """Tag sample photos end to end on embedded servers, and write a gallery."""
    from consumer.demo.run import run_demo  # noqa: PLC0415 - as in `run`

    with _explained():
        raise typer.Exit(run_demo(photos, output, kafka=kafka, keep=keep))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """A time with a zone: RFC 3339, `now`, `beginning`, or an age such as `90s`, `15m`, `2h`, `3d`.

    Raises:
        SettingsError: none of these.
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
        raise SettingsError(f"{text!r} is no time: use 2026-11-21T10:00:00Z, 2h, now or beginning") from None


def _tags_table(rows: list[Tags]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("photo", "quality", "good", "brands", "models", "tagged at"):
        table.add_column(column, overflow="fold")
    for row in rows:
        brands = " · ".join(f"{brand.brand} {brand.probability:.2f}" for brand in row.brands) or "none"
        models = ", ".join(f"{name} {number}" for name, number in row.models.items())
        quality = f"{row.quality.level}/5 ({row.quality.score:.2f})"
        good = "yes" if row.quality.good else "no"
        table.add_row(row.photo_id, quality, good, brands, models, events.format_time(row.tagged_at))
    return table


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
