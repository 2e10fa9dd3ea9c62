"""Study 5, row by row, on small data that the tests make; the live trial has tests of its own."""

import io
import json
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.decomposition import PCA

from training.data.photos import SPLITS, TEST, TRAIN, VAL, Photo
from training.errors import DataError
from training.heads.features import backbone
from training.heads.folder import load
from training.heads.novelty import CalibratedNovelty
from training.recipes.recipe import Model
from training.studies.feed import STUDY, heads
from training.studies.feed.data import make, source_of
from training.studies.feed.run import _PUBLISHED_SHARES, _SHARES, Settings
from training.studies.rated import FrozenFeatures, Shares, features_of, last_layer, photos_of
from training.studies.study import Options

QUIET = Console(file=io.StringIO())
WIDTH = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feed")
    make(folder, seed=1, count=120)
    return folder


def seen_of(apart: float, counts: dict[str, int], seed: int = 0) -> FrozenFeatures:
    """Features of photos of two sides, `apart` deviations from each other."""
    rng = np.random.default_rng(seed)
    photos, features = {}, {}
    for split, count in counts.items():
        good = np.arange(count) % 2
        features[split] = (rng.normal(size=(count, WIDTH)) + apart * good[:, None]).astype(np.float32)
        photos[split] = [Photo(f"{split}{n}", "", "x", rating=1.0 + 4 * side) for n, side in enumerate(good)]
    return FrozenFeatures(backbone(Model(arch="resnet10-w8"), px=32), features, photos)


COUNTS = {TRAIN: 160, VAL: 60, TEST: 80}


def test_a_frozen_network_under_a_new_layer_beats_the_majority() -> None:
    parts = heads.sided(seen_of(0.35, COUNTS))
    head = heads.head_of(heads.LAYER, last_layer().fit(*parts[TRAIN]), parts[TRAIN], parts[TEST])
    assert heads.majority(parts[TEST]) == 0.5
    assert (head.accuracy.low or 0) > heads.majority(parts[TEST])
    assert head.auc > 0.8
    assert 0.3 < head.picked < 0.7
    assert (head.precision.low or 0) < head.precision.value < (head.precision.high or 1)
    assert Settings().networks == ("resnet50",)


def test_pca_and_svm_are_one_pipeline_that_never_saw_a_test_photo() -> None:
    parts = heads.sided(seen_of(0.7, COUNTS))
    made = heads.svm(parts[TRAIN], 512, seed=0)
    pca = made[0]
    assert isinstance(pca, PCA)
    assert (pca.n_components_, pca.whiten) == (WIDTH, True)
    assert np.allclose(pca.mean_, parts[TRAIN][0].mean(0), atol=1e-6)
    machine = made[1].calibrated_classifiers_[0].estimator
    assert (machine.C, machine.kernel) == (0.4, "rbf")
    everything = np.concatenate([features for features, _ in parts.values()])
    leaked = heads.svm(parts[TRAIN], 512, seed=0, everything=everything)
    assert np.allclose(leaked[0].mean_, everything.mean(0), atol=1e-6)
    assert heads.head_of(heads.SVM, made, parts[TRAIN], parts[TEST]).accuracy.value > 0.8


def test_eighty_of_a_hundred_photos_train_and_twenty_test_as_published(data: Path, tmp_path: Path) -> None:
    source = source_of(data, tmp_path)
    published = photos_of(source, _PUBLISHED_SHARES, 0, 2, QUIET, by_row=True)
    assert {split: len(published.of(split)) for split in SPLITS} == {TRAIN: 96, VAL: 0, TEST: 24}
    careful = photos_of(source, _SHARES, 0, 2, QUIET, by_row=False)
    assert len(careful.of(TEST)) / len(careful.photos) == pytest.approx(0.2, abs=0.03)
    assert len(careful.of(VAL)) / len(careful.photos) == pytest.approx(0.15, abs=0.03)
    assert Settings().components == heads.COMPONENTS == 512


def test_gamma_is_chosen_by_roc_on_val_and_the_sweep_is_plotted() -> None:
    parts = heads.sided(seen_of(0.8, COUNTS))
    swept = heads.sweep(parts[TRAIN], parts[VAL], parts[TEST], 8, seed=0)
    assert heads.GAMMA == 0.011
    assert heads.GAMMA in swept.gammas
    assert max(swept.chosen_on) == swept.chosen_on[swept.gammas.index(swept.gamma)]
    assert Image.open(io.BytesIO(heads.sweep_plot(swept, "val"))).format == "PNG"
    machine = heads.one_class(parts[TRAIN], 0.011, 8, seed=0)
    assert (machine[1].gamma, machine[1].nu) == (0.011, 0.08)
    good = parts[TRAIN][0][parts[TRAIN][1] == 1]
    assert np.allclose(machine[0].mean_, good.mean(0), atol=1e-6)
    everyone = heads.one_class((parts[TRAIN][0], np.ones(COUNTS[TRAIN], np.int64)), 0.011, 8, seed=0)
    assert not np.allclose(machine[0].mean_, everyone[0].mean_, atol=1e-6)
    assert machine[1].n_features_in_ == 8
    assert machine[1].shape_fit_[0] == len(good)
    outside = float((machine.predict(good) == -1).mean())
    assert outside == pytest.approx(heads.NU, abs=0.08)
    other = heads.sweep(parts[TRAIN], parts[TEST], parts[TEST], 8, seed=0)
    assert other.chosen_on == other.test


