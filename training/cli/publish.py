"""`photo-trainer evaluate`, `export`, `publish` and `head`: from a run, or a study's head, to a published version."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from training.cli.console import Exit, err, explained, result_line

if TYPE_CHECKING:
    from training.evaluation.outcome import Evaluation
    from training.evaluation.thresholds import Target
    from training.publish.bundle import Bundle
    from training.publish.release import Release

app = typer.Typer()
head_app = typer.Typer(no_args_is_help=True, help="Export or publish a classical head that a study saved.")
RunPath = Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)]
Precision = Annotated[
    float, typer.Option(min=0, max=1, help="Brands: lower 95 % bound of the precision that the threshold must hold.")
]
NoLogoRate = Annotated[
    float, typer.Option(min=0, max=1, help="Brands: share of no-logo photos that the threshold may tag, on val.")
]
HeadPath = Annotated[Path, typer.Argument(help="Folder of a head, as `study` writes it.", show_default=False)]
Repository = Annotated[Path, typer.Option(help="Triton model repository.")]
Force = Annotated[bool, typer.Option("--force", help="Publish although the gate refuses; needs --reason.")]
Reason = Annotated[str | None, typer.Option(help="Why; recorded in the manifest.")]
Fp16 = Annotated[bool, typer.Option("--fp16", help="With model.fp16.onnx, which a GPU's engine is built from.")]


def _target(precision: float, no_logo_rate: float) -> "Target":
    from training.evaluation.thresholds import Target  # noqa: PLC0415 - numpy and SciPy load slowly, --help must not

    return Target(precision, no_logo_rate)


@app.command("evaluate")
def evaluate_run(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; RUN/evaluation by default.")] = None,
    precision: Precision = 0.96,
    no_logo_rate: NoLogoRate = 0.005,
) -> None:
    """Choose temperature and threshold on val, measure once on test and foreign photos, write report and card."""
    from training.evaluation.run import FOLDER, evaluate, write  # noqa: PLC0415 - torch takes seconds to import
    from training.runs.run import Run  # noqa: PLC0415

    with explained():
        found = evaluate(Run.open(run), _target(precision, no_logo_rate), err)
        files = write(found, out or run / FOLDER)
    _show_figures(found.evaluation)
    for path in files:
        err.print(f"wrote {path}", highlight=False)
    figures = {name: figure["value"] for name, figure in found.evaluation.as_json()["figures"].items()}
    result_line(
        {
            "run": run.name,
            "model": found.spec.name,
            **dict(found.evaluation.decision),
            **figures,
            **{name: value for name, value in found.evaluation.foreign.items() if name != "photos"},
            "alarms": list(found.evaluation.alarms),
            "report": str(files[0]),
        }
    )


@app.command("export")
def export_run(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; RUN/export by default.")] = None,
    precision: Precision = 0.96,
    no_logo_rate: NoLogoRate = 0.005,
) -> None:
    """Write the ONNX graphs (fp32, fp16, int8) that decide as torch does, and how far each one is from it."""
    from training.evaluation.run import evaluate  # noqa: PLC0415 - torch takes seconds to import
    from training.publish.bundle import ALL_FILES  # noqa: PLC0415
    from training.publish.network import EXPORT, bundle_of  # noqa: PLC0415
    from training.publish.release import write_bundle  # noqa: PLC0415
    from training.runs.run import Run  # noqa: PLC0415

    with explained():
        bundle = bundle_of(evaluate(Run.open(run), _target(precision, no_logo_rate), err), ALL_FILES)
        files = write_bundle(bundle, out or run / EXPORT)
    _show_parity(bundle)
    result_line({"files": [str(path) for path in files], "cpu": bundle.cpu, "parity": bundle.parity_json()})


@app.command("publish")
def publish_run(
    run: RunPath,
    repository: Repository = Path("triton_models"),
    name: Annotated[str | None, typer.Option(help="Model name, when labels or input size differ.")] = None,
    precision: Precision = 0.96,
    no_logo_rate: NoLogoRate = 0.005,
    *,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="With model.fp16.onnx, which a GPU's engine is built from.")
    ] = False,
    force: Force = False,
    reason: Reason = None,
) -> None:
    """Evaluate, export, ask the gate, and publish the next version; exit code 7 when the gate refuses."""
    _check_reason(reason, force=force)
    from training.evaluation.run import evaluate  # noqa: PLC0415 - torch takes seconds to import
    from training.publish.bundle import ALL_FILES, CPU_FILES  # noqa: PLC0415
    from training.publish.network import candidate_of  # noqa: PLC0415
    from training.publish.release import release  # noqa: PLC0415
    from training.runs.run import Run  # noqa: PLC0415

    with explained():
        found = evaluate(Run.open(run), _target(precision, no_logo_rate), err, name)
        done = release(candidate_of(found, ALL_FILES if fp16 else CPU_FILES), repository, reason)
    _show_figures(found.evaluation)
    _show_parity(done.bundle)
    _show_release(done, reason)


@head_app.command("export")
def export_head(
    head: HeadPath, out: Annotated[Path | None, typer.Option(help="Folder to write to; HEAD/export by default.")] = None
) -> None:
    """Write backbone and head as one ONNX graph, and report its largest difference from scikit-learn."""
    from training.heads.candidate import candidate_of  # noqa: PLC0415 - torch takes seconds to import
    from training.publish.release import write_bundle  # noqa: PLC0415

    with explained():
        bundle = candidate_of(head).bundle()
        files = write_bundle(bundle, out or head / "export")
    result_line({"files": [str(path) for path in files], "parity": bundle.parity_json()})


@head_app.command("publish")
def publish_head(
    head: HeadPath,
    repository: Repository = Path("triton_models"),
    name: Annotated[str | None, typer.Option(help="Model name; photo_quality by default.")] = None,
    *,
    force: Force = False,
    reason: Reason = None,
) -> None:
    """Join a head with its backbone, check that it decides as scikit-learn, ask the gate, and publish it.

    Exit code 7 when the gate refuses.
    """
    _check_reason(reason, force=force)
    from training.heads.candidate import candidate_of  # noqa: PLC0415 - torch takes seconds to import
    from training.publish.release import release  # noqa: PLC0415

    with explained():
        done = release(candidate_of(head, name), repository, reason)
    _show_release(done, reason)


def _check_reason(reason: str | None, *, force: bool) -> None:
    if force != bool(reason and reason.strip()):
        err.print("photo-trainer: --force and --reason TEXT belong together", style="red")
        raise typer.Exit(Exit.USAGE)


def _show_release(done: "Release", reason: str | None) -> None:
    model, version = done.path.parent.name, int(done.path.name)
    for refusal in done.decision.refusals:
        err.print(f"published in spite of: {refusal}", highlight=False)
    err.print(f"published {model} version {version} in {done.path}", highlight=False)
    result_line(
        {
            "model": model, "version": version, "path": str(done.path), "cpu": done.bundle.cpu,
            "gate": done.decision.as_json(), "parity": done.bundle.parity_json(), "forced": reason,
        }
    )  # fmt: skip


def _show_figures(evaluation: "Evaluation") -> None:
    strangers = evaluation.apart.apart if evaluation.apart else {}
    heads = ("figure", "test", "95 % interval", *next(iter(evaluation.figures.values())).baselines)
    table = Table(*heads, *(["photos unlike training"] if strangers else []))
    for name, figure in evaluation.figures.items():
        others = [*figure.baselines.values(), *([strangers[name].value] if name in strangers else [])]
        shown = ("none" if math.isnan(value) else f"{value:.3f}" for value in others)
        table.add_row(name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}", *shown)
    err.print(table)
    for alarm in evaluation.alarms:
        err.print(f"alarm: {alarm}", style="yellow", highlight=False)


def _show_parity(bundle: "Bundle") -> None:
    table = Table("file", "engine", "photos", "decides as torch", "largest difference", "")
    for row in bundle.parity:
        verdict = "served on CPUs" if bundle.cpu == {"engine": row.engine, "file": row.file} else ""
        if not row.passed:
            verdict = "not good enough"
        values = (str(row.photos), f"{row.agreement:.2%}", f"{row.max_abs_difference:.1e}", verdict)
        table.add_row(row.file, row.engine, *values)
    err.print(table)
