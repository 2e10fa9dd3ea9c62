"""`photo-tagger rebuild` and `sweep`: what mends Redis."""

import asyncio
import sys
from typing import Annotated

import orjson
import typer

from consumer import settings
from consumer.cli.console import Exit, err, explained, out, progress_bar

app = typer.Typer()


@app.command()
def rebuild(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="compare only; exit code 1 where Redis lacks something")
    ] = False,
) -> None:
    """Restore Redis from the result topic; a live service may run meanwhile, nothing goes back."""
    from consumer.operations import rebuild as rebuilding  # noqa: PLC0415 - `--help` must not load Kafka
    from consumer.telemetry import configure_logging  # noqa: PLC0415 - as above

    with explained():
        loaded = settings.load()
        log = configure_logging("warning" if err.is_terminal else loaded.log.level, loaded.log.format, sys.stderr)
        with progress_bar("comparing" if check else "rebuilding") as progress:
            work = (
                rebuilding.check(loaded, log, progress, _echo_difference)
                if check
                else rebuilding.rebuild(loaded, log, progress)
            )
            result = asyncio.run(work)
    if out.is_terminal:
        parts = ", ".join(f"{count} {outcome}" for outcome, count in result.outcomes.items())
        rate = result.records / max(result.duration_s, 0.001)
        skipped = f", {result.malformed} malformed and skipped" if result.malformed else ""
        out.print(f"{result.records} records, {rate:.0f} photos/s: {parts or 'nothing in the topic'}{skipped}")
    else:
        typer.echo(orjson.dumps(result).decode())
    if check and result.outcomes.keys() - {"same"}:
        raise typer.Exit(Exit.FAILED)


@app.command()
def sweep(
    *,
    execute: Annotated[
        bool, typer.Option("--execute", help="remove or repair what is wrong; else only list it")
    ] = False,
) -> None:
    """Find entries of the brand indexes whose photo does not say so; a live service may run meanwhile."""
    from consumer.operations.sweep import sweep as sweep_indexes  # noqa: PLC0415 - as above

    with explained():
        result = sweep_indexes(
            **settings.load().redis.model_dump(),
            execute=execute,
            found=lambda entry: err.print(f"wrong: {entry.brand}  {entry.photo_id}", markup=False, highlight=False),
        )
    if out.is_terminal:
        done = ", ".join(f"{count} {outcome}" for outcome, count in result.outcomes.items())
        out.print(f"{result.entries} entries, {result.orphans} wrong" + (f": {done}" if done else ""))
    else:
        typer.echo(orjson.dumps(result).decode())


def _echo_difference(photo_id: str, difference: str) -> None:
    line = (
        f"{difference}  {photo_id}"
        if out.is_terminal
        else orjson.dumps({"photo_id": photo_id, "difference": difference}).decode()
    )
    typer.echo(line)
