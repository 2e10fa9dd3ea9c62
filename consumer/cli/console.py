"""What every command of the command line shares: where it prints, how it ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumer.errors import ContractMismatch, DecodeHangs, DependencyDown, SettingsError, SourceFailed, TaggerError

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


class Exit(IntEnum):
    """Exit codes, for scripts."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SETTINGS = 3
    CONTRACT = 4
    DEPENDENCY = 5
    NOT_FOUND = 6
    DECODE_HANGS = 7
    REFUSED = 8


_CODES: Final[dict[type[TaggerError], Exit]] = {
    SettingsError: Exit.SETTINGS,
    ContractMismatch: Exit.CONTRACT,
    DependencyDown: Exit.DEPENDENCY,
    SourceFailed: Exit.DEPENDENCY,
    DecodeHangs: Exit.DECODE_HANGS,
}


@contextmanager
def explained() -> Iterator[None]:
    """Turns our errors into one line and an exit code; anything else is a bug and keeps its traceback.

    Raises:
        Exit: with the code of the error.
    """
    try:
        yield
    except TaggerError as error:
        err.print(f"photo-tagger: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(_CODES.get(type(error), Exit.FAILED)) from None


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing in a pipe.

    Yields:
        What takes (finished, total).
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda finished, total: bar.update(task, completed=finished, total=total)
