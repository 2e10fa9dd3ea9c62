"""The studies as a user runs them: list, checklist, a page, and a head that the gate refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.embedded.paths import repository_root

ROWS = 40
pytestmark = pytest.mark.timeout(420)


def trainer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.cli", *arguments]
    return subprocess.run(command, cwd=repository_root(), capture_output=True, text=True, check=False, timeout=400)


def lines_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_studies_are_listed_with_their_data_and_published_figures() -> None:
    listed = lines_of(trainer("study", "--list"))
    assert [entry["study"] for entry in listed] == ["grades", "flickrlogos32", "bottleneck", "openimages", "feed"]
    assert all(entry["data"] and entry["published"] and entry["article"] for entry in listed)


def test_every_row_of_the_checklists_has_a_test() -> None:
    command = [sys.executable, "scripts/study-rows", "--list"]
    done = subprocess.run(command, cwd=repository_root(), capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == ROWS
    assert len({number for number, *_ in rows}) == ROWS
    assert all(test.startswith("tests/") and what for _, _, what, test, _ in rows)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("study")
    options = ["--out", str(folder), "--cache", str(folder / "cache"), "--set", "components=8"]
    return folder, trainer("study", "feed", "--made", "--quick", "--as-published", *options)


def test_a_study_writes_its_page_and_says_which_mistakes_it_reproduces(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, ran = done
    (result,) = lines_of(ran)
    assert result["as_published"]
    assert "by code" in result["data"]
    assert "as published: PCA fitted on train and test" in ran.stderr
    assert "as published: photos that gamma was chosen on" in ran.stderr
    assert "reproduced in this run" in (folder / "feed.html").read_text()
    assert "--set components=8" in (folder / "feed.md").read_text()


def test_grades_runs_on_data_made_by_code_with_a_packages_weights(tmp_path: Path) -> None:
    chosen = ["--set", 'networks=["efficientnet_lite0-stages1"]', "--set", "epochs=1"]
    ran = trainer(
        "study", "grades", "--made", "--quick", "--pretrained", "package", *chosen,
        "--out", str(tmp_path), "--cache", str(tmp_path / "cache"),
    )  # fmt: skip
    (result,) = lines_of(ran)
    assert "36 of them from the photos' own files" in result["data"]
    page = (tmp_path / "grades.md").read_text()
    assert "Using Neural Nets to learn the best images" in page
    assert "--pretrained package" in page
    assert "efficientnet-lite0-57934424.pth" in page
    assert len((tmp_path / "grades-models.csv").read_text().splitlines()) == 11


def test_a_head_that_is_worth_nothing_is_not_published_without_a_reason(
    done: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, _ = done
    refused = trainer("head", "publish", str(folder / "feed-one-class"), "--repository", str(tmp_path / "models"))
    assert refused.returncode == 7, refused.stderr
    assert "better than the baselines" in refused.stderr
    assert not (tmp_path / "models").exists()
    assert trainer("head", "publish", str(folder / "feed-one-class"), "--force").returncode == 2
