"""`photo-trainer` as a user meets it: tables for people, one JSON line for machines, an exit code for each end."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.photo_folders import brand_folders
from training.cli.console import Exit
from training.cli.main import app
from training.models.packages import PACKAGES, Package

ROOT = Path(__file__).parents[4]


def trainer(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def result_of(done: Result) -> dict[str, object]:
    assert done.exit_code == Exit.OK, done.output
    values: dict[str, object] = json.loads(done.stdout)
    return values


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    done = trainer(
        "train", folder / "tiny.yaml", "--data", folder / "photos", "--runs", folder / "runs", "--name", "one"
    )
    result = result_of(done)
    assert result["run"] == str(folder / "runs" / "one")
    assert "photos inspected" in done.stderr
    return folder / "runs" / "one"


def test_training_leaves_a_run_that_is_listed_and_shown(run: Path) -> None:
    (row,) = [json.loads(line) for line in trainer("runs", "list", "--runs", run.parent).stdout.splitlines()]
    assert row["run"] == "one"
    assert row["state"] == "trained"
    shown = result_of(trainer("runs", "show", run))
    assert shown["environment"]
    assert shown["evaluations"]


def test_predict_answers_photo_by_photo(run: Path, folder: Path) -> None:
    good = [folder / "photos" / "acme" / "1.jpg", folder / "photos" / "no_logo" / "1.jpg"]
    answers = [json.loads(line) for line in trainer("predict", *good, "--run", run).stdout.splitlines()]
    assert [next(iter(answer["probabilities"])) for answer in answers] == ["acme", "no_logo"]
    broken = trainer("predict", good[0], folder / "tiny.yaml", "--run", run)
    assert broken.exit_code == Exit.DATA
    assert "error" in json.loads(broken.stdout.splitlines()[1])


def test_resuming_a_finished_run_changes_nothing(run: Path) -> None:
    before = json.loads((run / "result.json").read_text())
    assert result_of(trainer("train", "--resume", run))["model_sha256"] == before["model_sha256"]


@pytest.mark.parametrize(
    "options",
    [
        ["--set", "train.steps=1"],
        ["--name", "two"],
        ["--data", "photos"],
        ["--foreign", "photos"],
        ["--weights", "w.pt"],
        ["--weights-sha256", "0"],
        ["--runs", "runs"],
        ["brands-cpu"],
    ],
)
def test_resuming_refuses_what_it_would_ignore(run: Path, options: list[str]) -> None:
    done = trainer("train", "--resume", run, *options)
    assert done.exit_code == Exit.RECIPE
    named = options[0] if options[0].startswith("--") else "recipe"
    assert f"would ignore {named}: leave that out" in done.stderr


def test_check_and_train_say_what_is_left_out_and_what_is_missing_before_they_run(folder: Path, tmp_path: Path) -> None:
    brand_folders(tmp_path / "photos")
    (tmp_path / "photos" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "photos" / ".ipynb_checkpoints" / "1.jpg").write_bytes(b"")
    for index in range(3, 14):
        (tmp_path / "photos" / "bolt" / f"{index}.jpg").unlink()
    said = (
        "left out: 1 hidden folder: .ipynb_checkpoints",
        "too few photos to learn a class or to judge it: bolt (1 train, 1 val, 1 test)",
    )
    checked = trainer("data", "check", folder / "tiny.yaml", "--data", tmp_path / "photos")
    assert checked.exit_code == Exit.DATA
    assert json.loads(checked.stdout)["left_out"] == {"hidden folder: .ipynb_checkpoints": 1}
    assert json.loads(checked.stdout)["doubts"] == [said[1]]
    options = ["--set", "train.steps=1", "--set", "train.second=null", "--runs", tmp_path / "runs", "--name", "few"]
    trained = trainer("train", folder / "tiny.yaml", "--data", tmp_path / "photos", *options)
    assert trained.exit_code == Exit.OK
    for done in (checked, trained):
        assert all(line in done.stderr for line in said)
    assert trained.stderr.index(said[1]) < trained.stderr.index("validation photos")
    kept = json.loads((tmp_path / "runs" / "few" / "data.json").read_text())
    assert kept["left_out"] == {"hidden folder: .ipynb_checkpoints": 1}


def test_data_check_counts_and_finds_problems(folder: Path, tmp_path: Path) -> None:
    result = result_of(trainer("data", "check", folder / "tiny.yaml", "--data", folder / "photos"))
    assert result["photos"] == 42
    brand_folders(tmp_path)
    (tmp_path / "acme" / "broken.jpg").write_bytes(b"no JPEG")
    done = trainer("data", "check", folder / "tiny.yaml", "--data", tmp_path)
    assert done.exit_code == Exit.DATA
    assert "unreadable: acme/broken.jpg" in done.stderr


def test_data_describe_writes_a_page_that_needs_no_other_file(folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.html"
    result = result_of(trainer("data", "describe", folder / "tiny.yaml", "--data", folder / "photos", "--sheet", sheet))
    assert result["labels"] == ["acme", "bolt", "no_logo"]
    page = sheet.read_text()
    assert page.count("data:image/jpeg;base64,") == 9
    assert "http" not in page


def test_data_make_writes_what_the_model_sees(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "made"
    result = result_of(trainer("data", "make", folder / "tiny.yaml", "--data", folder / "photos", "--to", to))
    assert result["photos"] == len(list(to.rglob("*.png"))) == 42
    assert (to / "train" / "acme").is_dir()
    assert json.loads((to / "data.json").read_text())["sha256"] == result["data_sha256"]
    again = trainer("data", "make", folder / "tiny.yaml", "--data", folder / "photos", "--to", to)
    assert again.exit_code == Exit.DATA


def test_recipes_are_listed_and_shown() -> None:
    assert "brands-cpu" in result_of(trainer("recipe", "list"))
    shown = trainer("recipe", "show", "brands-cpu", "--set", "train.steps=7")
    assert "steps: 7  # training steps of this stage" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "no-such-recipe"], Exit.RECIPE, "no recipe no-such-recipe"),
        (["train", "demo-brand", "--set", "train.stepz=1"], Exit.RECIPE, "did you mean steps"),
        (["train"], Exit.RECIPE, "name a recipe"),
        (["runs", "show", "nowhere"], Exit.RUN, "nowhere is not a run"),
        (["predict", "x.jpg", "--run", "nowhere"], Exit.RUN, "nowhere is not a run"),
        (["data", "check", "brands-cpu", "--data", "nowhere"], Exit.DATA, "no folder nowhere"),
        (["train", "--what"], Exit.USAGE, "--what"),
    ],
)
def test_every_kind_of_failure_has_its_exit_code(
    arguments: list[str], code: Exit, message: str, tmp_path: Path
) -> None:
    runs = ["--runs", str(tmp_path)] if arguments[0] == "train" else []
    done = trainer(*arguments, *runs)
    assert done.exit_code == code
    assert message in done.stderr


def test_missing_weights_have_their_exit_code(folder: Path, tmp_path: Path) -> None:
    options = ["--data", folder / "photos", "--runs", tmp_path, "--weights", tmp_path / "none.pt"]
    done = trainer("train", folder / "tiny.yaml", *options)
    assert done.exit_code == Exit.WEIGHTS
    assert "no weights at" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_rated_photos_train_a_quality_model(folder: Path, tmp_path: Path) -> None:
    lines = ["image,rating"] + [
        f"photos/{name}/{index}.jpg,{rating}"
        for name, rating in (("acme", 1.2), ("bolt", 3), ("no_logo", 4.8))
        for index in range(14)
    ]
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    sources = ["--set", "task=quality", "--set", "data.sources=[{kind: ratings, path: ratings.csv}]"]
    done = trainer("train", folder / "tiny.yaml", *sources, "--data", folder, "--runs", tmp_path, "--name", "rated")
    assert result_of(done)["val"]["srcc"] > 0.5  # type: ignore[index, call-overload]
    answer = json.loads(trainer("predict", folder / "photos" / "acme" / "1.jpg", "--run", tmp_path / "rated").stdout)
    assert list(answer["probabilities"]) == ["1", "2", "3", "4", "5"]
    assert 0 <= answer["score"] <= 1


@pytest.fixture
def one_backbone(monkeypatch: pytest.MonkeyPatch) -> Package:
    """Only the smallest package is known, which keeps a test short."""
    lite0 = PACKAGES["efficientnet_lite0"]
    monkeypatch.setattr("training.models.packages.PACKAGES", {lite0.arch: lite0})
    return lite0


def test_backbones_lists_what_is_at_hand_and_measures_it(one_backbone: Package, tmp_path: Path) -> None:
    row = result_of(trainer("backbones"))
    assert (row["network"], row["state"], row["parameters"]) == (one_backbone.arch, "ok", 4_652_008)
    assert (row["file_bytes"], row["sha256"]) == (18_826_032, one_backbone.sha256)
    assert "Apache-2.0" in str(row["licence"])
    assert "UNKNOWN" in str(row["licence"])
    assert "top1" not in row
    for name in ("goldfish", "no class"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 48), "orange").save(tmp_path / name / "one.png")
    done = trainer("backbones", "--photos", tmp_path)
    measured = result_of(done)
    assert (measured["photos"], measured["unreadable"]) == (1, 0)
    assert measured["top1"] in {0.0, 1.0}
    assert "left out 1 photos of 1 folders that no class is called like: no class" in done.stderr
    nothing = trainer("backbones", "--photos", tmp_path / "no class")
    assert nothing.exit_code == Exit.DATA


def test_backbones_and_training_say_what_is_wrong_with_a_package(
    one_backbone: Package, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_package(**changes: str) -> None:
        changed = {one_backbone.arch: replace(one_backbone, **changes)}
        monkeypatch.setattr("training.models.packages.PACKAGES", changed)

    train = ("train", folder / "tiny.yaml", "--data", folder / "photos", "--runs", folder / "none", "--set")
    train = (*train, "model={arch: efficientnet_lite0, input_px: 32, pretrained: package}")
    with_package(sha256="0" * 64)
    done = trainer("backbones")
    assert json.loads(done.stdout)["state"] == "other file"
    assert (done.exit_code, trainer(*train).exit_code) == (Exit.WEIGHTS, Exit.WEIGHTS)
    with_package(name="no-such-package-anywhere")
    assert result_of(trainer("backbones"))["state"] == "not installed"
    done = trainer(*train)
    assert done.exit_code == Exit.TOOL_MISSING
    assert "no-such-package-anywhere is not installed: pip install" in done.stderr
    (tmp_path / "goldfish").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "goldfish" / "one.png")
    assert trainer("backbones", "--photos", tmp_path).exit_code == Exit.TOOL_MISSING
    assert not (folder / "none" / "tiny").exists()
