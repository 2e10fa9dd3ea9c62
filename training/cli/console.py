"""Output and exit codes of all commands of `photo-trainer`.

Progress and tables go to standard error; standard output holds only results: in a pipe, JSON lines.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final

import typer
from rich.console import Console
from rich.text import Text

from training.errors import (
    DataError,
    EngineUnfit,
    GateRefused,
    RecipeError,
    RunError,
    ToolMissing,
    TrainerError,
    WeightsError,
)


class PlainConsole(Console):
    """A console whose texts are neither markup nor control sequences: names of photos and labels may be foreign."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - passes them on
        """The text with escapes for what is not printable; line breaks are kept."""
        shown = (char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
        return super().render_str("".join(shown), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)


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
    ENGINE_UNFIT = 9


_CODES: Final[dict[type[TrainerError], Exit]] = {
    RecipeError: Exit.RECIPE,
    DataError: Exit.DATA,
    WeightsError: Exit.WEIGHTS,
    RunError: Exit.RUN,
    GateRefused: Exit.REFUSED,
    ToolMissing: Exit.TOOL_MISSING,
    EngineUnfit: Exit.ENGINE_UNFIT,
}


@contextmanager
def explained() -> Iterator[None]:
    """Prints a TrainerError as one line and exits with its code; anything else is a bug and keeps its traceback.

    Raises:
        Exit: with the code of the error.
    """
    try:
        yield
    except TrainerError as error:
        err.print(f"photo-trainer: {error}", style="red", highlight=False)
        raise typer.Exit(_CODES.get(type(error), Exit.FAILED)) from None


def result_line(result: Mapping[str, Any]) -> None:
    """Prints a result as one line of JSON on standard output."""
    typer.echo(json.dumps(result))
