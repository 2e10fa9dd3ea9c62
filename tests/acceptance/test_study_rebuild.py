"""A result of study openimages, rebuilt in clones of the repository by the commands that its page names."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.embedded.paths import repository_root
from tests.slow_host import file_host
from training.studies.openimages.data import make
from training.studies.openimages.lists import BOXES, CLASSES, HIERARCHY, PHOTOS
from training.studies.openimages.rebuild import commands, commands_with_package

pytestmark = pytest.mark.timeout(420)
_SETUP = "scripts/setup models"


def clone(folder: Path) -> Path:
    """An empty folder's clone of the last commit, with the environment at hand in place of one of its own."""
    root = repository_root()
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    subprocess.run(["git", "clone", "--quiet", str(root), str(folder)], check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture(autouse=True)
def any_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git clones a checkout of another user, as one that is mounted into a container."""
    (tmp_path / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


def run(line: str, place: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run(
        shlex.split(line), cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_rebuild_the_result_from_the_host_and_from_the_package(tmp_path: Path) -> None:
    first, second = clone(tmp_path / "first"), clone(tmp_path / "second")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=first, capture_output=True, text=True, check=True).stdout
    settings = {"classes": ["Hamburger", "Sandwich"], "as_published": False, "seed": 0, "px": 40, "epochs": 2}
    wanted = {"settings": settings, "code": {"git_commit": commit.strip()}}
    checkout, setup, fetch, study = commands(wanted, "manifest.json")
    assert setup == _SETUP  # tests of setup run it; here it would install into the environment at hand
    assert (first / _SETUP.split(maxsplit=1)[0]).is_file()
    with file_host() as host:
        files = make(tmp_path / "release", 0, host.url(""), downloaded=False)
        for name in (CLASSES, BOXES, PHOTOS, HIERARCHY):
            host.files[f"/{name}"] = (tmp_path / "release" / name).read_bytes()
        host.files |= {f"/{photo}.jpg": body for photo, body in files.items()}
        run(checkout, first)
        run(f"{fetch} --lists-from {host.url('')} --requests 1000", first)
    run(study.partition(" --set manifest=")[0], first)
    cache = first / ".cache" / "photo-trainer" / "openimages"
    manifest = json.loads((cache / "manifest.json").read_text())
    assert manifest["code"]["git_commit"] == commit.strip()

    (second / "manifest.json").write_bytes((cache / "manifest.json").read_bytes())
    (cache / "package").rename(second / "PACKAGE")
    for line in commands_with_package(manifest, "manifest.json"):
        if line != _SETUP:
            run(line, second)
    assert "Rebuilt: data, code, environment" in (second / "studies" / "openimages.md").read_text()
    told = run(f".venv/bin/photo-trainer predict PACKAGE --run {second / 'studies' / 'openimages-run'}", second)
    assert {json.loads(line)["decision"] for line in told.splitlines()} <= {"Hamburger", "Sandwich", "no_logo"}
