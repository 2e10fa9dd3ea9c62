"""Every link of every page leads to a file and a heading that there are; so does every page that a file names."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)>\s]+)>?\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
NAMED = re.compile(r'<a id="([^"]+)"')
PATH = re.compile(r"(?<![\w/.-])docs/[\w/.-]+\.(?:md|jsonl?|png|toml)(?:#[\w-]+)?")
#: Copies of published versions stay as they were published; the texts of others are theirs.
FROZEN = ("tests/released/", "tests/series/", "triton_models/")


def tracked() -> list[str]:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file() and not name.startswith(FROZEN)]


PAGES = sorted(name for name in tracked() if name.endswith(".md"))


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.replace("`", "")).strip().lower().replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set(NAMED.findall(text))
    for each in map(slug, HEADING.findall(text)):
        number = 0
        while (name := f"{each}-{number}" if number else each) in found:
            number += 1
        found.add(name)
    return frozenset(found)


def fault(target: Path, anchor: str) -> str:
    if not target.exists():
        return "no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return "no such heading"
    return ""


def links(text: str) -> Iterator[str]:
    without_code = re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))
    for link in LINK.findall(without_code):
        if not re.match(r"[a-z]+:", link):
            yield link


def faults(page: Path, text: str) -> list[str]:
    found = []
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if said := fault(target.resolve(), anchor):
            found.append(f"{link}: {said}")
    return found


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_the_page_leads_somewhere(name: str) -> None:
    page = ROOT / name
    assert not faults(page, page.read_text(encoding="utf-8"))


def test_links_are_found() -> None:
    assert sum(1 for name in PAGES for _ in links((ROOT / name).read_text(encoding="utf-8"))) > 100


def test_every_page_that_a_file_names_is_there() -> None:
    found = []
    for name in tracked():
        if name == "tests/unit/test_documented_links.py":
            continue
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for path in PATH.findall(text):
            target, _, anchor = path.rstrip(".").partition("#")
            if said := fault(ROOT / target, anchor):
                found.append(f"{name}: {path}: {said}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("link", ["nowhere.md", "README.md#no-such-heading", "#no-such-heading", "docs/nowhere/"])
def test_a_link_that_leads_nowhere_is_found(link: str) -> None:
    assert faults(ROOT / "README.md", f"See [there]({link}).")


def test_every_page_of_docs_is_reached_from_its_index() -> None:
    index = ROOT / "docs" / "README.md"
    reached, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        for link in links(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target not in reached and target.is_file():
                reached.add(target)
                waiting.append(target)
    assert not {ROOT / name for name in PAGES if name.startswith("docs/")} - reached
