"""`photo-trainer study`, and two commands that belong to studies: `classify-logo` and `fetch-openimages`."""

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from training.cli.console import err, explained, out, result_line
from training.errors import DataError, RecipeError

app = typer.Typer()


@app.command()
def study(  # noqa: PLR0917 - each is an option of its own
    name: Annotated[str | None, typer.Argument(help="a study (`study --list`)")] = None,
    data: Annotated[Path | None, typer.Option(help="your copy of the study's data")] = None,
    page: Annotated[Path, typer.Option("--out", help="folder for the page")] = Path("studies"),
    cache: Annotated[Path, typer.Option(help="folder for features")] = Path(".cache/photo-trainer"),
    seed: Annotated[int, typer.Option(help="seed of all random numbers")] = 0,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value, the value in YAML")] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="NETWORK=FILE: a state dict to start from; repeatable")
    ] = None,
    about: Annotated[str, typer.Option(help="description of your data, for the page")] = "",
    pretrained: Annotated[
        Literal["package", "download"] | None,
        typer.Option(
            help="start from ImageNet weights: of an installed package (photo-trainer backbones), or download"
        ),
    ] = None,
    *,
    made: Annotated[bool, typer.Option("--made", help="use small data made by code instead of --data")] = False,
    as_published: Annotated[bool, typer.Option("--as-published", help="reproduce the study's known mistakes")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="a run of seconds; its figures are meaningless")] = False,
    photos: Annotated[bool, typer.Option(help="show photos of the data on the page")] = True,
    listed: Annotated[bool, typer.Option("--list", help="list the studies")] = False,
) -> None:
    """Run a published study and write its page: published and measured figures, mistakes named and corrected."""
    with explained():
        if listed:
            _list()
        elif name is None:
            raise RecipeError("name a study, or see --list")
        else:
            files = {network: Path(str(path)) for network, path in _pairs(weights).items()}
            switches = {"as_published": as_published, "quick": quick, "photos": photos, "made": made}
            _run(
                name,
                data,
                out=page,
                cache=cache,
                seed=seed,
                overrides=_pairs(overrides),
                weights=files,
                about=about,
                pretrained=pretrained or False,
                **switches,
            )


def _pairs(texts: list[str] | None) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - keeps --help fast

    pairs = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"{text} is not of the form key=value")
        try:
            pairs[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{text}: {error}") from None
    return pairs


def _run(name: str, data: Path | None, **chosen: Any) -> None:  # noqa: ANN401 - the other fields of Options
    from training.studies.page import write  # noqa: PLC0415 - keeps --help fast
    from training.studies.registry import study_of  # noqa: PLC0415 - as above
    from training.studies.study import Options  # noqa: PLC0415 - as above

    found = study_of(name)
    if (data is None) != chosen["made"]:
        raise RecipeError(f"give --data DIR ({found.data}), or --made")
    if data is not None and not data.exists():
        raise DataError(f"nothing at {data}")
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            found.make(Path(folder), chosen["seed"])
        options = Options(data=data or Path(folder), **chosen)
        for mistake in (*found.mistakes, *found.left_open) if options.as_published else ():
            err.print(f"as published: {mistake.name}: {mistake.what}", highlight=False)
        result = found.run(options, err)
    for path in write(found, options, result):
        err.print(f"wrote {path}", highlight=False)
    figures = {name: figure.value for name, figure in result.figures.items()}
    result_line({"study": found.name, "as_published": options.as_published, "data": result.data, "figures": figures})


def _list() -> None:
    from training.studies.registry import STUDIES  # noqa: PLC0415 - keeps --help fast

    if not out.is_terminal:
        for entry in STUDIES.values():
            published = {figure.figure: figure.value for figure in entry.published}
            result_line(
                {
                    "study": entry.name,
                    "title": entry.title,
                    "article": entry.article.text,
                    "data": entry.data,
                    "published": published,
                }
            )
        return
    table = Table("study", "title", "data", "published", box=None, header_style="bold")
    for entry in STUDIES.values():
        published_text = "\n".join(f"{figure.figure}: {figure.value}" for figure in entry.published[:3])
        table.add_row(entry.name, entry.title, entry.data, published_text)
    out.print(table)


@app.command("classify-logo")
def classify_logo(
    model: Annotated[Path, typer.Argument(help="classifier.pt of the study flickrlogos32")],
    photos: Annotated[list[str], typer.Argument(help="files, or URLs with --allow-url")],
    most_bytes: Annotated[int, typer.Option(min=1, help="largest download")] = 10_000_000,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="time limit of a download, in seconds")] = 20.0,
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
                out.print(f"{photo}: {answer.line}", highlight=False)
            else:
                result_line({"photo": photo, "brand": answer.label, "probability": answer.probability})


@app.command("fetch-openimages")
def fetch_openimages(  # noqa: PLR0917 - each is an option of its own
    data: Annotated[Path, typer.Option(help="folder of the lists; photos are written to its folder images")],
    classes: Annotated[list[str] | None, typer.Option("--class", help="display name of a class; repeatable")] = None,
    lists_from: Annotated[
        str, typer.Option(help="base URL of missing lists, which are in 2018_04/ and 2018_04/train/ below it")
    ] = "https://storage.googleapis.com/openimages",
    photos_from: Annotated[str, typer.Option(help="URL of a photo: {url} is its original URL, {id} its id")] = "{url}",
    requests: Annotated[int, typer.Option(min=1, help="requests that may start within --per-s")] = 5,
    per_s: Annotated[float, typer.Option(min=0.001, help="length of that window, in seconds")] = 5.0,
    attempts: Annotated[int, typer.Option(min=1, help="attempts per photo")] = 5,
    connections: Annotated[int, typer.Option(min=1, help="concurrent downloads")] = 4,
    *,
    list_classes: Annotated[bool, typer.Option("--list-classes", help="only name the classes that there are")] = False,
) -> None:
    """Download the photos of some classes of Open Images, or resume. Exit code 4 if any failed."""
    from training.data.download import Limits  # noqa: PLC0415 - keeps --help fast
    from training.studies.openimages.fetch import fetch_lists, fetch_photos  # noqa: PLC0415 - as above
    from training.studies.openimages.lists import CLASSES, all_classes  # noqa: PLC0415 - as above

    with explained():
        if not classes and not list_classes:
            raise RecipeError("name classes with --class, or see --list-classes")
        limits = Limits(requests=requests, per_s=per_s, attempts=attempts, connections=connections)
        data.mkdir(parents=True, exist_ok=True)
        if list_classes or not classes:
            fetch_lists(data, lists_from, limits, (CLASSES,))
            for machine, name in all_classes(data):
                if out.is_terminal:
                    out.print(name, highlight=False)
                else:
                    result_line({"class": name, "id": machine})
            return
        fetch_lists(data, lists_from, limits)
        ended = fetch_photos(data, classes, limits, err, photos_from)
        result_line({"data": str(data), "classes": classes, **ended})
        if ended["failed"]:
            raise DataError(f"{ended['failed']} photos failed; run this again")
