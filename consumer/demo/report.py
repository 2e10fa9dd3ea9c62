"""The demo's output: styled on a terminal, plain lines elsewhere."""

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from consumer.demo.ledger import Numbers
from consumer.embedded.paths import repository_root
from consumer.escape import json_printable, printable
from consumer.web.gallery import DeadLetter, Link, TaggedPhoto
from consumer.web.pages import LEVELS

_EXAMPLES: Final = 6
_DEAD_LETTERS_SHOWN: Final = 6
_PLAIN_STEPS: Final = 4
_PLAIN_WIDTH: Final = 100
_LEVEL_COLOURS: Final = ("red", "dark_orange", "yellow", "green", "bold green")
_NEXT_IN_A_CHECKOUT: Final = (
    ("make demo PHOTOS=dir", "tag your own photos"),
    ("docker compose up --build --wait", "the same on the real stack"),
    ("make models", "train both models and publish a new version"),
    (".venv/bin/photo-tagger runs --help", "judge under other models, compare, promote, go back"),
    ('export PATH="$PWD/.venv/bin:$PATH"', "lets photo-tagger be found, as the docs write it"),
)
_NEXT_INSTALLED: Final = (
    ("photo-tagger demo --photos dir", "tag your own photos"),
    ("photo-tagger config", "every setting, to run the service on your own servers"),
    ("photo-tagger runs --help", "judge under other models, compare, promote, go back"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """The end of a demo: its numbers, where pages and logs are, and what is wrong, a line each.

    `change` is a page beside the gallery.
    """

    numbers: Numbers
    gallery: Path
    change: Link | None
    logs: Path
    problems: list[str]


class Reporter:
    """Writes to standard output, or error. Names of photos are untrusted: nothing in them is taken for markup."""

    def __init__(self, *, as_json: bool = False) -> None:
        """Opens the output; characters that its encoding lacks become question marks.

        With `as_json` that is standard error, and standard output is for the outcome.
        """
        self._as_json = as_json
        reconfigure = getattr(sys.stderr if as_json else sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
        self._console = Console(highlight=False, stderr=as_json)
        if not self._console.is_terminal:
            self._console.width = _PLAIN_WIDTH

    def step(self, text: str) -> None:
        """Prints a completed step."""
        self._line(Text.assemble(("✓ ", "green"), printable(text)))

    def note(self, text: str) -> None:
        """Prints something that the user should know."""
        self._line(Text.assemble(("! ", "bold yellow"), printable(text)))

    def problem(self, text: str) -> None:
        """Prints an error, line by line."""
        self._line(Text("\n".join(map(printable, text.splitlines())), "bold red"))

    def title(self, text: str) -> None:
        """Prints a heading."""
        self._line(Text(printable(text), "bold"))

    def holding(self, environment: Path, redis_url: str, web: str) -> None:
        """Prints where the web page is, and commands for another terminal while everything keeps running."""
        self._line(Text.assemble("web page ", (web, "underline"), "  photos, dead letters, runs, how the service does"))
        self.title("everything stays up until Ctrl-C; in another terminal:")
        for line in (
            f"source {shlex.quote(str(environment))}",
            "photo-tagger find puma",
            "photo-tagger models releases",
            "photo-tagger replay --from 1h",
            f"redis-cli -u {redis_url} --scan",
        ):
            self._line(Text(f"  {line}"))

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """A progress bar on a terminal, elsewhere a line at each quarter.

        Yields:
            A function to call once for each of `total`.
        """
        if self._console.is_terminal:
            columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=self._console) as bar:
                task = bar.add_task(what, total=total)
                yield lambda: bar.advance(task)
            return
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            if done * _PLAIN_STEPS // total > (done - 1) * _PLAIN_STEPS // total:
                self._line(Text(f"  {what} {done}/{total}"))

        yield advance

    def results(self, photos: Sequence[TaggedPhoto], letters: Sequence[DeadLetter]) -> None:
        """Prints some photos, from the best to the worst, and the first dead letters."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("photo", max_width=34, no_wrap=True)
        table.add_column("quality", no_wrap=True)
        table.add_column("brands", overflow="fold")
        for photo in _spread(sorted(photos, key=lambda photo: -photo.quality.score)):
            brands = ", ".join(f"{printable(brand.brand)} {brand.probability:.2f}" for brand in photo.brands)
            table.add_row(Text(printable(photo.name)), _quality(photo), Text(brands or "-"))
        for letter in letters[:_DEAD_LETTERS_SHOWN]:
            reason = Text(printable(letter.reason), "red")
            table.add_row(Text(printable(letter.name)), reason, Text("dead letter", "bright_black"))
        self._console.print(table)
        if len(letters) > _DEAD_LETTERS_SHOWN:
            self._line(Text(f"and {len(letters) - _DEAD_LETTERS_SHOWN} more dead letters"))

    def outcome(self, shown: Shown, *, web: str | None = None, environment: Path | None = None) -> None:
        """Prints the end as JSON, if that is wanted; `environment` is the file of settings for other programs."""
        if not self._as_json:
            return
        row = {
            **asdict(shown.numbers),
            "gallery": str(shown.gallery),
            "change": shown.change and str(shown.gallery.with_name(shown.change.href)),
            "logs": str(shown.logs),
            "web": web,
            "environment": environment and str(environment),
            "problems": shown.problems,
        }
        sys.stdout.write(json_printable(json.dumps(row)) + "\n")
        sys.stdout.flush()

    def summary(self, shown: Shown) -> None:
        """Prints the numbers, where the pages are, and what to try next."""
        numbers, change = shown.numbers, shown.change
        parts = [f"tagged {numbers.tagged}", f"dead-lettered {numbers.dead_lettered}"]
        if numbers.photos_per_s is not None:
            parts.append(f"{numbers.photos_per_s:.1f} photos/s")
        if numbers.p50_ms is not None and numbers.p95_ms is not None:
            parts.append(f"event to tag p50 {numbers.p50_ms:.0f} ms, p95 {numbers.p95_ms:.0f} ms (all sent at once)")
        self._line(Text(" · ".join(parts), "bold"))
        self._line(Text.assemble("gallery  ", (shown.gallery.resolve().as_uri(), "underline")))
        if change is not None:
            page = shown.gallery.resolve().with_name(change.href)
            self._line(Text.assemble("change   ", (page.as_uri(), "underline"), f"  {change.text}"))
        self._line(Text(f"logs     {printable(str(shown.logs))}"))
        self._line(Text("next:", "bold"))
        commands = _NEXT_IN_A_CHECKOUT if repository_root() else _NEXT_INSTALLED
        width = max(len(command) for command, _ in commands)
        for command, purpose in commands:
            self._line(Text.assemble("  ", (command.ljust(width), "cyan"), f"  {purpose}"))

    def _line(self, text: Text) -> None:
        # Soft-wrapped: a path broken over two lines could not be clicked or copied.
        self._console.print(text, soft_wrap=True)


def _quality(photo: TaggedPhoto) -> Text:
    level = photo.quality.level
    bar = "■" * level + "□" * (len(LEVELS) - level)
    return Text.assemble((bar, _LEVEL_COLOURS[level - 1]), f" {LEVELS[level - 1]} {photo.quality.score:.2f}")


def _spread(photos: Sequence[TaggedPhoto]) -> list[TaggedPhoto]:
    """At most `_EXAMPLES` of them, first and last included, evenly spaced."""
    if len(photos) <= _EXAMPLES:
        return list(photos)
    return [photos[round(number * (len(photos) - 1) / (_EXAMPLES - 1))] for number in range(_EXAMPLES)]
