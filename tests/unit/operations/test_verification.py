"""Golden photos compared: the worst value counts, whatever it is, and what is no number is never within."""

import json
from pathlib import Path

import numpy as np
import pytest

from consumer.errors import NotFound
from consumer.operations.model_folder import Golden, GoldenPhoto, ModelFolder
from consumer.operations.verification import Comparison, Verification, compare, tolerance_of, worst
from training.serving.files import sha256

PHOTO = GoldenPhoto("golden/cat.jpg", {"score": [0.5], "levels": [0.1, 0.2, 0.7]})


def answer(score: list[float], levels: list[float]) -> dict[str, np.ndarray]:
    return {"score": np.array(score, np.float32), "levels": np.array(levels, np.float32)}


def test_the_value_that_is_farthest_is_shown_and_decides() -> None:
    score, levels = compare(PHOTO, answer([0.505], [0.1, 0.25, 0.69]), "", 0.01)
    assert score.within
    assert (levels.output, levels.index, levels.within) == ("levels", 1, False)
    assert levels.got == pytest.approx(0.25)
    assert levels.difference == pytest.approx(0.05)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_the_worst_and_not_within(odd: float) -> None:
    _, levels = compare(PHOTO, answer([0.5], [0.9, odd, 0.7]), "", 0.01)
    assert (levels.index, levels.within) == (1, False)


def test_a_tolerance_is_still_within() -> None:
    within = GoldenPhoto("p", {"score": [0.5]})
    assert compare(within, {"score": np.array([0.75], np.float32)}, "", 0.25)[0].within
    assert not compare(within, {"score": np.array([0.75], np.float32)}, "", 0.2499)[0].within


def test_a_missing_output_and_one_of_another_shape_are_named() -> None:
    score, levels = compare(PHOTO, {"levels": np.zeros(2, np.float32)}, "", 1.0)
    assert (score.within, score.problem, score.got) == (False, "no such output", None)
    assert (levels.within, levels.problem) == (False, "2 values, not 3")


def test_a_request_that_failed_says_why_for_every_output() -> None:
    found = compare(PHOTO, {}, "the version failed", 1.0)
    assert [(each.within, each.problem) for each in found] == [(False, "the version failed")] * 2


def test_of_several_rounds_the_worst_counts() -> None:
    right, near, far = (compare(PHOTO, answer([score], [0.1, 0.2, 0.7]), "", 0.1) for score in (0.5, 0.55, 0.8))
    failed = compare(PHOTO, {}, "late", 0.1)
    assert worst([right, near])[0].got == pytest.approx(0.55)
    assert worst([right, far, near])[0].got == pytest.approx(0.8)
    assert [each.problem for each in worst([right, failed, far])] == ["late", "late"]


def comparison(*, within: bool) -> Comparison:
    return Comparison("p", "score", 0, 0.5, 0.5, 0.0, within)


@pytest.mark.parametrize(
    ("comparisons", "damaged", "passed", "summary"),
    [
        ([True, True], (), True, "all answers and files are as published"),
        ([True, False], (), False, "1 of 2 answers differ"),
        ([True], ("model.onnx",), False, "other files: model.onnx"),
        ([False], ("a", "b"), False, "1 of 1 answers differ; other files: a, b"),
    ],
)
def test_a_version_passes_if_all_answers_and_all_files_are_as_published(
    comparisons: list[bool], damaged: tuple[str, ...], passed: bool, summary: str
) -> None:
    found = tuple(comparison(within=each) for each in comparisons)
    verification = Verification("m", 1, "model.onnx", 0.01, found, damaged, 80, 1.0, 2.0)
    assert (verification.passed, verification.summary) == (passed, summary)


def test_a_file_that_the_golden_photos_say_nothing_of_is_named() -> None:
    golden = Golden([PHOTO], {"model.onnx": 0.01, "model.plan": 0.02})
    assert tolerance_of(golden, "model.plan", "m 1") == 0.02
    with pytest.raises(NotFound, match=r"served from model\.other, its golden photos are for model\.onnx, model\.plan"):
        tolerance_of(golden, "model.other", "m 1")


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    """Two versions of a model, one of them with a manifest."""
    for version in ("1", "12"):
        (tmp_path / "m" / version / "golden").mkdir(parents=True)
    (tmp_path / "m" / "configs").mkdir()
    (tmp_path / "m" / "configs" / "cpu.pbtxt").write_text('name: "m"')
    for name in (".3.77", "01", "0", "1000", "x", "٣"):
        (tmp_path / "m" / name).mkdir()
    (tmp_path / "m" / "5").write_text("no folder")
    version = tmp_path / "m" / "1"
    (version / "model.onnx").write_bytes(b"graph")
    (version / "golden" / "p.jpg").write_bytes(b"photo")
    files = {name: sha256(version / name) for name in ("model.onnx", "golden/p.jpg")}
    golden = {"photos": [{"file": "golden/p.jpg", "outputs": {"score": [1]}}], "tolerances": {"model.onnx": 0.01}}
    (version / "MANIFEST.json").write_text(json.dumps({"files": files, "golden": golden, "unknown": [1]}))
    return ModelFolder(tmp_path, "cpu")


def test_versions_are_folders_with_a_number_that_a_release_can_name(folder: ModelFolder) -> None:
    assert folder.models == ["m"]
    assert folder.versions("m") == [1, 12]
    assert folder.versions("nothing") == []


def test_files_that_are_not_what_was_published_are_found(folder: ModelFolder) -> None:
    manifest, version = folder.manifest("m", 1), folder.path / "m" / "1"
    assert folder.damaged("m", 1, manifest) == []
    (version / "model.plan").write_bytes(b"an engine, built where it serves")
    assert folder.damaged("m", 1, manifest) == []
    (version / "golden" / "p.jpg").unlink()
    (version / "model.onnx").write_bytes(b"grapf")
    assert folder.damaged("m", 1, manifest) == ["golden/p.jpg", "model.onnx"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no manifest"),
        ("[]", "is no manifest"),
        ('{"files": {}, "golden": {"photos": [], "tolerances": {}}}', "golden.photos"),
        ('{"files": {}, "golden": {"photos": [{"file": "p", "outputs": {"s": []}}], "tolerances": {}}}', "outputs.s"),
        ('{"files": {}, "golden": {"photos": [{"file": "p", "outputs": {"s": [1]}}], "tolerances": {"f": NaN}}}', "f"),
        (None, "No such file"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(folder: ModelFolder, text: str | None, words: str) -> None:
    path = folder.path / "m" / "12" / "MANIFEST.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NotFound, match=words) as missing:
        folder.manifest("m", 12)
    assert str(path) in str(missing.value)


def test_a_version_that_was_published_without_golden_photos_can_be_read(folder: ModelFolder) -> None:
    path = folder.path / "m" / "12" / "MANIFEST.json"
    path.write_text('{"files": {}, "metrics": {"test": {"auc": 0.9, "srcc": null, "accuracy": "high"}}}')
    manifest = folder.manifest("m", 12)
    assert manifest.golden is None
    assert manifest.test == {"auc": 0.9}
    path.write_text('{"files": {}, "metrics": {"test": 0.9}}')
    assert folder.manifest("m", 12).test == {}
