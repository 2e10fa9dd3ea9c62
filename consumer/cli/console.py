"""Output, exit codes and errors that all commands share."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from enum import IntEnum
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from consumer import settings
from consumer.errors import (
    ContractMismatch,
    DecodeHangs,
    DependencyDown,
    NotFound,
    ProducerFailed,
    Refused,
    SettingsError,
    SourceFailed,
    TaggerError,
)
from consumer.escape import json_printable, printable

if TYPE_CHECKING:
    from consumer.telemetry import Log


T = TypeVar("T")

_AGAIN_S: Final = 0.5
#: Cells of the longest name that stays on one line: half of a usual terminal.
_WHOLE: Final = 40


class PlainConsole(Console):
    """A console whose texts, also those in tables, are neither markup nor control sequences: they may be foreign.

    A line break in a text is shown as an escape, too: it would forge a line.
    """

    #: Whether JSON is wanted, whatever this is; rich asks while it is made.
    as_json = False

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, markup=False, emoji=False, highlight=False)

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it, and as a text."""
        return super().is_terminal and not self.as_json

    def on_broken_pipe(self) -> None:
        """Leaves it to the end of the process: rich would end it here.

        Raises:
            BrokenPipeError: always.
        """
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - passes them on
        """The text with escapes for what is not printable."""
        return super().render_str(printable(text), **options)


class _Columns(Table):
    """A table of texts in which a long name goes on in the next line: unbroken it would push the others out."""

    def add_row(self, *texts: Any, **options: Any) -> None:  # noqa: ANN401 - as rich has it
        """Adds a row."""
        for column, text in zip(self.columns, texts, strict=True):
            column.no_wrap &= cell_len(printable(text)) <= _WHOLE
        super().add_row(*texts, **options)


def columns(*titles: str, names: int = 1) -> Table:
    """A table whose first columns name the row, and are never cut; nor broken, but for very long names.

    What is too long for its column goes on in the next line: rich would cut it.
    """
    made = _Columns(box=None, header_style="bold")
    for number, title in enumerate(titles):
        made.add_column(title, overflow="fold", no_wrap=number < names)
    return made


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """What is known of one thing: names and values, none of which is cut."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in rows:
        made.add_row(name, text)
    return made


def shortened(text: str, most: int) -> str:
    """A text for a row of a table, of so many characters: a longer one ends in an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


out = PlainConsole()
err = PlainConsole(stderr=True)


class Exit(IntEnum):
    """Exit codes, for scripts."""

    OK = 0
    FAILED = 1
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
    NotFound: Exit.NOT_FOUND,
    DecodeHangs: Exit.DECODE_HANGS,
    Refused: Exit.REFUSED,
}


#: Whether a command is begun again where a server does not answer.
_PATIENT: Final = ContextVar("patient", default=False)


@contextmanager
def patience(*, left: bool) -> Iterator[None]:
    """While some is left, `explained` lets a `DependencyDown` through to who begins the command again.

    Yields:
        Nothing.
    """
    token = _PATIENT.set(left)
    try:
        yield
    finally:
        _PATIENT.reset(token)


@contextmanager
def explained() -> Iterator[None]:
    """Turns a `TaggerError` into one line and its exit code; anything else is a bug and keeps its traceback.

    Yields:
        Nothing.

    Raises:
        DependencyDown: a server does not answer, and the command is begun again.
    """
    try:
        yield
    except TaggerError as error:
        if isinstance(error, DependencyDown) and _PATIENT.get():
            raise
        text = str(error)
        if isinstance(error, SettingsError) and error.setting and not error.setting.startswith("-"):
            text = settings.located(error.setting, error.detail)
        for line in f"photo-tagger: {text}".splitlines():
            err.print(line, style="red")
        raise typer.Exit(
            next((code for kind, code in _CODES.items() if isinstance(error, kind)), Exit.FAILED)
        ) from None


@contextmanager
def leaving_hung_threads() -> Iterator[None]:
    """Ends the process at once if a decode still hangs: the interpreter would wait for its thread.

    Yields:
        Nothing.
    """
    code = int(Exit.FAILED)
    try:
        yield
        code = int(Exit.OK)
    except typer.Exit as ended:
        code = ended.exit_code
        raise
    finally:
        if any(thread.name.startswith("decode") and thread.is_alive() for thread in threading.enumerate()):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


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


async def patiently(call: Callable[[], Awaitable[T]], wait_s: float) -> T:
    """The result of a call, repeated for so long while a dependency does not answer; why is said once.

    Raises:
        DependencyDown: it did not answer in time.
    """
    deadline, said = monotonic() + wait_s, False
    while True:
        try:
            return await call()
        except DependencyDown as down:
            if monotonic() >= deadline:
                raise
            if not said:
                err.print(f"waiting {wait_s:g} s: {down}", style="yellow")
            said = True
        await asyncio.sleep(_AGAIN_S)


def echo_json(value: object, *, indent: bool = False) -> None:
    """Prints a value as JSON, on one line unless indented."""
    options = orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        text = orjson.dumps(value, option=options).decode()
    except TypeError:  # a text that is not Unicode, such as the name of a file, or a number of more than 64 bits
        text = json.dumps(value, indent=2 if indent else None, default=_time_as_json)
    typer.echo(json_printable(text))


def _time_as_json(value: object) -> str:
    """A time as orjson writes it, which leaves nothing else to `json`.

    Raises:
        TypeError: it is no time.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return value.isoformat().replace("+00:00", "Z")


def job_log(loaded: settings.Settings) -> "Log":
    """The log of a job that a person starts: on standard error, warnings only on a terminal."""
    from consumer.telemetry import configure_logging  # noqa: PLC0415 - `--help` must not load it

    return configure_logging("warning" if err.is_terminal else loaded.log.level, loaded.log.format, sys.stderr)
