"""Every hostile file ends in one outcome, within the promised time and memory; in child processes, which may die."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from consumer.errors import PermanentReason
from tests.unit.photos import encoded, photo

ROOT: Final = Path(__file__).parents[3]
SHARED: Final = ROOT.parent / "shared"
MAKER: Final = SHARED / "tools" / "make_hostile.py"
#: What a photo may cost, whatever it is.
CPU_S, PEAK_BYTES = 2.0, 1_000_000_000
pytestmark = pytest.mark.timeout(300)


def outcomes(places: list[str], timeout_s: float = 250) -> dict[str, Any]:
    """What became of each file; a crash or a hang names the file that it happened to."""
    command = [sys.executable, "-m", "tests.hostile_child", *places]
    try:
        child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
        status, output, errors = child.returncode, child.stdout, child.stderr
    except subprocess.TimeoutExpired as late:
        status, output, errors = "still running", (late.stdout or b"").decode(), (late.stderr or b"").decode()
    lines = [json.loads(line) for line in output.splitlines()]
    assert status == 0, f"{status} after {lines[-1] if lines else 'nothing'}\n{errors[-2000:]}"
    return {line["name"]: line for line in lines if "outcome" in line}


def assert_harmless(found: dict[str, Any]) -> None:
    allowed = {"pixels", *get_args(PermanentReason)}
    bad = {
        name: line
        for name, line in found.items()
        if line["outcome"] not in allowed or line["cpu_s"] > CPU_S or line["peak_bytes"] > PEAK_BYTES
    }
    assert not bad


def test_files_made_to_hurt_have_the_right_outcome_and_stay_within_time_and_memory() -> None:
    found = outcomes(["made"])
    assert len(found) > 1000
    assert_harmless(found)
    assert {name: line["outcome"] for name, line in found.items() if not line["right"]} == {}


@pytest.mark.parametrize("folder", ["hostile", "uploads"])
def test_collected_files_stay_within_time_and_memory(folder: str) -> None:
    place = SHARED / "data" / folder
    if not place.is_dir():
        pytest.skip(f"{place} is not there")
    assert_harmless(outcomes([str(place)]))


def test_files_of_another_maker_stay_within_time_and_memory(tmp_path: Path) -> None:
    if not MAKER.is_file():
        pytest.skip(f"{MAKER} is not there")
    (tmp_path / "photo.jpg").write_bytes(encoded(photo(640, 480), "JPEG"))
    subprocess.run([sys.executable, MAKER, tmp_path / "made", tmp_path / "photo.jpg"], check=True, timeout=200)
    assert_harmless(outcomes([str(tmp_path / "made")]))
