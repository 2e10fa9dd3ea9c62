"""A teacher's answers are labels of the photos to train on, never of those that a model is judged by."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.photo_folders import TINY, brand_folders, photo
from training.data.assemble import assemble
from training.data.manifest import Manifest
from training.data.photos import TEST, TRAIN, VAL
from training.errors import RecipeError, RunError
from training.recipes.files import parse, read
from training.recipes.recipe import Recipe
from training.runs import start as starting
from training.runs.objective import level_distribution
from training.runs.run import Run
from training.runs.start import start, train
from training.runs.teacher import opened, taught
from training.serving.files import MANIFEST

QUIET = Console(quiet=True)
MODELS = Path(__file__).parents[4] / "triton_models"
PUBLISHED = MODELS / "photo_quality" / "2"
pytestmark = pytest.mark.usefixtures("torch_settings")


def recipe_of(folder: Path, **values: object) -> Recipe:
    return parse(
        {
            "task": "quality",
            "data": {
                "root": str(folder),
                "sources": [{"kind": "ratings", "path": "ratings.csv", "damaged": 1}, *_unrated(values)],
                "split": {"val": 0.2, "test": 0.2, "seed": values.pop("split_seed", 0)},
                "stored_px": 32,
                "cache": None,
            },
            "model": {"arch": "resnet10-w8", "input_px": 32},
            "train": {"steps": 4, "batch": 8, "evaluate_steps": 2, "checkpoint_steps": 2},
            **values,
        }
    )


def _unrated(values: dict[str, object]) -> list[dict[str, object]]:
    return [{"kind": "unrated", "path": "more", "damaged": 1}] if "teacher" in values else []


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ratings.csv with 40 photos, and more/ with others that nobody rated."""
    folder = tmp_path_factory.mktemp("rated")
    with (folder / "ratings.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["image", "rating"])
        for index in range(40):
            photo(index, index % 3).save(folder / f"{index}.png")
            lines.writerow([f"{index}.png", 1 + index % 9 / 2])
    (folder / "more").mkdir()
    for index in range(6):
        photo(500 + index, index % 3).save(folder / "more" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def teacher(rated: Path) -> Run:
    start(recipe_of(rated), "teacher", rated / "runs", QUIET)
    return Run(rated / "runs" / "teacher")


def manifest_of(recipe: Recipe) -> Manifest:
    return taught(assemble(recipe, QUIET), recipe, QUIET)


def test_rated_photos_are_labelled_by_people_and_teacher_and_unrated_ones_by_the_teacher_alone(
    rated: Path, teacher: Run
) -> None:
    whole, half, none = (
        manifest_of(recipe_of(rated, teacher={"path": str(teacher.path), "share": share})) for share in (1.0, 0.5, 0.0)
    )
    kinds = set()
    for answer, mixed, own in zip(whole.of(TRAIN), half.of(TRAIN), none.of(TRAIN), strict=True):
        kinds.add((own.source, own.damage is None))
        assert answer.votes is not None
        assert sum(answer.votes) == pytest.approx(1, abs=1e-5)
        if own.source == "more":
            assert answer == mixed == own
            assert own.rating == pytest.approx(np.array(own.votes) @ np.arange(1, 6), abs=1e-3)
        else:
            assert own.votes == pytest.approx(level_distribution(own.rating or 0, None), abs=1e-5)
            assert mixed.votes == pytest.approx((np.array(answer.votes) + np.array(own.votes)) / 2, abs=2e-6)
    assert kinds == {("ratings", True), ("ratings", False), ("more", True), ("more", False)}
    assert half.teacher["unrated"] == 12
    assert len({answer.votes for answer in whole.of(TRAIN)}) > 12


def test_photos_that_the_model_is_judged_by_keep_what_people_say_and_their_split(rated: Path, teacher: Run) -> None:
    plain, made = teacher.data(), manifest_of(recipe_of(rated, teacher={"path": str(teacher.path)}))
    for split in (VAL, TEST):
        assert made.of(split) == plain.of(split) != []
    assert made.doubts == plain.doubts


def test_a_teacher_that_knows_photos_of_the_test_is_named(rated: Path, teacher: Run) -> None:
    other = manifest_of(recipe_of(rated, teacher={"path": str(teacher.path)}, split_seed=1))
    assert any("the teacher teacher learnt from" in doubt for doubt in other.doubts)


def test_a_run_that_goes_on_needs_its_teacher_no_more(
    rated: Path, teacher: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = rated / "gone"
    shutil.copytree(teacher.path, gone)
    recipe = recipe_of(rated, teacher={"path": str(gone)})
    result = start(recipe, "pupil", rated / "runs", QUIET)
    pupil = Run(rated / "runs" / "pupil")
    assert json.loads(pupil.data_file.read_text())["teacher"]["name"] == "gone"
    shutil.rmtree(gone)
    pupil.model_file.unlink()
    monkeypatch.setattr(starting, "assemble", None)
    assert train(pupil, QUIET)["model_sha256"] == result["model_sha256"]


def test_a_published_version_answers_as_its_manifest_says_it_is_served() -> None:
    made, manifest = opened(PUBLISHED), json.loads((PUBLISHED / MANIFEST).read_text())
    assert made.name == "photo_quality/2"
    for golden in manifest["golden"]["photos"][:2]:
        with Image.open(PUBLISHED / golden["file"]) as picture:
            answer = made.answers(np.asarray(picture.convert("RGB"))[None])[0]
        assert answer == pytest.approx(golden["outputs"]["quality_levels"], abs=0.01)


def test_a_version_of_another_split_raises_a_doubt(rated: Path) -> None:
    recipe = recipe_of(rated, teacher={"path": str(PUBLISHED)})
    assert any(
        "photo_quality/2 was made with other rules of data.split" in doubt for doubt in manifest_of(recipe).doubts
    )
    alike = read("quality-resnet", [f"teacher.path={PUBLISHED}"]).data.split
    assert opened(PUBLISHED).split == alike.model_dump(mode="json")


def test_what_is_no_teacher_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"neither a published version .* nor a run: name a folder such as"):
        opened(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"brand_logo/2 is no quality model: its labels are .*no_logo, not the levels"):
        opened(MODELS / "brand_logo" / "2")
    brand_folders(tmp_path / "photos")
    (tmp_path / "tiny.yaml").write_text(TINY)
    start(read(str(tmp_path / "tiny.yaml"), [f"data.root={tmp_path / 'photos'}"]), "brands", tmp_path, QUIET)
    with pytest.raises(RunError, match="brands is no quality model"):
        opened(tmp_path / "brands")
    start_again = Run(tmp_path / "brands")
    start_again.model_file.unlink()
    with pytest.raises(RunError, match="training is not finished"):
        opened(tmp_path / "brands")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda version: (version / "model.onnx").write_bytes(b"other"), "is not the file that was published"),
        (lambda version: (version / "model.onnx").unlink(), "not a whole version: FileNotFoundError"),
        (lambda version: (version / MANIFEST).write_text("[]"), "not a whole version: TypeError"),
        (lambda version: (version / MANIFEST).write_text("{"), "not a whole version: JSONDecodeError"),
        (lambda version: (version / MANIFEST).write_bytes(b"\xff"), "not a whole version: UnicodeDecodeError"),
    ],
)
def test_a_broken_version_is_no_teacher(spoil: object, message: str, tmp_path: Path) -> None:
    version = tmp_path / "2"
    shutil.copytree(PUBLISHED, version)
    spoil(version)  # type: ignore[operator]
    with pytest.raises(RunError, match=message):
        opened(version)


def test_a_teacher_and_unrated_photos_need_each_other_and_a_quality_model(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"name a model in teacher\.path"):
        read("quality-resnet", ["teacher=null"])
    (tmp_path / "tiny.yaml").write_text(TINY)
    with pytest.raises(RecipeError, match="a teacher is for quality models"):
        read(str(tmp_path / "tiny.yaml"), [f"teacher={{path: {PUBLISHED}}}"])


def test_unrated_photos_are_never_judged_by_also_if_the_rules_split_again(rated: Path) -> None:
    recipe = recipe_of(rated, teacher={"path": "unused"})
    again = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(
                update={"split": recipe.data.split.model_copy(update={"keep_given": False, "val": 0.4, "test": 0.4})}
            )
        }
    )
    made = assemble(again, QUIET)
    assert {photo.source for split in (VAL, TEST) for photo in made.of(split)} == {"ratings"}
    assert all(photo.rating is not None for photo in made.photos if photo.source == "ratings")
    assert all(photo.rating is None for photo in made.photos if photo.source == "more")
