"""`scripts/reference`: the pages of docs/reference say what the code says."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.console import Exit
from consumer.cli.helps import commands_of
from consumer.cli.main import app
from consumer.settings import Settings, rows, variable_of
from training.cli.console import Exit as TrainerExit

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script() -> Any:
    loader = SourceFileLoader("reference_script", str(ROOT / "scripts" / "reference"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.dont_write_bytecode", True)
        loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(script: Any) -> dict[str, str]:
    made: dict[str, str] = script.pages()
    return made


@pytest.mark.parametrize(
    "name", ["settings.md", "exit-codes.md", "photo-tagger.md", "photo-trainer.md", "metrics-and-logs.md"]
)
def test_a_page_is_what_the_code_generates(name: str, pages: dict[str, str]) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == pages[name], "run `make schemas`"


def test_every_setting_is_there_with_its_variable_and_meaning(pages: dict[str, str]) -> None:
    for row in rows(Settings(), {}):
        line = next(line for line in pages["settings.md"].splitlines() if line.startswith(f"| `{row.name}`<br>"))
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert f"`{variable_of(row.name)}`" in cells[0]
        assert len(cells) == 4
        assert all(cells)


def test_every_command_is_there(pages: dict[str, str]) -> None:
    for path, _ in commands_of(app):
        assert f"\n## photo-tagger {path}\n" in pages["photo-tagger.md"]
    assert "\n## photo-trainer data check\n" in pages["photo-trainer.md"]


def test_every_exit_code_has_a_meaning(script: Any) -> None:
    assert set(script.CODES) == set(Exit)
    assert set(script.TRAINER_CODES) == set(TrainerExit)


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 64}, "whole number, ≥ 1, ≤ 64"),
        ({"anyOf": [{"type": "string", "format": "path"}, {"type": "null"}]}, "path"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of `a` or `b`"),
        ({"type": "string", "pattern": "a|b"}, r"text, `a\|b`"),
    ],
)
def test_a_type_is_told_with_its_bounds(script: Any, schema: dict[str, Any], kind: str) -> None:
    assert script.kind_of(schema) == kind


def test_what_looks_like_a_tag_is_shown(script: Any) -> None:
    assert script.cell("<name>.<run>, 0<=x") == "&lt;name>.&lt;run>, 0<=x"
