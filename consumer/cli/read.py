"""`photo-tagger tags`, `find`, `brands`: what Redis says of photos."""

import asyncio
from dataclasses import asdict
from functools import cache
from typing import Annotated

import typer
from rich.table import Table

from consumer import events, settings
from consumer.cli.asking import asks
from consumer.cli.console import Exit, columns, echo_json, err, explained, out
from consumer.cli.times import parse_time
from consumer.events import Tags

app = typer.Typer()


@app.command()
@asks
def tags(
    photo_ids: Annotated[list[str], typer.Argument(help="one id or many")],
    wait_s: Annotated[
        float, typer.Option("--wait-s", "--wait", help="seconds to wait until all have tags", min=0)
    ] = 0.0,
) -> None:
    """Show the tags of photos; JSON lines in a pipe. Exit code 6 if one has none."""
    from consumer.operations.status import await_tags  # noqa: PLC0415 - `--help` must not load Kafka

    with explained():
        found, rejected = await_tags(settings.load(), photo_ids, wait_s, cache(_warn))
    rows = [found[photo_id] for photo_id in photo_ids if photo_id in found]
    if not out.is_terminal:
        for row in rows:
            echo_json(row)
    elif rows:
        out.print(_tags_table(rows))
    for photo_id, why in rejected.items():
        err.print(f"no tags, but a dead letter: {photo_id}: {why}", style="yellow")
    missing = [photo_id for photo_id in photo_ids if photo_id not in found]
    if unknown := [photo_id for photo_id in missing if photo_id not in rejected]:
        err.print(f"no tags: {', '.join(unknown)}; why: photo-tagger status ID", style="yellow")
    if missing:
        raise typer.Exit(Exit.NOT_FOUND)


@app.command()
@asks
def find(
    brands: Annotated[
        list[str] | None, typer.Argument(help="brands as the model names them; without, good photos")
    ] = None,
    min_quality: Annotated[float, typer.Option(help="least quality score", min=0, max=1)] = 0.0,
    *,
    level: Annotated[int | None, typer.Option(help="of this quality level alone", min=1, max=5)] = None,
    since: Annotated[str | None, typer.Option(help="tagged since: 2026-11-21T10:00:00Z or 2h (ago)")] = None,
    limit: Annotated[int, typer.Option(help="most photos", min=1)] = 20,
    cursor: Annotated[str | None, typer.Option(help="goes on behind an earlier page, as that said")] = None,
) -> None:
    """List the best photos that show any of the brands, or the best of all good photos; best first.

    Where there are more, the last line on standard error has the cursor that goes on.
    """
    from consumer.operations.admin import brands_like, find_photos  # noqa: PLC0415 - as above

    wanted = list(dict.fromkeys(brands or ()))
    with explained():
        loaded = settings.load()
        moment = None if since is None else parse_time(since, option="--since")
        photos = find_photos(
            loaded, wanted, min_quality, level=level, since=moment, limit=limit, cursor=cursor, unreadable=_warn
        )
    if not photos and photos.cursor is None:
        narrowed = _narrowed(min_quality, level, since, cursor)
        for brand in wanted:
            err.print(_none_found(brand, narrowed, asyncio.run(brands_like(loaded, brand))), style="yellow")
        if not wanted:
            err.print(f"no good photo{narrowed}", style="yellow")
    for photo in photos:
        if out.is_terminal:
            shown = f"  {' · '.join(photo.brands)}" if photo.brands else ""
            out.print(f"{photo.quality:.3f}  {photo.level}/5  {photo.photo_id}{shown}")
        else:
            echo_json(asdict(photo))
    if photos.cursor is not None:
        err.print(f"more: --cursor {photos.cursor}")


@app.command()
@asks
def brands() -> None:
    """List the brands that photos show, with the number of photos of each, the most frequent first.

    They are those of the index in Redis: a brand that the model knows and no photo shows is not among them.
    """
    from consumer.operations.admin import count_brands  # noqa: PLC0415 - as above

    with explained():
        counts = count_brands(settings.load(), _warn)
    if not counts:
        err.print("no photo shows a brand", style="yellow")
    width = len(f"{max(counts.values(), default=0):,}")
    for brand, count in counts.items():
        if out.is_terminal:
            out.print(f"{count:>{width},}  {brand}")
        else:
            echo_json({"brand": brand, "photos": count})


def _narrowed(min_quality: float, level: int | None, since: str | None, cursor: str | None) -> str:
    """What else an answer is empty for."""
    parts = [
        f"of a quality of {min_quality:g} or more" if min_quality else "",
        f"of level {level}" if level is not None else "",
        f"tagged since {since}" if since is not None else "",
        "behind this cursor" if cursor is not None else "",
    ]
    return "".join(f" {part}" for part in parts if part)


def _none_found(brand: str, narrowed: str, like: list[str] | None) -> str:
    """Why there is no photo of a brand."""
    if like is None or like == [brand]:
        return f"no photo{narrowed} shows {brand}"
    names = f", but {', '.join(like)}" if like else ""
    return f"no photo shows {brand}: the served model does not know this brand{names}"


def _warn(detail: str) -> None:
    err.print(f"unreadable: {detail}", style="yellow")


def _tags_table(rows: list[Tags]) -> Table:
    table = columns("photo", "quality", "good", "brands", "models", "tagged at")
    for row in rows:
        shown = " · ".join(f"{brand.brand} {brand.probability:.2f}" for brand in row.brands) or "none"
        models = ", ".join(f"{name} {number}" for name, number in row.models.items())
        quality = f"{row.quality.level}/5 ({row.quality.score:.2f})"
        good = "yes" if row.quality.good else "no"
        table.add_row(row.photo_id, quality, good, shown, models, events.format_time(row.tagged_at, "seconds"))
    return table
