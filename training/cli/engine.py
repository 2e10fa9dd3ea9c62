"""`photo-trainer engine`: TensorRT engines of published versions, built and checked in the image that serves them."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from training.cli.console import err, explained, result_line

app = typer.Typer()
#: Versions that the configurations have Triton load: `version_policy { latest { num_versions: 2 } }`.
_NEWEST: Final = 2


class Precision(StrEnum):
    """What an engine computes in."""

    FP16 = "fp16"
    INT8 = "int8"


@app.command("engine")
def engine(
    repository: Annotated[Path, typer.Option(help="The published models; they are only read.")] = Path("triton_models"),
    engines: Annotated[Path, typer.Option(help="Folder of the engines, which Triton serves.")] = Path("engines"),
    model: Annotated[list[str] | None, typer.Option(help="This model only; repeatable.")] = None,
    newest: Annotated[
        int, typer.Option(min=1, help="So many versions of each model, newest first; Triton loads two.")
    ] = _NEWEST,
    precision: Annotated[Precision, typer.Option(help="What the engines compute in.")] = Precision.FP16,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Build nothing; exit code 9 if an engine would not serve here.")
    ] = False,
) -> None:
    """Build TensorRT engines of the published versions for this GPU, where those there are do not fit.

    Run it in the image that serves, on the GPU that serves. Exit code 7 when an engine's answers to the golden photos
    are not the published ones, 8 without TensorRT or a GPU. The old engine stays until the new one has passed.
    """
    from training.engine import build  # noqa: PLC0415 - numpy takes a moment to import

    rebuild = f"photo-trainer engine --repository REPOSITORY --engines {engines}"
    with explained():
        if check:
            fitting = build.check_all(engines, model or [], newest, build.place_here(), rebuild)
            result_line({"fitting": [f"{each.model} {each.version}" for each in fitting]})
            return
        found = build.sources(repository, model or [], newest, precision)
        built = build.build_all(found, repository, engines, build.workshop(), _say)
    names = {f"{each.model} {each.version}" for each in built}
    result_line(
        {
            "built": [asdict(each) for each in built],
            "up_to_date": [each.name for each in found if each.name not in names],
            "engines": str(engines),
        }
    )


def _say(line: str) -> None:
    err.print(line, highlight=False)
