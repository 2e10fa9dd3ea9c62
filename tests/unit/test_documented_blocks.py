"""Blocks and commands that no other test runs: they parse, and name files, modules and services that there are."""

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
SCRIPT = re.compile(r"(?<![\w/.])scripts/([a-z-]+)")
MODULE = re.compile(r"\bpython (?:-\w \S+ )?-m ([\w.]+)|--nproc-per-node \S+ -m ([\w.]+)")
COMPOSE = re.compile(r"docker compose [^`\n|#]+")
FILES = [yaml.safe_load((ROOT / name).read_text()) for name in ("docker-compose.yml", "deploy/compose/gpu.yml")]
SERVICES = {name: service for file in reversed(FILES) for name, service in file["services"].items()}
PROFILES = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "python": ast.parse,
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}
VALUED = {"-f", "--tail", "--profile"}
#: They name services: those, or the first word alone, whose others are a command.
OF_SERVICES, OF_ONE = {"ps", "logs", "restart", "up"}, {"exec", "run"}


def blocks() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        for indent, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language in PARSERS:
                yield str(page.relative_to(ROOT)), language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("language", "text"), [pytest.param(*block, id=f"{page}-{block[0]}") for page, *block in blocks()]
)
def test_a_block_is_what_it_says_that_it_is(language: str, text: str) -> None:
    PARSERS[language](text)


def fault_of_compose(line: str) -> str:
    """What Compose would not find of a command: a profile, or a service."""
    words = iter(shlex.split(line.partition(" $")[0])[2:])
    command, named = "", []
    for word in words:
        value = next(words) if word in VALUED else ""
        if word == "--profile" and value not in PROFILES:
            return f"no profile {value}"
        if not word.startswith("-") and not command:
            command = word
        elif not word.startswith("-"):
            named.append(word)
    named = named[:1] if command in OF_ONE else named if command in OF_SERVICES else []
    return "".join(f"no service {name}" for name in named if name not in SERVICES and not name.isupper())


def faults(text: str) -> list[str]:
    found = [f"no scripts/{name}" for name in SCRIPT.findall(text) if not (ROOT / "scripts" / name).is_file()]
    modules = {name for names in MODULE.findall(text) for name in names if name}
    found += [f"no module {name}" for name in modules if find_spec(name) is None]
    return found + [said for line in COMPOSE.findall(text) if (said := fault_of_compose(line.rstrip(". ")))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_names_scripts_modules_and_services_that_there_are(page: Path) -> None:
    assert not faults(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "`scripts/nothing`",
        ".venv/bin/python -m benchmarks.nothing",
        "docker compose --profile none up",
        "docker compose exec tagger photo-tagger lag",
        "docker compose logs --tail 5 kafka tagger | grep x",
    ],
)
def test_what_there_is_not_is_found(text: str) -> None:
    assert faults(text)


def broken_rows(text: str) -> list[str]:
    """Rows that are no table, or have more or fewer cells than its head: they are shown as text, or cut."""
    found = []
    for table in TABLE.findall(re.sub(BLOCK, "", text)):
        rows = [re.sub(r"\\\|", "", row) for row in table.splitlines()]
        is_table = len(rows) > 1 and re.fullmatch(r"\|(?: *:?-+:? *\|)+", rows[1])
        found += [row for row in rows if not is_table or row.count("|") != rows[0].count("|")]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_row_of_a_table_is_shown(page: Path) -> None:
    assert not broken_rows(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", ["\n| c | d |", "| c |", "| c | d | e |"])
def test_a_row_that_is_not_shown_is_found(row: str) -> None:
    assert broken_rows(f"| a | b |\n|---|---|\n{row}\n")


def test_blocks_of_each_kind_are_found() -> None:
    found: Any = {language for _, language, _ in blocks()}
    assert found >= {"python", "json", "toml", "yaml"}
