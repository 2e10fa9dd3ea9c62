"""The command `photo-trainer`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from training.cli import backbones, data, engine, publish, runs, study, trial
from training.cli.console import PlainConsole, explained
from training.runs.memory import keep_memory

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Trains, evaluates and publishes the models that the photo tagger serves.",
)
Steps = Annotated[int | None, typer.Option(min=1, help="Training steps of each model, instead of the recipe's.")]


@app.command("demo-models")
def demo_models(
    repository: Annotated[Path, typer.Option(help="Triton model repository to publish into.")] = Path("triton_models"),
    runs: Annotated[Path, typer.Option(help="Folder to keep the two runs in.")] = Path("runs"),
    steps: Steps = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="A run of seconds on tiny data; its models are useless.")
    ] = False,
) -> None:
    """Compose data, train both demo models, evaluate, export, check and publish the next version of each."""
    from training.cli.demo_models import make_models  # noqa: PLC0415 - torch takes seconds to import, --help must not

    console = PlainConsole()
    with explained():
        published = make_models(repository, runs, steps, quick=quick)
    table = Table("model", "metric on held-out photos", "value", title="synthetic test set")
    for version in published:
        name = version.path.parent.name
        for metric, value in (*version.metrics.items(), *version.calibration.items()):
            table.add_row(name, metric, f"{value:g}")
            name = ""
    console.print(table)
    for version in published:
        console.print(f"published {version.path.parent.name} version {version.path.name} in {version.path}")
        for weakness in version.weak:
            console.print(f"  more training would fix: {weakness}")
    if any(version.weak for version in published):
        console.print("train longer: photo-trainer demo-models --steps 3000")
    console.print(
        "the quality model knows damage alone, no opinions: with ratings of people, photo-trainer train quality-rated "
        "--data FOLDER, then photo-trainer publish"
    )


@app.command()
def samples(
    out: Annotated[Path, typer.Option(help="Folder to write photos, SOURCES.md and expectations.json to.")],
) -> None:
    """Write the demo's sample photos, composed from held-out backgrounds and look-alikes."""
    from training.data.samples import write_samples  # noqa: PLC0415 - see demo_models

    count, size_bytes = write_samples(out)
    PlainConsole().print(f"{count} photos, {size_bytes / 1e6:.2f} MB, in {out}")


app.add_typer(data.recipe_app, name="recipe")
app.add_typer(data.data_app, name="data")
app.add_typer(runs.runs_app, name="runs")
app.add_typer(runs.app)
app.add_typer(backbones.app)
app.add_typer(study.app)
app.add_typer(publish.head_app, name="head")
app.add_typer(trial.trial_app, name="trial")
app.add_typer(publish.app)
app.add_typer(engine.app)


def main() -> None:
    """Entry point of the console script."""
    keep_memory()
    app()
