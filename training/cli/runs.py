"""`photo-trainer train`, `runs` and `predict`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from training.cli.console import Exit, err, explained, out, result_line
from training.cli.data import RECIPE_HELP, DataRoot, Foreign, Overrides, resolved
from training.errors import RecipeError, RunError

if TYPE_CHECKING:
    from training.evaluation.judge import Judgement
    from training.recipes.recipe import Recipe
    from training.runs.run import Run

app = typer.Typer(no_args_is_help=True)
runs_app = typer.Typer(no_args_is_help=True, help="List runs, or show one.")
Folder = Annotated[Path, typer.Option("--runs", help="folder of runs")]


@app.command()
def train(  # noqa: PLR0917 - each is an option of its own
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help=RECIPE_HELP)] = None,
    data: DataRoot = None,
    foreign: Foreign = None,
    name: Annotated[str | None, typer.Option(help="of the run; the recipe's, numbered, by default")] = None,
    runs: Folder = Path("runs"),
    weights: Annotated[Path | None, typer.Option(help="state dict or model.pt to start from")] = None,
    weights_sha256: Annotated[str | None, typer.Option("--weights-sha256", help="SHA-256 that it must have")] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option(help="a run to resume at its last checkpoint")] = None,
) -> None:
    """Train a recipe, or resume a run; prints one line of JSON at the end.

    Several GPUs or processes: torchrun --nproc-per-node N -m training.cli train RECIPE --name NAME.
    """
    from training.runs.run import Run  # noqa: PLC0415 - torch takes seconds to import, --help must not
    from training.runs.start import train as train_run  # noqa: PLC0415 - as above

    with explained():
        if recipe is None and resume is None:
            raise RecipeError("name a recipe, or a run with --resume")
        if resume is not None:
            others = [option for option in _typed(context) if option != "--resume"]
            if others:
                raise RecipeError(
                    f"--resume goes on with the run's own recipe and would ignore {', '.join(others)}: leave that out,"
                    " or start another run"
                )
            result = train_run(Run.open(resume), err)
        else:
            extra = [f"model.weights={weights}"] if weights else []
            extra += [f"model.weights_sha256='{weights_sha256}'"] if weights_sha256 else []
            chosen = resolved(str(recipe), [*(overrides or []), *extra], data, foreign)
            result = _start(chosen, str(recipe), name, runs)
        if result:
            result_line(result)


def _typed(context: typer.Context) -> list[str]:
    """The options and arguments of a command line, by their names."""
    sources = {param: context.get_parameter_source(str(param.name)) for param in context.command.params}
    return [max(param.opts, key=len) for param, source in sources.items() if source and source.name == "COMMANDLINE"]


def _start(recipe: "Recipe", recipe_name: str, name: str | None, runs: Path) -> dict[str, Any]:
    from training.runs.run import Run  # noqa: PLC0415 - as in `train`
    from training.runs.start import start, unused_name  # noqa: PLC0415 - as in `train`
    from training.runs.start import train as train_run  # noqa: PLC0415 - as in `train`

    rank = os.environ.get("RANK")
    if rank is not None and name is None:
        raise RunError("several processes need the same --name")
    if rank not in {None, "0"}:
        return train_run(Run(runs / str(name)), err)
    return start(recipe, name or unused_name(recipe_name, runs), runs, err)


@runs_app.command("list")
def list_runs(runs: Folder = Path("runs")) -> None:
    """List runs, oldest first; JSON lines in a pipe."""
    from training.runs.run import find  # noqa: PLC0415 - as in `train`

    with explained():
        rows = [_row(run) for run in find(runs)]
    if not out.is_terminal:
        for row in rows:
            result_line(row)
        return
    table = Table("run", "task", "state", "steps", "on val", "CPU s", box=None, header_style="bold")
    for row in rows:
        val = ", ".join(f"{key} {value:g}" for key, value in row.get("val", {}).items())
        table.add_row(row["run"], row["task"], row["state"], str(row["steps"]), val, str(row.get("cpu_seconds", "")))
    out.print(table)


def _row(run: "Run") -> dict[str, Any]:
    result, lines = run.result(), run.metrics()
    steps = lines[-1]["step"] if lines else 0
    state = "trained" if result else "unfinished"
    known: dict[str, Any] = {
        name: result[name] for name in ("val", "cpu_seconds", "data_sha256", "model_sha256") if name in result
    }
    return {"run": run.name, "task": run.recipe().task, "state": state, "steps": steps, **known}


@runs_app.command("show")
def show_run(run: Annotated[Path, typer.Argument(help="folder of a run")]) -> None:
    """Show a run: result, evaluations, data, environment; one line of JSON in a pipe."""
    from training.runs.run import Run  # noqa: PLC0415 - as in `train`

    with explained():
        opened = Run.open(run)
        row, lines = _row(opened), [line for line in opened.metrics() if line["kind"] == "evaluation"]
        if not out.is_terminal:
            result_line({**row, "evaluations": lines, "environment": opened.environment()})
            return
        out.print({**row, "environment": opened.environment()})
        for line in lines:
            out.print(line)


@runs_app.command("compare")
def compare_runs(
    first: Annotated[Path, typer.Argument(help="folder of a trained run")],
    second: Annotated[Path, typer.Argument(help="folder of another one, tested on the same photos")],
) -> None:
    """Compare two runs on the test photos that both have: every figure of both, and whether the second is better.

    Exit code 6 if their test photos differ.
    """
    from training.evaluation.compare import compare  # noqa: PLC0415 - as in `train`
    from training.evaluation.outcome import plain  # noqa: PLC0415 - as in `train`
    from training.runs.run import Run  # noqa: PLC0415 - as in `train`

    with explained():
        left, right = Run.open(first), Run.open(second)
        photos, rows = compare(left, right, err)
    if not out.is_terminal:
        for row in rows:
            result_line({**plain(row), "verdict": row.verdict, "photos": photos})
        return
    table = Table("figure", str(first), str(second), "difference", "second is", box=None, header_style="bold")
    for row in rows:
        sides = [f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for each in (row.left, row.right)]
        gap = f"{row.difference.value:+.3f} ({row.difference.low:+.3f} to {row.difference.high:+.3f})"
        table.add_row(row.name.replace("_", " "), *sides, gap, row.verdict)
    out.print(table)
    out.print(f"{photos} test photos; 95 % intervals; each run decides with its own temperature and threshold")


@app.command()
def predict(
    photos: Annotated[list[Path], typer.Argument(help="photos, or folders of photos")],
    run: Annotated[Path, typer.Option(help="folder of a trained run")],
) -> None:
    """Judge photos with a run's model, decided as in service: a table, or JSON lines in a pipe.

    Temperature and threshold are those of the run's evaluation, or chosen on its val photos now. Exit code 4 if a photo
    cannot be read.
    """
    from training.evaluation.judge import decision, judge, photos_in  # noqa: PLC0415 - as in `train`
    from training.runs.run import Run  # noqa: PLC0415 - as in `train`

    with explained():
        opened = Run.open(run)
        files, others = photos_in(photos)
        decided, source = decision(opened, err)
        values = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in decided.items())
        err.print(f"decided with {values}, from {source}", highlight=False)
        if others:
            err.print(f"left out: {others} files that are no photos", style="yellow", highlight=False)
        failed = 0
        for answer in judge(opened, files, decided):
            failed += answer.error is not None
            if out.is_terminal:
                out.print(_answer_text(answer), highlight=False, style="yellow" if answer.error else "")
            else:
                result_line(answer.as_json())
    if failed:
        err.print(f"{failed} of {len(files)} photos cannot be read", style="yellow", highlight=False)
        raise typer.Exit(Exit.DATA)


def _answer_text(answer: "Judgement") -> str:
    if answer.error:
        return f"{answer.photo}: {answer.error}"
    shares = " · ".join(f"{label} {share:.2f}" for label, share in (answer.probabilities or {}).items())
    score = "" if answer.score is None else f", score {answer.score:.2f}"
    return f"{answer.photo}: {answer.decision}{score} ({shares})"
