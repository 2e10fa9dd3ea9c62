"""`photo-tagger rebuild` and `sweep`: repairs of Redis."""

import asyncio
from typing import Annotated

import typer

from consumer import settings
from consumer.cli.asking import asks
from consumer.cli.console import Exit, echo_json, err, explained, job_log, out, progress_bar

app = typer.Typer()


@app.command()
@asks
def rebuild(
    *,
    check: Annotated[bool, typer.Option("--check", help="compare only; exit code 1 if Redis differs")] = False,
) -> None:
    """Restore Redis from the result topic, also while the service runs; no newer tags are overwritten.

    Exit code 1 where another program's key is in the place of a photo.
    """
    from consumer.operations import rebuild as rebuilding  # noqa: PLC0415 - `--help` must not load Kafka

    with explained():
        loaded = settings.load()
        with progress_bar("comparing" if check else "rebuilding") as progress:
            work = (
                rebuilding.check(loaded, job_log(loaded), progress, _echo_difference)
                if check
                else rebuilding.rebuild(loaded, job_log(loaded), progress)
            )
            result = asyncio.run(work)
    if out.is_terminal:
        parts = ", ".join(f"{count} {outcome}" for outcome, count in result.outcomes.items())
        rate = result.records / max(result.duration_s, 0.001)
        skipped = f", {result.malformed} malformed and skipped" if result.malformed else ""
        out.print(f"{result.records} records, {rate:.0f} photos/s: {parts or 'nothing in the topic'}{skipped}")
    else:
        echo_json(result)
    if result.outcomes.keys() & {"wrong type"} or (check and result.outcomes.keys() - {"same"}):
        raise typer.Exit(Exit.FAILED)


@app.command()
@asks
def sweep(
    *,
    execute: Annotated[
        bool, typer.Option("--execute", help="remove or repair wrong entries; without it they are only listed")
    ] = False,
) -> None:
    """Find entries of the indexes that contradict their photo's tags, also while the service runs."""
    from consumer.operations.sweep import sweep as sweep_indexes  # noqa: PLC0415 - as above

    with explained():
        result = sweep_indexes(
            **settings.load().redis.model_dump(),
            execute=execute,
            found=lambda entry: err.print(
                f"wrong: {'good photos' if entry.brand is None else entry.brand}  {entry.photo_id}"
            ),
        )
    if out.is_terminal:
        done = ", ".join(f"{count} {outcome}" for outcome, count in result.outcomes.items())
        out.print(f"{result.entries} entries, {result.orphans} wrong" + (f": {done}" if done else ""))
    else:
        echo_json(result)


def _echo_difference(photo_id: str, difference: str) -> None:
    if out.is_terminal:
        out.print(f"{difference}  {photo_id}")
    else:
        echo_json({"photo_id": photo_id, "difference": difference})
