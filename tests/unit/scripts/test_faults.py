"""`scripts/faults`: which seeds it runs next, and what its table says."""

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "faults"


@pytest.fixture(scope="module")
def faults() -> Any:
    loader = SourceFileLoader("faults_script", str(SCRIPT))
    module = module_from_spec(spec_from_loader("faults_script", loader))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.dont_write_bytecode", True)
        patch.setitem(__import__("sys").modules, "faults_script", module)
        loader.exec_module(module)
    return module


def result(test: str, seed: int, *, passed: bool = True, code: str = "now", seconds: float = 10.0) -> dict[str, Any]:
    return {
        "test": test,
        "seed": seed,
        "passed": passed,
        "code": code,
        "seconds": seconds,
        "experiment": 1,
        "title": f"title of {test}",
        "date": "2026-11-28T08:00:00+00:00",
        "machine": "2 cores",
        "commit": "abc",
        "message": "" if passed else "a photo was lost",
        "values": [["lost", 0], ["recovered_s", 2.0], ["figure: memory grew, MB", 3.0]],
    }


def known(*results: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(each["test"], each["seed"]): each for each in results}


def test_the_experiments_with_the_fewest_seeds_come_first(faults: Any) -> None:
    results = known(result("a", 1), result("b", 1), result("a", 2))
    assert faults.next_batch(["a", "b", "c"], results, code="now", left_s=900, seeds=20) == (1, ["c"])
    results |= known(result("c", 1))
    assert faults.next_batch(["a", "b", "c"], results, code="now", left_s=900, seeds=20) == (2, ["b", "c"])


def test_a_failed_seed_is_run_again_when_the_code_has_changed_and_only_then(faults: Any) -> None:
    results = known(result("a", 1, passed=False), result("a", 2))
    assert faults.next_batch(["a"], results, code="now", left_s=900, seeds=20) == (3, ["a"])
    assert faults.next_batch(["a"], results, code="mended", left_s=900, seeds=20) == (1, ["a"])


def test_nothing_is_started_that_would_end_too_late(faults: Any) -> None:
    results = known(result("long", 1, seconds=600.0), result("short", 1, seconds=20.0))
    assert faults.next_batch(["long", "short"], results, code="now", left_s=120, seeds=20) == (2, ["short"])
    assert faults.next_batch(["long"], results, code="now", left_s=120, seeds=20)[1] == []


def test_no_more_seeds_are_run_than_asked_for(faults: Any) -> None:
    assert faults.next_batch(["a"], known(result("a", 1)), code="now", left_s=900, seeds=1)[1] == []


def test_a_line_that_a_kill_cut_off_is_left_out_and_the_last_result_counts(faults: Any) -> None:
    failed, repeated = result("a", 1, passed=False), result("a", 1, code="mended")
    lines = [json.dumps(failed), json.dumps(repeated), json.dumps(result("b", 1))[:40]]
    assert faults.last_results(lines) == known(repeated)


def test_the_table_counts_and_names_what_failed(faults: Any) -> None:
    text = faults.table([result("a", 1), result("a", 2, passed=False)])
    assert "At least 2 seeds of each, 2026-11-28" in text
    assert "| 1 | title of a | 2 | 1 | 0 |  |  | 2.0 / 2.0 | memory grew, MB: 3.0 / 3.0 |" in text
    assert "- Failed: title of a, seed 2, abc: a photo was lost" in text
