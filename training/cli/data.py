"""`photo-trainer data` and `photo-trainer recipe`: inspect the photos and the recipe of a run before training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from training.cli.console import err, explained, out, result_line
from training.errors import DataError

if TYPE_CHECKING:
    from training.data.manifest import Manifest
    from training.recipes.recipe import Recipe

data_app = typer.Typer(no_args_is_help=True, help="Check, describe or write the photos that a recipe would use.")
recipe_app = typer.Typer(no_args_is_help=True, help="List recipes, or show every value of one with its description.")

RECIPE_HELP = "a shipped recipe (`recipe list`) or a YAML file"
RecipeName = Annotated[str, typer.Argument(help=RECIPE_HELP)]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, the value in YAML; repeatable")]
DataRoot = Annotated[Path | None, typer.Option("--data", help="folder that the recipe's relative paths start at")]
Foreign = Annotated[
    list[Path] | None, typer.Option("--foreign", help="folder of photos without any known brand; repeatable")
]


def resolved(recipe: str, overrides: list[str] | None, data: Path | None, foreign: list[Path] | None) -> "Recipe":
    """The recipe with all overrides of a command line; raises RecipeError as `files.read`."""
    from training.recipes.files import read  # noqa: PLC0415 - keeps --help fast

    extra = [] if data is None else [f"data.root={json.dumps(str(data))}"]
    extra += [f"data.foreign={json.dumps([str(folder) for folder in foreign])}"] if foreign else []
    return read(recipe, [*(overrides or []), *extra])


@recipe_app.command("list")
def list_recipes() -> None:
    """List the shipped recipes."""
    from training.recipes.files import read, shipped  # noqa: PLC0415 - as above

    recipes = {name: read(name) for name in shipped()}
    if not out.is_terminal:
        result_line({name: recipe.summary for name, recipe in recipes.items()})
        return
    table = Table("recipe", "task", "network", "px", "steps", "what for", box=None, header_style="bold")
    for name, recipe in recipes.items():
        steps = recipe.train.steps + (recipe.train.second.steps if recipe.train.second else 0)
        table.add_row(name, recipe.task, recipe.model.arch, str(recipe.model.input_px), str(steps), recipe.summary)
    out.print(table)


@recipe_app.command("show")
def show_recipe(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Print every value of a recipe with its description, as YAML that can be edited and used."""
    from training.recipes.files import described  # noqa: PLC0415 - as above

    with explained():
        typer.echo(described(resolved(recipe, overrides, None, None)), nl=False)


@data_app.command("check")
def check(recipe: RecipeName, data: DataRoot = None, foreign: Foreign = None, overrides: Overrides = None) -> None:
    """Look at every photo: unreadable files, leaks, equal files with two labels, small classes. Exit code 4 if any."""
    with explained():
        manifest = _manifest(resolved(recipe, overrides, data, foreign))
        leaks = manifest.leaks
        _show(
            manifest,
            photos=len(manifest.photos),
            unreadable=list(manifest.unreadable),
            leaks_between_splits=leaks["between_splits"],
            dropped=leaks["dropped"],
            left_out=dict(manifest.left_out),
            doubts=list(manifest.doubts),
            same_bytes_other_label=leaks["same_bytes_other_label"],
        )
        problems = (
            len(manifest.unreadable),
            sum(leaks["between_splits"].values()),
            len(leaks["same_bytes_other_label"]),
            len(manifest.doubts),
        )
        if any(problems):
            raise DataError(
                "{} unreadable photos, {} pairs between splits, {} equal files with two labels, {} doubts".format(
                    *problems
                )
            )


@data_app.command("describe")
def describe(
    recipe: RecipeName,
    data: DataRoot = None,
    foreign: Foreign = None,
    overrides: Overrides = None,
    sheet: Annotated[Path, typer.Option(help="HTML page with counts, problems and pictures")] = Path("data-sheet.html"),
) -> None:
    """Count photos by split and label, and write a contact sheet."""
    from training.data.contact import write_sheet  # noqa: PLC0415 - as above

    with explained():
        manifest = _manifest(resolved(recipe, overrides, data, foreign))
        write_sheet(manifest, sheet, f"Data of {Path(recipe).stem}")
        _show(manifest, counts=manifest.counts(), labels=list(manifest.labels))
        err.print(f"contact sheet: {sheet}", highlight=False)


@data_app.command("make")
def make(
    recipe: RecipeName,
    to: Annotated[Path, typer.Option("--to", help="folder to write to; must not exist")],
    data: DataRoot = None,
    foreign: Foreign = None,
    overrides: Overrides = None,
) -> None:
    """Write the photos as the model sees them: <split>/<label>/*.png, data.json and a contact sheet."""
    from training.data.contact import write_photos  # noqa: PLC0415 - as above

    with explained():
        chosen = resolved(recipe, overrides, data, foreign)
        if to.exists():
            raise DataError(f"{to} exists")
        manifest = _manifest(chosen)
        write_photos(manifest, chosen.model.input_px, to, err)
        count = len(manifest.photos)
        _show(manifest, photos=count, folder=str(to))
        err.print(f"{count} photos in {to}", highlight=False)


def _manifest(recipe: "Recipe") -> "Manifest":
    from training.data.assemble import assemble  # noqa: PLC0415 - as above

    features = None
    if "look" in recipe.data.split.scenes:
        from training.runs.looks import looks  # noqa: PLC0415 - needs torch

        features = looks(recipe, err)
    return assemble(recipe, err, features)


def _show(manifest: "Manifest", **result: Any) -> None:  # noqa: ANN401 - JSON values
    """Prints counts and problems for people, and `result` with the data hash as JSON in a pipe."""
    counts = {split: by_label for split, by_label in manifest.counts().items() if by_label}
    table = Table("label", *counts, box=None, header_style="bold")
    for label in sorted({label for by_label in counts.values() for label in by_label}):
        table.add_row(label, *(str(by_label.get(label, 0)) for by_label in counts.values()))
    table.add_row("all", *(str(sum(by_label.values())) for by_label in counts.values()), style="bold")
    err.print(table)
    leaks = manifest.leaks
    err.print(f"alike: {leaks['pairs']}; between splits: {leaks['between_splits']}", highlight=False)
    if leaks["dropped"]:
        err.print(f"dropped because of leaks: {len(leaks['dropped'])}", style="yellow")
    for broken in manifest.unreadable:
        err.print(f"unreadable: {broken['id']}: {broken['reason']}", style="yellow", highlight=False)
    for line in manifest.remarks():
        err.print(line, style="yellow", highlight=False)
    for generator in manifest.generators:
        err.print(f"composed anew for every batch: {generator['marks']}, {generator['share']:.0%} of a batch")
    if not out.is_terminal:
        result_line({**result, "data_sha256": manifest.sha256})