def test_a_one_class_head_says_good_more_surely_of_good_photos() -> None:
    parts = heads.sided(seen_of(0.8, COUNTS))
    head = CalibratedNovelty(heads.one_class(parts[TRAIN], 0.011, 8, seed=0)).fit(*parts[VAL])
    sure = head.predict_proba(parts[TEST][0])[:, 1]
    assert ((sure >= 0) & (sure <= 1)).all()
    assert sure[parts[TEST][1] == 1].mean() > sure[parts[TEST][1] == 0].mean()
    inside = head.fitted.decision_function(parts[TEST][0])
    turned = CalibratedNovelty(head.fitted).fit(parts[VAL][0], 1 - parts[VAL][1])  # val that contradicts it
    for some in (head, turned):
        assert np.array_equal(np.argsort(some.predict_proba(parts[TEST][0])[:, 1], kind="stable"), np.argsort(inside))


def test_a_split_without_one_of_the_sides_is_refused() -> None:
    seen = seen_of(1.0, COUNTS)
    alone = {split: [replace(photo, rating=5.0) for photo in seen.photos[split]] for split in SPLITS}
    with pytest.raises(DataError, match="both sides"):
        heads.sided(replace(seen, photos=alone))


def test_two_folders_or_a_list_are_the_data(data: Path, tmp_path: Path) -> None:
    source = source_of(data, tmp_path / "scratch")
    assert source.photos == data
    assert len(source.path.read_text().splitlines()) == 121
    (tmp_path / "ratings.csv").write_text("image,rating,user\na.jpg,5,u\n")
    assert source_of(tmp_path, tmp_path / "scratch").group == "user"
    assert source_of(tmp_path / "ratings.csv", tmp_path / "scratch").group == "user"
    with pytest.raises(DataError, match="neither"):
        source_of(tmp_path / "scratch", tmp_path)


@pytest.mark.parametrize("as_published", [False, True])
def test_the_whole_study_runs_and_keeps_three_heads(data: Path, tmp_path: Path, *, as_published: bool) -> None:
    trial = tmp_path / "report.json"
    share = {"yes": 40, "judged": 85, "share": 40 / 85, "low": 0.37, "high": 0.57}
    trial.write_text(json.dumps({"sampled": 2000, "picked": {"usable": share, "in_context": share}}))
    options = Options(data, tmp_path / "out", tmp_path / "cache", quick=True, as_published=as_published)
    result = STUDY.run(replace(options, overrides={"trial": str(trial)}), QUIET)
    figures = result.figures
    assert figures["picked by the model in the live trial"].value == 85 / 2000
    assert figures["usable share of the picks"].low == 0.37
    assert set(figures) >= {entry.figure for entry in STUDY.published}
    assert "frozen network, CPU minutes" in figures
    assert [line[2] for line in result.tables["Heads on frozen features"].rows] == [
        "layer",
        "svm",
        "one-class",
        "one-class, the article's gamma",
        "always the more frequent side",
    ]
    gammas = [line[0] for line in result.tables["Area under ROC of the one-class SVM"].rows]
    assert sum(name.startswith("0.011 (") for name in gammas) == 1
    assert list(result.pictures) == ["The one-class SVM's gamma", "ROC curves on test photos"]
    assert [title.partition(" ")[0] for title in result.photos] == ["Good", "Poor", "Picked"]
    for body in (*result.pictures.values(), *result.photos.values()):
        assert min(Image.open(io.BytesIO(body)).size) >= 96
    if as_published:
        assert figures["share of photos to train on"].value == pytest.approx(0.8, abs=0.01)
    assert figures["share of photos to test on"].value == pytest.approx(0.2, abs=0.03)
    assert result.claims[-1].agrees
    for name in ("layer", "svm", "one-class"):
        assert load(tmp_path / "out" / f"feed-{name}").about["name"] == f"feed-{name}"
    kept = joblib.load(tmp_path / "out" / "feed-svm" / "head.joblib")
    assert isinstance(kept[0], PCA)


def test_time_is_not_reported_when_features_came_from_the_cache(data: Path, tmp_path: Path) -> None:
    source = source_of(data, tmp_path)
    manifest = photos_of(source, Shares(0.2, 0.2), 0, 2, QUIET, by_row=True)
    options = Options(data, tmp_path, tmp_path / "cache")

    def cached() -> bool:
        return features_of("resnet10-w8", manifest, options, QUIET, px=32, workers=1).cached

    assert [cached(), cached()] == [False, True]
    kept = sorted((tmp_path / "cache").glob("features-*.npy"))
    for path in kept[1:]:
        path.unlink()
    assert cached()  # one split of an earlier run is enough
    for path in kept:
        path.unlink()
    kept[0].with_suffix(".rows").write_text("0")  # a run was stopped within its first split
    assert cached()


def test_a_trial_that_is_none_is_refused(data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "report.json"
    broken.write_text("{}")
    options = Options(data, tmp_path, tmp_path / "cache", quick=True, overrides={"trial": str(broken)})
    with pytest.raises(DataError, match="not a report of a trial"):
        STUDY.run(options, QUIET)
