"""`photo-trainer` as a user meets it: tables for people, one JSON line for machines, an exit code for each end."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.photo_folders import brand_folders
from training.cli.console import Exit
from training.cli.main import app
from training.models.packages import PACKAGES, Package

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.usefixtures("torch_settings")


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
    assert [answer["decision"] for answer in answers] == ["acme", "no_logo"]
    broken = trainer("predict", good[0], folder / "tiny.yaml", "--run", run)
    assert broken.exit_code == Exit.DATA
    assert "error" in json.loads(broken.stdout.splitlines()[1])


def test_predict_takes_folders_and_says_what_it_decides_with(run: Path, tmp_path: Path) -> None:
    brand_folders(tmp_path / "uploads" / "new ones", each=2)
    (tmp_path / "uploads" / "notes.txt").write_text("no photo")
    (tmp_path / "uploads" / "new ones" / "acme" / "0.jpg").rename(tmp_path / "uploads" / "Größe 1.JPG")
    done = trainer("predict", tmp_path / "uploads", "--run", run)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 6
    assert {Path(row["photo"]).name: row["decision"] for row in rows}["Größe 1.JPG"] == "acme"
    assert "from the val photos of" in done.stderr
    assert "left out: 1 files that are no photos" in done.stderr
    (tmp_path / "none").mkdir()
    assert trainer("predict", tmp_path / "none", "--run", run).exit_code == Exit.DATA


def test_predict_decides_as_the_evaluation_of_the_run_does(folder: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "evaluation").mkdir()
    kept = tmp_path / "run" / "evaluation" / "metrics.json"
    said = {}
    for threshold in (0.0, 1.01):
        kept.write_text(json.dumps({"decision": {"threshold": threshold, "temperature": 2.0}}))
        done = trainer("predict", folder / "photos", "--run", tmp_path / "run")
        said[threshold] = {json.loads(line)["decision"] for line in done.stdout.splitlines()}
    assert said[0.0] <= {"acme", "bolt"}
    assert said[1.01] == {"no_logo"}
    kept.write_text("{}")
    assert "is broken" in trainer("predict", folder / "photos", "--run", tmp_path / "run").stderr


def test_two_runs_are_compared_on_the_photos_that_both_were_tested_on(folder: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "photos", tmp_path / "moved")
    options = ["--runs", tmp_path, "--set", "train.steps=1", "--set", "train.second=null"]
    trainer("train", folder / "tiny.yaml", "--data", tmp_path / "moved", "--name", "bad", *options)
    rows = {
        row["name"]: row
        for row in map(json.loads, trainer("runs", "compare", run, tmp_path / "bad").stdout.splitlines())
    }
    accuracy = rows["accuracy"]
    assert accuracy["photos"] == 9
    assert accuracy["verdict"] == "worse"
    gap = accuracy["right"]["value"] - accuracy["left"]["value"]
    assert accuracy["difference"]["value"] == pytest.approx(gap, abs=1e-5)
    back = [json.loads(line) for line in trainer("runs", "compare", tmp_path / "bad", run).stdout.splitlines()]
    assert next(row for row in back if row["name"] == "accuracy")["verdict"] == "better"
    other = ["--set", "data.split.seed=1", "--name", "other"]
    trainer("train", folder / "tiny.yaml", "--data", folder / "photos", *options, *other)
    done = trainer("runs", "compare", run, tmp_path / "other")
    assert done.exit_code == Exit.RUN
    assert "cannot be compared: their test photos or those photos' labels differ" in done.stderr


def test_progress_tells_the_loss_and_the_score_on_val(folder: Path, tmp_path: Path) -> None:
    done = trainer("train", folder / "tiny.yaml", "--data", folder / "photos", "--runs", tmp_path, "--name", "told")
    lines = [line for line in done.stderr.splitlines() if line.startswith("told, stage 1: ")]
    assert "; loss " in lines[-1]
    assert ", val accuracy " in lines[-1]


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="TensorBoard is installed")
def test_a_tracker_that_is_not_installed_is_named_and_leaves_no_run(folder: Path, tmp_path: Path) -> None:
    options = ["--runs", tmp_path, "--set", "train.track=tensorboard"]
    done = trainer("train", folder / "tiny.yaml", "--data", folder / "photos", *options)
    assert done.exit_code == Exit.TOOL_MISSING
    assert "photo-tagger[tracking]" in done.stderr
    assert list(tmp_path.iterdir()) == []


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
