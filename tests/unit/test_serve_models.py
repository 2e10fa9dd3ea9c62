"""deploy/serve-models: closes Triton's control endpoints, and starts no Triton whose engines do not fit."""

import os
import subprocess
import sys
from mmap import PROT_READ, mmap
from pathlib import Path
from uuid import uuid4

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
    assert done.stdout.startswith("tritonserver --backend-config=python,shm-region-prefix-name=serve-models- --grpc-")
    assert done.stdout.rstrip().endswith("--model-repository=/models --model-config-name=gpu")


def test_triton_does_not_start_with_an_engine_that_does_not_fit(programs: Path) -> None:
    done = served(programs, "--model-config-name=gpu", "--model-repository=/models", ENDS="9")
    assert (done.returncode, done.stdout) == (9, "")


@pytest.mark.parametrize("configuration", ["cpu", "ort"])
def test_other_configurations_need_no_engine(configuration: str, programs: Path) -> None:
    done = served(programs, "--model-repository=/models", f"--model-config-name={configuration}", ENDS="9")
    assert (done.returncode, done.stderr) == (0, "")


def test_shared_memory_of_a_killed_server_is_removed_and_that_of_a_running_one_stays(programs: Path) -> None:
    left, used, other = (Path("/dev/shm") / f"{name}{uuid4()}" for name in ("serve-models-", "serve-models-", "other-"))
    try:
        for region in (left, used, other):
            region.write_bytes(b"x")
        with used.open("rb") as stream, mmap(stream.fileno(), 0, prot=PROT_READ):
            served(programs)
            assert [region.exists() for region in (left, used, other)] == [False, True, True]
    finally:
        for region in (left, used, other):
            region.unlink(missing_ok=True)


def test_a_server_that_does_not_become_ready_is_killed(programs: Path) -> None:
    (programs / "tritonserver").write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    (programs / "curl").write_text("#!/bin/sh\nexit 7\n")
    (programs / "curl").chmod(0o755)
    done = served(programs, START_WITHIN_S="1")
    assert (done.returncode, done.stderr) == (-9, "serve-models: Triton is not ready after 1 s and is killed\n")


def test_a_server_that_is_ready_is_left_alone_and_has_no_child(programs: Path) -> None:
    (programs / "tritonserver").write_text(
        f"#!{sys.executable}\nimport os\nwhile not os.path.exists(os.environ['READY']): pass\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read() or 'alone')\n"
    )
    (programs / "curl").write_text("#!/bin/sh\ntouch $READY\n")
    (programs / "curl").chmod(0o755)
    done = served(programs, START_WITHIN_S="30", READY=str(programs / "ready"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "alone\n", "")


def test_the_key_is_the_one_of_the_environment_or_nobodys(programs: Path) -> None:
    known = served(programs, TRITON_ADMIN_KEY="secret").stdout
    assert "admin-key=secret" in known
    unknown = {served(programs).stdout for _ in range(2)}
    assert len(unknown) == 2
