"""`photo-trainer classify-logo` and `photo-trainer fetch-openimages`: what the studies need besides their runs."""

from pathlib import Path
from typing import Annotated

import typer

from training.console import err, explained, out, result_line
from training.errors import DataError

app = typer.Typer()


@app.command("classify-logo")
def classify_logo(
    model: Annotated[Path, typer.Argument(help="classifier.pt of the study flickrlogos32")],
    photos: Annotated[list[str], typer.Argument(help="files, or URLs with --allow-url")],
    most_bytes: Annotated[int, typer.Option(min=1, help="refuse a larger download")] = 10_000_000,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="give up a download after this time")] = 20.0,
    *,
    allow_url: Annotated[bool, typer.Option("--allow-url", help="fetch http(s) URLs")] = False,
) -> None:
    """Name the logo in each photo, with its probability."""
    from training.data.download import Limits  # noqa: PLC0415 - keeps --help fast
    from training.studies.flickrlogos32 import classify  # noqa: PLC0415 - torch takes seconds to import

    limits = Limits(most_bytes=most_bytes, timeout_s=timeout_s, total_s=timeout_s) if allow_url else None
    with explained():
        classifier = classify.read_classifier(model)
        for photo in photos:
            answer = classify.classify_logo(photo, classifier, limits)
            if out.is_terminal:
                out.print(f"{photo}: {answer.line}", markup=False, highlight=False)
            else:
                result_line({"photo": photo, "brand": answer.label, "probability": answer.probability})


@app.command("fetch-openimages")
def fetch_openimages(  # noqa: PLR0917 - each is an option of its own
    data: Annotated[Path, typer.Option(help="folder of the lists; photos come into its folder images")],
    classes: Annotated[list[str], typer.Option("--class", help="display name of a class; repeatable")],
    lists_from: Annotated[str | None, typer.Option(help="URL below which missing lists are")] = None,
    photos_from: Annotated[
        str, typer.Option(help="where a photo is: {url} its original address, {id} its id")
    ] = "{url}",
    requests: Annotated[int, typer.Option(min=1, help="requests that may start within --per-s")] = 5,
    per_s: Annotated[float, typer.Option(min=0.001, help="seconds of that window")] = 5.0,
    attempts: Annotated[int, typer.Option(min=1, help="tries of each photo")] = 5,
    connections: Annotated[int, typer.Option(min=1, help="downloads at a time")] = 4,
) -> None:
    """Download the photos of some classes of Open Images; run again, it goes on. Exit code 4 if any failed."""
    from training.data.download import Limits  # noqa: PLC0415 - keeps --help fast
    from training.studies.openimages.fetch import fetch_lists, fetch_photos  # noqa: PLC0415 - as above

    with explained():
        limits = Limits(requests=requests, per_s=per_s, attempts=attempts, connections=connections)
        data.mkdir(parents=True, exist_ok=True)
        if lists_from:
            fetch_lists(data, lists_from, limits)
        ended = fetch_photos(data, classes, limits, err, photos_from)
        result_line({"data": str(data), "classes": classes, **ended})
        if ended["failed"]:
            raise DataError(f"{ended['failed']} photos failed; run this again")
