"""`photo-trainer classify-logo` and `photo-trainer fetch-openimages`: what the studies need besides their runs."""

from pathlib import Path
from typing import Annotated

import typer

from training.console import explained, out, result_line

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
