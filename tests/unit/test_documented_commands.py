"""Every command line of README and docs is one that the programs and the Makefile know, with these options."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from consumer.cli.main import app as tagger
from training.cli.main import app as trainer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"photo-tagger": typer.main.get_command(tagger), "photo-trainer": typer.main.get_command(trainer)}
#: In prose a command may be named without what it needs.
INCOMPLETE = (
    "Missing argument",
    "Missing option",
    "Missing command",
    "Missing parameter",
    "Usage: ",
    "NoArgsIsHelpError",
)
MAKE = re.compile(r"^([a-z-]+(?: [a-z-]+)*):", re.MULTILINE)
VARIABLE = re.compile(r"^([A-Z]+) \?=", re.MULTILINE)
NAMED = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?((?:photo-tagger|photo-trainer|make) .+)$")


@dataclass(frozen=True)
class Line:
    """A command of a page; `whole` where it stands in a block, to be typed as it is."""

    place: str
    text: str
    whole: bool


def lines_of(page: Path) -> Iterator[Line]:
    fence = ""
    numbered = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in numbered:
        place = f"{page.relative_to(ROOT)}:{number}"
        if line.lstrip().startswith("```"):
            fence = "" if fence else line.strip()
        elif not fence:
            for found in filter(None, map(NAMED.match, re.findall(r"`([^`]+)`", line))):
                yield Line(place, found[1], whole=False)
        elif fence != "```text":  # what a program prints, or how a command is called in general
            whole = line.strip()
            while whole.endswith("\\"):
                whole = whole[:-1] + next(numbered)[1].strip()
            if (found := NAMED.match(whole)) and not found[1].startswith("photo-tagger demo: "):  # what it prints
                yield Line(place, found[1], whole=True)


def words_of(text: str) -> list[str]:
    """The words before a comment, a pipe or what follows."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("|;&<>"):
            break
        words.append(word)
    return words


def fault_of(command: Any, words: list[str], parent: Any = None) -> str:
    """What the program would say of these words; empty if it takes them."""
    try:
        context = command.make_context(command.name or "", list(words), parent=parent)
        if not hasattr(command, "commands"):
            return ""
        rest = [*context._protected_args, *context.args]
        _, inner, rest = command.resolve_command(context, rest)
    except (typer.Exit, SystemExit):  # --help, --version
        return ""
    except Exception as error:  # noqa: BLE001 - typer's click may be its own
        if not hasattr(error, "format_message"):
            return "" if type(error).__name__ == "Exit" else repr(error)
        return str(error.format_message()) or type(error).__name__
    return fault_of(inner, rest, context)


def fault_of_make(words: list[str]) -> str:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for names in MAKE.findall(makefile) for name in names.split()}
    variables = set(VARIABLE.findall(makefile)) | {"MODELS"}
    for word in words:
        name, is_variable, _ = word.partition("=")
        if name not in (variables if is_variable else targets):
            return f"make knows no {word}"
    return ""


def fault(line: Line) -> str:
    program, *words = words_of(line.text)
    if not line.whole and ("..." in words or "…" in words):
        return ""
    found = fault_of_make(words) if program == "make" else fault_of(PROGRAMS[program], words)
    if found.endswith("does not exist."):  # the file of an example
        return ""
    return "" if not line.whole and found.startswith(INCOMPLETE) else found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_the_page_is_one(page: Path) -> None:
    faults = [f"{line.place}: {line.text}: {found}" for line in lines_of(page) if (found := fault(line))]
    assert not faults, "\n".join(faults)


def test_commands_are_found() -> None:
    found = [line for page in PAGES for line in lines_of(page)]
    assert len([line for line in found if line.whole]) > 40
    assert {line.text.split()[0] for line in found} == {"photo-tagger", "photo-trainer", "make"}


@pytest.mark.parametrize(
    "text",
    [
        "photo-tagger tag me",
        "photo-tagger dlq list --why http_5xx",
        "photo-tagger runs show",
        "photo-tagger sizing --photos-per-s many",
        "photo-trainer train my-brands --data photos --nme mine",
        "make coffee",
        "make demo PICTURES=x",
    ],
)
def test_what_no_program_knows_is_a_fault(text: str) -> None:
    assert fault(Line("page:1", text, whole=True))
