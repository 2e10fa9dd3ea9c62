"""Every command of docs/how-to/runbook.md is one that there is."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from consumer.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/how-to/runbook.md"
COMMAND = re.compile(r"(?:^|`)(photo-tagger [a-z][^`\n]*)", re.MULTILINE)


def commands(text: str) -> list[str]:
    """As they stand in blocks and between backticks, without what is said behind `#`."""
    return [found.partition(" #")[0].strip() for found in COMMAND.findall(text)]


def parse(line: str) -> None:
    """Reads a command line as the program would, and runs nothing."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"no such command: {name}"
        command = command.commands[name]
    if "--help" not in words:
        command.make_context(name, words)


@pytest.mark.parametrize("line", sorted(set(commands(PAGE.read_text(encoding="utf-8")))))
def test_a_command_of_the_runbook_can_be_read(line: str) -> None:
    parse(line)


def test_the_page_has_commands() -> None:
    assert len(commands(PAGE.read_text(encoding="utf-8"))) > 30


@pytest.mark.parametrize(
    "line", ["photo-tagger lags", "photo-tagger lag --all", "photo-tagger dlq retry --execute --reason"]
)
def test_a_command_that_there_is_not_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|requires"):
        parse(line)
