"""`photo-trainer trial`: people judge photos from the live result topic without knowing the model's answers."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from training.cli.console import err, explained, result_line
from training.errors import DataError, RecipeError

trial_app = typer.Typer(no_args_is_help=True, help="Let people judge photos of the live result topic, blind.")
Folder = Annotated[Path, typer.Argument(help="folder of the trial", show_default=False)]


@trial_app.command()
def sample(  # noqa: PLR0917 - each is an option of its own
    folder: Folder,
    kafka: Annotated[str, typer.Option(envvar="TAGGER_KAFKA__BOOTSTRAP_SERVERS", help="bootstrap servers")],
    topic: Annotated[str, typer.Option(envvar="TAGGER_KAFKA__TAGS_TOPIC", help="result topic")] = "photo-tags",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="photos to draw")] = 2000,
    picks: Annotated[int, typer.Option(min=1, help="of them, the model's best, to be judged")] = 85,
    controls: Annotated[int, typer.Option(min=0, help="photos that it did not pick, mixed in")] = 85,
    hours: Annotated[float | None, typer.Option(min=0, help="only photos tagged in the last so many hours")] = None,
    host: Annotated[list[str] | None, typer.Option(help="host[:port] to fetch photos from; repeatable")] = None,
    photos: Annotated[list[Path] | None, typer.Option("--folder", help="folder of file: photos; repeatable")] = None,
    extra: Annotated[
        str, typer.Option(envvar="TAGGER_KAFKA__EXTRA", help="further librdkafka settings, as JSON")
    ] = "{}",
    seed: Annotated[int, typer.Option(help="of the draw and of the order")] = 0,
) -> None:
    """Draw photos from the result topic and write a blind sheet to judge in a browser, and its key."""
    from training.trial import sheet  # noqa: PLC0415 - keeps --help fast
    from training.trial.photos import Places, collect  # noqa: PLC0415 - as above
    from training.trial.topic import Topics, draw  # noqa: PLC0415 - as above

    with explained():
        if (folder / sheet.KEY).exists():
            raise DataError(f"{folder} already holds a trial; a sheet that is being judged must not change")
        since = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
        topics = Topics({**_extra(extra), "bootstrap.servers": kafka})
        try:
            found = draw(topics, topic, count, seed, since)
            drawn = found.drawn()
            chosen = sheet.choose(drawn, picks, controls, seed)
            chosen = sheet.located(chosen, topics.events([photo.source for part in chosen for photo in part]))
        finally:
            topics.close()
        places = Places(frozenset(host or ()), tuple(photos or ()))
        shown = collect({photo.photo_id: photo.uri for part in chosen for photo in part}, places)
        key = sheet.make(folder, drawn, chosen, shown, seed)
    for name, reason in key.missing.items():
        err.print(f"not shown: {name}: {reason}", style="yellow", highlight=False)
    err.print(f"open {folder / sheet.SHEET} in a browser; then: photo-trainer trial report {folder} verdicts-*.json")
    result_line(
        {
            "trial": key.trial, "records": found.seen, "unreadable_records": found.unreadable, "drawn": len(drawn),
            "good": key.good, "on_sheet": len(key.entries), "not_shown": len(key.missing),
            "sheet": str(folder / sheet.SHEET),
        }
    )  # fmt: skip


def _extra(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise RecipeError(f"--extra is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError("--extra is not a JSON object")
    return values


@trial_app.command()
def report(
    folder: Folder,
    verdicts: Annotated[list[Path], typer.Argument(help="files that the sheet saved, one a judge")],
) -> None:
    """Combine the judges' verdicts: precision with its interval, compared with photos that the model did not pick."""
    from training.trial import report as reports  # noqa: PLC0415 - keeps --help fast
    from training.trial.sheet import read_key  # noqa: PLC0415 - as above

    with explained():
        key = read_key(folder)
        found = reports.summarise(key, [reports.read(path, key) for path in verdicts])
        text = reports.markdown(found)
        (folder / "report.md").write_text(text)
        (folder / "report.json").write_text(json.dumps(reports.as_json(found), indent=1) + "\n")
    err.print(text, highlight=False)
    result_line(reports.as_json(found))
