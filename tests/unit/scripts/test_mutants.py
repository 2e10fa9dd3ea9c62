"""`scripts/mutants`: how it breaks code, and which of its results still count."""

import ast
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = """\
class A:
    def of(self, left: int) -> int:
        self.kept = left
        while left < 5 and self.kept:
            left += 1
        return left - 1

    def over(self, end_s: float) -> bool:
        return monotonic() < end_s
"""
LUA = "if old == new then -- the same\n    redis.call('DEL', KEYS[1])\nend\n"


@pytest.fixture(scope="module")
def mutants() -> Any:
    loader = SourceFileLoader("mutants_script", str(ROOT / "scripts" / "mutants"))
    module = module_from_spec(spec_from_loader("mutants_script", loader))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.dont_write_bytecode", True)
        patch.setitem(__import__("sys").modules, "mutants_script", module)
        loader.exec_module(module)
    return module


def test_each_mutant_is_one_change_to_one_function_and_can_be_run(mutants: Any) -> None:
    made = mutants.mutants_of("a.py", SOURCE)
    assert {(each.before, each.after) for each in made if each.function == "A.of"} == {
        ("self.kept = left", "pass"),
        ("while left < 5 and self.kept:", "while left <= 5 and self.kept:"),
        ("while left < 5 and self.kept:", "while left < 6 and self.kept:"),
        ("while left < 5 and self.kept:", "while left < 5 or self.kept:"),
        ("while left < 5 and self.kept:", "while left < 5:"),
        ("left += 1", "pass"),
        ("left += 1", "left += 2"),
        ("return left - 1", "return left + 1"),
        ("return left - 1", "return left - 2"),
    }
    assert all(ast.parse(each.text) for each in made)
    assert len({each.text for each in made}) == len(made)


def test_two_moments_that_are_equal_are_no_mutant(mutants: Any) -> None:
    (made,) = (each for each in mutants.mutants_of("a.py", SOURCE) if each.function == "A.over")
    assert made.after == "return monotonic() >= end_s"


def test_a_line_of_lua_is_turned_round_or_left_out(mutants: Any) -> None:
    assert [(each.function, each.after) for each in mutants.mutants_of("a.lua", LUA)] == [
        ("line 1", "if old ~= new then"),
        ("line 1", "if not (old == new) then"),
        ("line 2", "left out"),
    ]


def test_the_same_seed_chooses_the_same_though_some_are_known_to_change_nothing(
    mutants: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = (mutants.Part(("consumer/versions.py", "consumer/kafka/starts.py"), (), ()),)
    before = [each.name for _, each in mutants.chosen(area, 8, 1)]
    assert len({name.split()[0] for name in before[:2]}) == 2
    assert before != [each.name for _, each in mutants.chosen(area, 8, 2)]
    monkeypatch.setattr(mutants, "EQUIVALENT", tmp_path / "equivalent")
    mutants.EQUIVALENT.write_text(f"{before[0]}  # said otherwise\n")
    after = [each.name for _, each in mutants.chosen(area, 8, 1)]
    assert set(before) - set(after) == {before[0]}


def test_what_no_test_noticed_is_void_once_the_tests_changed_and_what_one_noticed_is_not(
    mutants: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    (tmp_path / "old.py").write_text("old")
    (tmp_path / "new.py").write_text("new")
    one, other = mutants.mutants_of("a.lua", LUA)[:2]
    results = mutants.Results(tmp_path / "state" / "results.jsonl")
    assert results.of(one, "unit", ("old.py",)) is None
    results.keep(one, "unit", ("old.py",), "")
    results.keep(other, "unit", ("old.py",), "a test")
    for again in (results, mutants.Results(tmp_path / "state" / "results.jsonl")):
        assert [again.of(each, "unit", ("old.py",)) for each in (one, other)] == ["", "a test"]
        assert [again.of(each, "unit", ("new.py",)) for each in (one, other)] == [None, "a test"]
        assert again.of(one, "servers", ("old.py",)) is None
        assert [again.passed(each, "unit") for each in (one, other)] == [True, False]


@pytest.mark.parametrize(
    ("answers", "noticed"),
    [
        ([""], ""),
        (["t::a", "t::a", ""], "t::a"),
        (["t::a", "", ""], ""),
        (["t::a", "", "t::a", "t::a", ""], "t::a"),
        (["t::a", "t::a", "t::a"] * 2, ""),
    ],
    ids=["passes", "fails again", "fails by chance", "fails again the second time", "fails without the mutant"],
)
def test_only_a_test_that_fails_again_and_passes_without_the_mutant_has_noticed_it(
    mutants: Any, tmp_path: Path, answers: list[str], noticed: str
) -> None:
    (tmp_path / "a.lua").write_text(LUA)
    place = object.__new__(mutants.Copy)
    place._folder, place._passed = tmp_path, set()
    place._run = lambda _: answers.pop(0)
    assert place.noticed_by(mutants.mutants_of("a.lua", LUA)[0], ("t",)) == noticed
    assert (tmp_path / "a.lua").read_text() == LUA
    assert answers == []
