"""Study 1, row by row, on small data that the tests make."""

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from training.data.manifest import Manifest
from training.data.photos import SPLITS, TEST, TRAIN, VAL, Photo
from training.errors import DataError
from training.evaluation.brand import never_predicted
from training.heads.features import weights_sha256
from training.heads.folder import load
from training.models.networks import empty
from training.studies.fit import Pictures
from training.studies.grades import STUDY, classical, frozen, tuned
from training.studies.grades.data import cells, columns_of, make, preparation, source_of
from training.studies.grades.run import Settings
from training.studies.rated import (
    FrozenFeatures,
    Shares,
    balanced,
    crossing,
    features_of,
    levels,
    photos_of,
    side_of,
    sides,
)
from training.studies.study import Options

QUIET = Console(file=io.StringIO())
SHARES = Shares(0.15, 0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grades")
    make(folder, seed=3, count=260)
    return folder


@pytest.fixture(scope="module")
def features(data: Path) -> tuple[str, ...]:
    return source_of(data, grouped=True)[1]


@pytest.fixture(scope="module")
def manifest(data: Path) -> Manifest:
    return photos_of(source_of(data, grouped=True)[0], SHARES, 0, 2, QUIET, by_row=False)


@pytest.fixture(scope="module")
def by_row(data: Path) -> Manifest:
    return photos_of(source_of(data, grouped=True)[0], SHARES, 0, 2, QUIET, by_row=True)


@pytest.fixture(scope="module")
def seen(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> FrozenFeatures:
    options = Options(Path(), Path(), tmp_path_factory.mktemp("cache"))
    return features_of("resnet10-w8", manifest, options, QUIET, px=32, workers=1)


def rewritten(data: Path, folder: Path, change: dict[str, str], left_out: Sequence[str] = ()) -> Path:
    """A copy of the list, its first row changed, without some columns."""
    path = folder / "ratings.csv"
    with (data / "ratings.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    lines[0] |= change
    kept = [name for name in lines[0] if name not in left_out]
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_a_table_needs_twenty_features_and_ratings_of_one_to_five(data: Path, tmp_path: Path) -> None:
    _, found = source_of(data, grouped=True)
    assert len(found) == 22
    assert not {"image", "rating", "user", "split"} & set(found)
    source_of(rewritten(data, tmp_path, {"rating": "4.0"}, found[:2]), grouped=True)
    with pytest.raises(DataError, match="19 metadata features"):
        source_of(rewritten(data, tmp_path, {}, found[:3]), grouped=True)
    for rating in ("0", "6", "3.5", "", "good"):
        with pytest.raises(DataError, match="line 2"):
            source_of(rewritten(data, tmp_path, {"rating": rating}), grouped=True)
    with pytest.raises(DataError, match="no column rating"):
        source_of(rewritten(data, tmp_path, {}, ["rating"]), grouped=True)


def test_columns_are_prepared_as_training_photos_show_them() -> None:
    rng = np.random.default_rng(0)
    train = [
        {"size": str(v), "city": c, "at": f"2018-0{1 + n % 9}-1{n % 9}T1{n % 9}:30:00", "same": "1"}
        for n, (v, c) in enumerate(zip(rng.integers(0, 9, 40), rng.choice(["a", "b"], 40), strict=True))
    ]
    train[0]["size"] = ""
    columns = columns_of(train)
    assert columns.numbers == ("size", "same")
    assert columns.moments == ("at",)
    assert columns.texts == ("city",)
    assert "at weekday" in columns.names
    prepared = preparation(columns, 20).fit(columns.matrix(train), np.arange(40) % 5)
    imputer = prepared[0].named_transformers_["numbers"]
    sizes = [float(row["size"]) for row in train if row["size"]]
    assert imputer.statistics_[0] == pytest.approx(np.mean(sizes))
    strange = [{"size": "10000", "city": "never seen", "at": "yesterday", "same": "7"}]
    ready = prepared.transform(columns.matrix(strange))
    assert np.isfinite(ready).all()
    assert imputer.statistics_[0] == pytest.approx(np.mean(sizes))
    assert prepared[0].transform(columns.matrix(strange))[0, -1] == -1
    assert prepared.transform(columns.matrix(train)).mean() == pytest.approx(0, abs=1e-9)


def test_only_the_published_way_looks_at_test_photos_to_prepare(
    manifest: Manifest, features: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []

    def noted(table: Sequence[dict[str, str]]):  # type: ignore[no-untyped-def]  # noqa: ANN202
        looked_at.append(len(table))
        return columns_of(table)

    monkeypatch.setattr(classical, "columns_of", noted)
    monkeypatch.setattr(classical, "nine_models", lambda _seed: {})
    for as_published in (False, True):
        classical.scores(manifest, features, 15, 0, as_published=as_published)
    assert looked_at == [len(manifest.of(TRAIN)), len(manifest.photos)]


def test_nine_models_and_the_majority_stand_in_one_csv(
    manifest: Manifest, features: tuple[str, ...], tmp_path: Path
) -> None:
    found = classical.scores(manifest, features, 15, 0, as_published=False)
    classical.write_csv(found, tmp_path / "deep" / "models.csv")
    with (tmp_path / "deep" / "models.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 10
    assert {"train accuracy", "test accuracy"} <= set(lines[0])
    assert lines[-1]["model"] == classical.MAJORITY
    most = np.bincount(levels(manifest.of(TRAIN))).argmax()
    share = float((levels(manifest.of(TEST)) == most).mean())
    assert float(lines[-1]["test accuracy"]) == pytest.approx(share, abs=1e-3)
    trees = next(line for line in lines if line["model"] == "DecisionTreeClassifier")
    assert float(trees["train accuracy"]) > 0.99
    assert float(trees["test accuracy"]) < 0.8  # what was learnt by heart does not carry over


def test_correlations_find_the_feature_that_goes_with_the_rating(manifest: Manifest, features: tuple[str, ...]) -> None:
    told = tuple(
        replace(p, metadata={**p.metadata, "hint": str((p.rating or 0) ** 3), "still": "1"}) for p in manifest.photos
    )
    found = classical.correlations(replace(manifest, photos=told), (*features, "hint", "still"))
    assert found.with_rating[0] == ("hint", pytest.approx(1.0))
    assert dict(found.with_rating)["still"] == 0
    assert all(abs(value) < 0.6 for name, value in found.with_rating[1:])
    assert classical.correlation_table(found).rows[0][0] == "hint"
    assert Image.open(io.BytesIO(classical.correlation_plot(found))).format == "PNG"


def test_no_user_and_no_near_duplicate_crosses_the_splits(
    manifest: Manifest, by_row: Manifest, data: Path, tmp_path: Path
) -> None:
    assert crossing(manifest.photos) == {"users_in_several_splits": 0, "files_in_several_splits": 0}
    assert crossing(by_row.photos)["users_in_several_splits"] > 30
    assert {split: len(manifest.of(split)) > 20 for split in SPLITS} == dict.fromkeys(SPLITS, True)
    shutil.copytree(data / "photos", tmp_path / "photos")
    first = manifest.photos[0]
    with Image.open(first.uri) as image:
        image.resize((120, 90)).save(tmp_path / "photos" / "again.jpg", quality=80)
    with (data / "ratings.csv").open(newline="") as stream:
        lines = list(csv.reader(stream))
    same = next(line for line in lines if line[0] == first.id)
    again = ["photos/again.jpg", same[1], "another-user", *same[3:]]
    with (tmp_path / "ratings.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([*lines, again])
    made = photos_of(source_of(tmp_path, grouped=True)[0], SHARES, 0, 2, QUIET, by_row=False)
    splits = {photo.id: photo.split for photo in made.photos}
    assert splits["photos/again.jpg"] == splits[first.id]


def test_a_frozen_backbone_is_the_same_after_training(seen: FrozenFeatures) -> None:
    before = weights_sha256(seen.source.net)
    for layer in (frozen.five(seen, 0, balance=False), frozen.five(seen, 0, balance=True), frozen.two(seen, 0)):
        assert layer.weights_before == layer.weights_after == before
        line = frozen.cells("net", seen, layer, "x")
        assert len(line) == len(frozen.HEADER)
        assert line[-1] == "unchanged"


def test_the_nine_networks_of_the_study_are_there_by_name() -> None:
    networks = Settings().networks
    assert len(networks) == 9
    assert set(networks) == {model.arch for model in STUDY.models} - {None}
    missing = [model for model in STUDY.models if model.arch is None]
    assert [model.name for model in missing] == ["NASNet-Mobile"]
    assert "mnasnet_100" in missing[0].note


def test_a_collapsed_model_sets_off_the_alarm(seen: FrozenFeatures) -> None:
    truth = levels(seen.photos[TEST])
    assert set(truth.tolist()) == {0, 1, 2, 3, 4}
    assert never_predicted(truth, np.full(len(truth), 2), frozen.LABELS) == ["1", "2", "4", "5"]
    assert never_predicted(truth, truth, frozen.LABELS) == []
    blind = FrozenFeatures(seen.source, {split: np.zeros_like(seen.features[split]) for split in SPLITS}, seen.photos)
    layer = frozen.five(blind, 0, balance=False)
    assert layer.never == ("1", "2", "4", "5")
    assert layer.confusion.sum(0).tolist()[2] == len(truth)
    assert "1, 2, 4, 5" in frozen.cells("net", blind, layer, "x")


def test_training_is_balanced_and_val_and_test_stay_whole(manifest: Manifest, tmp_path: Path) -> None:
    train = levels(manifest.of(TRAIN)).tolist()
    chosen = balanced(train, 0)
    counts = np.bincount([train[index] for index in chosen])
    assert counts.max() - counts.min() <= 1
    assert counts.min() == np.bincount(train).min()
    assert len(set(chosen.tolist())) == len(chosen)
    pictures = tuned.pictures_of(manifest, 32, 0, 1, tmp_path)
    assert np.bincount(pictures[TRAIN].labels).tolist() == [len(pictures[TRAIN]) // 2] * 2
    for split in (VAL, TEST):
        assert len(pictures[split]) == len(sides(manifest.of(split))[0])


def test_levels_become_sides() -> None:
    assert [side_of(rating) for rating in (1, 2, 3, 4, 5)] == [0, 0, None, 1, 1]
    photos = [Photo(str(rating), "", "x", rating=float(rating)) for rating in (5, 3, 1, 4, 2, 3)]
    which, values = sides(photos)
    assert which.tolist() == [0, 2, 3, 4]
    assert values.tolist() == [1, 0, 1, 0]
    assert sides([])[0].tolist() == []


def test_the_second_stage_starts_at_the_best_weights_of_the_first(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[dict[str, torch.Tensor]] = []
    optimisers: list[tuple[str, float]] = []
    real = tuned.fit

    def noted(net: torch.nn.Module, pictures: dict[str, Pictures], plan: tuned.Plan, *rest):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
        starts.append({name: value.clone() for name, value in net.state_dict().items()})
        made = plan.optimiser(net.parameters())
        optimisers.append((type(made).__name__, made.param_groups[0]["lr"]))
        fitted = real(net, pictures, plan, *rest)
        kept = empty("resnet10-w8", 2)
        kept.load_state_dict(torch.load(fitted.file, weights_only=True))
        assert all(torch.equal(kept.state_dict()[name], value) for name, value in net.state_dict().items())
        starts.append({name: value.clone() for name, value in net.state_dict().items()})
        return fitted

    monkeypatch.setattr(tuned, "fit", noted)
    options = Options(Path(), tmp_path, tmp_path / "cache")
    first, second = tuned.tune(manifest, tuned.Budget("resnet10-w8", 32, 16, 2, 1), options, tmp_path / "w", QUIET)
    assert optimisers == [("Adam", 1e-3), ("RMSprop", 1e-5)]
    assert all(torch.equal(value, starts[2][name]) for name, value in starts[1].items())
    assert not all(torch.equal(value, starts[0][name]) for name, value in starts[1].items())
    assert first.fitted.best.accuracy[VAL] == max(epoch.accuracy[VAL] for epoch in first.fitted.epochs)
    assert len(first.fitted.table.rows) == len(second.fitted.table.rows) == 2


@pytest.mark.parametrize("as_published", [False, True])
def test_the_whole_study_runs_and_keeps_its_heads(data: Path, tmp_path: Path, *, as_published: bool) -> None:
    options = Options(data, tmp_path / "out", tmp_path / "cache", quick=True, as_published=as_published, made=True)
    result = STUDY.run(options, QUIET)
    assert "by code" in result.data
    lines = result.tables["Networks, frozen and fine-tuned"].rows
    assert [line[3] for line in lines] == [
        "5 levels as they come",
        "5 levels, balanced",
        "poor and good, balanced",
        "poor and good, Adam 1e-3",
        "poor and good, then RMSprop 1e-5",
    ]
    assert (tmp_path / "out" / "grades-models.csv").is_file()
    assert result.figures["best classical model, test accuracy"].value <= 1
    crossed = int(result.notes[0].split(":")[1].split(";")[0])
    assert (crossed > 0) == as_published
    for name in ("grades-head", "grades-bagged"):
        kept = load(tmp_path / "out" / name)
        assert kept.about["network"] == "resnet10-w8"
        leaks = next(check for check in kept.decision.checks if check.name == "no photo in two splits")
        assert leaks.passed != as_published
        assert any("as published" in remark for remark in kept.about["remarks"]) == as_published


def test_cells_that_a_photo_lacks_are_empty() -> None:
    photo = Photo("a", "", "x", rating=3.0, metadata={"city": "Pune"})
    assert cells([photo], ("city", "device")) == [{"city": "Pune", "device": ""}]
