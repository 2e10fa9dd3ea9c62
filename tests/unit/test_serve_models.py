"""deploy/serve-models: closes Triton's control endpoints, and starts no Triton whose engines do not fit."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/serve-models"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins on PATH: each prints its name and arguments; photo-trainer ends with what ENDS says."""
    for name, ends in (("tritonserver", "0"), ("photo-trainer", "${ENDS:-0}")):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\nexit {ends}\n')
        (tmp_path / name).chmod(0o755)
    return tmp_path


def served(programs: Path, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{programs}:{os.defpath}", **env}
    return subprocess.run(["sh", str(SCRIPT), *flags], env=environment, capture_output=True, text=True, check=False)


def test_engines_are_checked_before_triton_starts(programs: Path) -> None:
    done = served(programs, "--model-repository=/models", "--model-config-name=gpu")
    assert done.stderr == "photo-trainer engine --engines /models --check\n"
    assert done.stdout.startswith("tritonserver --grpc-restricted-protocol=model-repository,")
    assert done.stdout.rstrip().endswith("--model-repository=/models --model-config-name=gpu")


def test_triton_does_not_start_with_an_engine_that_does_not_fit(programs: Path) -> None:
    done = served(programs, "--model-config-name=gpu", "--model-repository=/models", ENDS="9")
    assert (done.returncode, done.stdout) == (9, "")


@pytest.mark.parametrize("configuration", ["cpu", "ort"])
def test_other_configurations_need_no_engine(configuration: str, programs: Path) -> None:
    done = served(programs, "--model-repository=/models", f"--model-config-name={configuration}", ENDS="9")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_key_is_the_one_of_the_environment_or_nobodys(programs: Path) -> None:
    known = served(programs, TRITON_ADMIN_KEY="secret").stdout
    assert "admin-key=secret" in known
    unknown = {served(programs).stdout for _ in range(2)}
    assert len(unknown) == 2
