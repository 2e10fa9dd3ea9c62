"""The command `photo-trainer`."""

import importlib
import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Makes the models that the photo tagger serves.")
Steps = Annotated[int | None, typer.Option(min=1, help="Training steps of each model, instead of the recipe's.")]


@app.command("demo-models")
def demo_models(
    repository: Annotated[Path, typer.Option(help="Triton model repository to publish into.")] = Path("triton_models"),
    steps: Steps = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="A run of seconds on tiny data; its models are useless.")
    ] = False,
) -> None:
    """Compose data, train both demo models, evaluate, export, check and publish the next version of each."""
    from dataclasses import replace  # noqa: PLC0415 - torch takes seconds to import, --help must not

    from training.demo import QUICK, Plan, make_models  # noqa: PLC0415

    plan = QUICK if quick else Plan()
    if steps is not None:
        plan = replace(plan, brand=replace(plan.brand, steps=steps), quality=replace(plan.quality, steps=steps))
    console = Console()
    published = make_models(plan, repository, console)
    table = Table("model", "metric on held-out photos", "value", title="synthetic test set")
    for version in published:
        name = version.path.parent.name
        for metric, value in (*version.metrics.items(), *version.calibration.items()):
            table.add_row(name, metric, f"{value:g}")
            name = ""
    console.print(table)
    for version in published:
        console.print(
            f"published {version.path.parent.name} version {version.path.name} in {version.path}", soft_wrap=True
        )


@app.command()
def samples(
    out: Annotated[Path, typer.Option(help="Folder to write photos, SOURCES.md and expectations.json to.")],
) -> None:
    """Write the demo's sample photos, composed from backgrounds and look-alikes that no training saw."""
    from training.data.samples import write_samples  # noqa: PLC0415 - see demo_models

    count, size_bytes = write_samples(out)
    Console().print(f"{count} photos, {size_bytes / 1e6:.2f} MB, in {out}", soft_wrap=True)


if importlib.util.find_spec("training.cli_publish"):
    app.add_typer(importlib.import_module("training.cli_publish").app)  # evaluate, export, publish


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
