"""`photo-trainer head`: export or publish a classical head that a study kept."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.console import check_reason, explained, released_line, result_line

head_app = typer.Typer(no_args_is_help=True, help="Export or publish a classical head that a study kept.")
HeadPath = Annotated[Path, typer.Argument(help="folder of a head, as `study` writes it", show_default=False)]


@head_app.command("export")
def export_head(
    head: HeadPath, out: Annotated[Path | None, typer.Option(help="HEAD/export by default")] = None
) -> None:
    """Write backbone and head as one ONNX graph, and how far it is from scikit-learn."""
    from training.heads.candidate import candidate_of  # noqa: PLC0415 - torch takes seconds to import
    from training.publish.release import write_bundle  # noqa: PLC0415

    with explained():
        bundle = candidate_of(head).bundle()
        files = write_bundle(bundle, out or head / "export")
    result_line({"files": [str(path) for path in files], "parity": bundle.parity_json()})


@head_app.command("publish")
def publish_head(
    head: HeadPath,
    repository: Annotated[Path, typer.Option(help="Triton model repository")] = Path("triton_models"),
    name: Annotated[str | None, typer.Option(help="model name; photo_quality by default")] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="in spite of the gate; needs --reason")] = False,
    reason: Annotated[str | None, typer.Option(help="why; the manifest keeps it")] = None,
) -> None:
    """Join a head with its backbone, prove that it decides as scikit-learn, ask the gate, and publish it.

    Exit code 7 when the gate refuses.
    """
    check_reason(reason, force=force)
    from training.heads.candidate import candidate_of  # noqa: PLC0415 - as above
    from training.publish.release import release  # noqa: PLC0415

    with explained():
        done = release(candidate_of(head, name), repository, reason)
    released_line(done, reason)
