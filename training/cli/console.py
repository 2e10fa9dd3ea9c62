"""What every command of `photo-trainer` shares: where it prints, how it ends.

Progress and tables go to standard error, so that standard output holds results alone: one JSON line in a pipe.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console

from training.errors import (
    DataError,
    GateRefused,
    RecipeError,
    RunError,
    ToolMissing,
    TrainerError,
    WeightsError,
)

if TYPE_CHECKING:
    from training.publish.release import Release

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


class Exit(IntEnum):
    """Exit codes, for scripts."""

    OK = 0
    FAILED = 1
    USAGE = 2
    RECIPE = 3
    DATA = 4
    WEIGHTS = 5
    RUN = 6
    REFUSED = 7
    TOOL_MISSING = 8


_CODES: Final[dict[type[TrainerError], Exit]] = {
    RecipeError: Exit.RECIPE,
    DataError: Exit.DATA,
    WeightsError: Exit.WEIGHTS,
    RunError: Exit.RUN,
    GateRefused: Exit.REFUSED,
    ToolMissing: Exit.TOOL_MISSING,
}


@contextmanager
def explained() -> Iterator[None]:
    """Turns our errors into one line and an exit code; anything else is a bug and keeps its traceback.

    Raises:
        Exit: with the code of the error.
    """
    try:
        yield
    except TrainerError as error:
        err.print(f"photo-trainer: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(_CODES.get(type(error), Exit.FAILED)) from None


def check_reason(reason: str | None, *, force: bool) -> None:
    """Lets `--force` through with its `--reason` only.

    Raises:
        Exit: with the code of a wrong usage.
    """
    if force != bool(reason and reason.strip()):
        err.print("photo-trainer: --force and --reason TEXT belong together", style="red")
        raise typer.Exit(Exit.USAGE)


def released_line(done: "Release", reason: str | None) -> None:
    """Says that a version was published, and in spite of what."""
    model, version = done.path.parent.name, int(done.path.name)
    for refusal in done.decision.refusals:
        err.print(f"published in spite of: {refusal}", highlight=False, markup=False)
    err.print(f"published {model} version {version} in {done.path}", highlight=False)
    result_line(
        {
            "model": model, "version": version, "path": str(done.path), "cpu": done.bundle.cpu,
            "gate": done.decision.as_json(), "parity": done.bundle.parity_json(), "forced": reason,
        }
    )  # fmt: skip


def result_line(result: Mapping[str, Any]) -> None:
    """Prints a command's result for machines: one line of JSON on standard output."""
    typer.echo(json.dumps(result))
