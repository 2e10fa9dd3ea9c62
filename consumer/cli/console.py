"""Output, exit codes and errors that all commands share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumer import settings
from consumer.errors import (
    ContractMismatch,
    DecodeHangs,
    DependencyDown,
    ProducerFailed,
    SettingsError,
    SourceFailed,
    TaggerError,
)

if TYPE_CHECKING:
    from consumer.telemetry import Log

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
    ProducerFailed: Exit.DEPENDENCY,
    DecodeHangs: Exit.DECODE_HANGS,
}


@contextmanager
def explained() -> Iterator[None]:
    """Turns a `TaggerError` into one line and its exit code; anything else is a bug and keeps its traceback."""
    try:
        yield
    except TaggerError as error:
        err.print(f"photo-tagger: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(_CODES.get(type(error), Exit.FAILED)) from None


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing in a pipe.

    Yields:
        A function of (finished, total).
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda finished, total: bar.update(task, completed=finished, total=total)


def echo_json(value: object, *, indent: bool = False) -> None:
    """Prints a value as JSON, on one line unless indented."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).decode())


def job_log(loaded: settings.Settings) -> "Log":
    """The log of a job that a person starts: on standard error, warnings only on a terminal."""
    from consumer.telemetry import configure_logging  # noqa: PLC0415 - `--help` must not load it

    return configure_logging("warning" if err.is_terminal else loaded.log.level, loaded.log.format, sys.stderr)
