"""scripts/gpu-check without a GPU: the same path as with one, torch on the CPU behind a real Triton."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = "brand_logo"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, with its newest version only."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "triton_models" / MODEL, folder / MODEL, ignore=lambda _, names: {"1"} & {*names})
    return folder


def check(repository: Path, output: Path) -> tuple[int, dict[str, dict[str, object]]]:
    """The exit code, and the rows by engine."""
    argv = [ROOT / "scripts/gpu-check", "--device", "cpu", "--seconds", "0.3"]
    argv += ["--repository", repository, "--output", output]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=240)
    told = json.loads((output / "gpu-check.json").read_text())
    assert (told["gpu"], told["missing"]) == (None, ""), done.stderr
    assert done.stdout.startswith("no GPU, ")
    return done.returncode, {row["engine"]: row for row in told["rows"]}


def test_torch_behind_a_real_triton_answers_as_published_and_is_measured_beside_the_cpus_engine(
    repository: Path, tmp_path: Path
) -> None:
    code, rows = check(repository, tmp_path)
    assert code == 0
    assert [name.split()[0] for name in rows] == ["torch", "torch", "ONNX", "openvino"]
    behind = {name: row for name, row in rows.items() if "behind Triton" in name}
    assert [name.split()[0] for name in behind] == ["torch", "openvino"]
    assert all(row["photos_per_s"] > 0 and row["refused"] == "" for row in rows.values())
    in_torch, published = behind.values()
    assert in_torch["largest_difference"] < 1e-4
    assert 1e-4 < published["largest_difference"] < published["tolerance"]


def test_answers_that_are_not_those_published_are_refused_alone_and_behind_triton(
    repository: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "models"
    shutil.copytree(repository, broken)
    path = broken / MODEL / "2/MANIFEST.json"
    manifest = json.loads(path.read_text())
    manifest["golden"]["photos"][3]["outputs"]["brand_probs"][0] += 0.5
    path.write_text(json.dumps(manifest))
    code, rows = check(broken, tmp_path)
    assert code == 7
    assert all("answers 0.5 away from the published graph" in row["refused"] for row in rows.values())
