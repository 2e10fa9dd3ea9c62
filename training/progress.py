"""Progress: bars with rate and remaining time on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Lines per task where there is no terminal.
_LINES = 5


@contextmanager
def task(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows the progress of a task over `total` images.

    Yields:
        The function to call with the number of images done since its last call.
    """
    show = _bar if console.is_terminal else _lines
    with show(console, what, total) as advance:
        yield advance


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>5.0f} images/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        shown, started, done = progress.add_task(what, total=total, rate=0.0), time.monotonic(), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress.update(shown, advance=count, rate=done / max(time.monotonic() - started, 1e-6))

        yield advance


@contextmanager
def _lines(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    started, done, written = time.monotonic(), 0, 0

    def advance(count: int) -> None:
        nonlocal done, written
        done += count
        if done * _LINES // total > written:
            written = done * _LINES // total
            rate = done / max(time.monotonic() - started, 1e-6)
            left_s = (total - done) / rate
            console.print(f"{what}: {done} of {total}, {rate:.0f} images/s, {left_s:.0f} s left")

    yield advance
