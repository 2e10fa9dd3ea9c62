"""The options of `photo-tagger runs`: which photos a run is over; and how its progress is shown."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumer.cli.console import err
from consumer.cli.times import check_range, parse_time
from consumer.errors import SettingsError

if TYPE_CHECKING:
    from consumer.operations.run_progress import Progress as Done
    from consumer.operations.run_progress import Told
    from consumer.runs.definition import Selection

#: Most offsets of a range that has no end.
_NO_END: Final = 2**62
#: `0:100-200`; Kafka's numbers have 19 digits at most.
_RANGE: Final = re.compile(r"([0-9]{1,9})(?::([0-9]{1,18})?(?:-([0-9]{1,18})?)?)?", re.ASCII)
#: Of a file of ids: as many as are taken, each as long as an id may be.
_MOST_BYTES: Final = 64 * 1024 * 1024

Id = Annotated[str, typer.Argument(metavar="RUN", help="id of the run; `runs list` has it")]
Since = Annotated[str | None, typer.Option("--from", help="uploads since: 2026-11-21T10:00:00Z, 2h (ago), beginning")]
Until = Annotated[str | None, typer.Option("--to", help="uploads before: the same forms, or now")]
Offsets = Annotated[
    list[str] | None, typer.Option(metavar="P:A-B", help="offsets A to B of partition P; P alone is all of it")
]
Ids = Annotated[Path | None, typer.Option(help="a file with one photo id a line, at most 50,000")]
Brands = Annotated[list[str] | None, typer.Option("--brand-now", help="photos that show this brand now")]
Levels = Annotated[list[int] | None, typer.Option("--level-now", min=1, max=5, help="photos of this level now")]
Rate = Annotated[float | None, typer.Option(min=0.01, help="photos in a second, at most, of each worker")]
Name = Annotated[str | None, typer.Option(help="id of the new run; by default its time")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say how many photos it is over, and write nothing")]


def range_of(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """The moments of `--from` and `--to`, where they are given.

    Raises:
        SettingsError: one is none, or the range ends before it begins.
    """
    begin = None if since is None else parse_time(since, option="--from")
    end = None if until is None else parse_time(until, option="--to")
    check_range(begin, end, option="--to")
    return begin, end


def offsets_of(texts: list[str] | None) -> dict[int, range] | None:
    """The ranges of `0:100-200`, `1:100-` and `2`."""
    if not texts:
        return None
    found: dict[int, range] = {}
    for text in texts:
        if (parts := _RANGE.fullmatch(text)) is None:
            raise SettingsError(f"{text[:100]!r} is not PARTITION:FIRST-LAST", setting="--offsets")
        number, first, last = parts.groups()
        if int(number) in found:
            raise SettingsError(
                f"partition {int(number)} is named twice; a run has one range of each", setting="--offsets"
            )
        found[int(number)] = range(int(first or 0), int(last) + 1 if last else _NO_END)
    return found


def selection_of(ids: Path | None, brands: list[str] | None, levels: list[int] | None) -> "Selection":
    """The photos that options choose; all without one."""
    from consumer.runs.definition import MOST_IDS, Selection  # noqa: PLC0415 - as in `start`

    listed: tuple[str, ...] = ()
    if ids is not None:
        listed = tuple(dict.fromkeys(filter(None, (line.strip(" \t\r") for line in _text(ids).split("\n")))))
        if not 0 < len(listed) <= MOST_IDS:
            raise SettingsError(f"{ids} has {len(listed)} ids, 1 to {MOST_IDS} are taken", setting="--ids")
    return Selection(listed, tuple(brands or ()), tuple(levels or ()))


def _text(ids: Path) -> str:
    """A file of ids, with or without the mark that editors on Windows begin a file with.

    Raises:
        SettingsError: it cannot be read, or is no such file.
    """
    try:
        with ids.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise SettingsError(f"{ids} is larger than {_MOST_BYTES >> 20} MiB", setting="--ids")
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {ids}: {error}", setting="--ids") from None


@contextmanager
def telling() -> Iterator["Told"]:
    """Shows the progress of a run: a bar on a terminal, JSON lines in a pipe.

    Yields:
        A function of the progress.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("judging", total=None)

        def told(done: "Done") -> None:
            if not err.is_terminal:
                counts = {"done": done.done, "total": done.total, "outcomes": done.outcomes}
                row = {"event": "run.progress", **counts, "photos_per_s": done.photos_per_s, "left_s": done.left_s}
                sys.stderr.write(orjson.dumps(row).decode() + "\n")
                return
            text = f"judging, {done.photos_per_s:g} photos/s"
            bar.update(task, completed=done.done, total=done.total or None, description=text)

        yield told
