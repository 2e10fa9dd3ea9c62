"""Progress: bars with rate and remaining time on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Lines per task where there is no terminal.
_LINES = 5


class Advance(Protocol):
    """Counts what is done."""

    def __call__(self, count: int, note: str = "", /) -> None:
        """Adds the images done since the last call; a note, such as the loss, stands beside them until the next one."""


@contextmanager
def task(console: Console, what: str, total: int) -> Iterator[Advance]:
    """Shows the progress of a task over `total` images.

    Yields:
        The function to call after each part.
    """
    show = _bar if console.is_terminal else _lines
    with show(console, what, total) as advance:
        yield advance


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>5.0f} images/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        shown, started = progress.add_task(what, total=total, rate=0.0, note=""), time.monotonic()
        done, last = 0, ""

        def advance(count: int, note: str = "", /) -> None:
            nonlocal done, last
            done, last = done + count, note or last
            progress.update(shown, advance=count, rate=done / max(time.monotonic() - started, 1e-6), note=last)

        yield advance


@contextmanager
def _lines(console: Console, what: str, total: int) -> Iterator[Advance]:
    started, done, written, last = time.monotonic(), 0, 0, ""

    def advance(count: int, note: str = "", /) -> None:
        nonlocal done, written, last
        done, last = done + count, note or last
        if done * _LINES // total > written:
            written = done * _LINES // total
            rate = done / max(time.monotonic() - started, 1e-6)
            left_s = (total - done) / rate
            shown = f"; {last}" if last else ""
            console.print(f"{what}: {done} of {total}, {rate:.0f} images/s, {left_s:.0f} s left{shown}")

    yield advance
