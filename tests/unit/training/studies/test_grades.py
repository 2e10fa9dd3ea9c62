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
from training.errors import DataError, RecipeError
from training.evaluation.brand import never_predicted
from training.heads.features import weights_sha256
from training.heads.folder import load
from training.models.networks import empty
from training.studies import page
from training.studies.fit import Pictures
from training.studies.grades import STUDY, classical, frozen, tuned
from training.studies.grades.data import AS_LEVELS, Listing, cells, columns_of, make, preparation, source_of
from training.studies.grades.extracted import FEATURES, metadata_of, with_metadata
from training.studies.grades.run import Settings, _resolved
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
#: The list's own columns alone.
BROUGHT = Listing(extracted=False)
SHARES = Shares(0.15, 0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grades")
    make(folder, seed=3, count=260)
    return folder


@pytest.fixture(scope="module")
def features(data: Path) -> tuple[str, ...]:
    return source_of(data, BROUGHT)[1]


@pytest.fixture(scope="module")
def manifest(data: Path) -> Manifest:
    return photos_of(source_of(data, BROUGHT)[0], SHARES, 0, 2, QUIET, by_row=False)


@pytest.fixture(scope="module")
def by_row(data: Path) -> Manifest:
    return photos_of(source_of(data, BROUGHT)[0], SHARES, 0, 2, QUIET, by_row=True)


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
    _, found = source_of(data, BROUGHT)
    assert len(found) == 22
    assert not {"image", "rating", "user", "split"} & set(found)
    source_of(rewritten(data, tmp_path, {"rating": "4.0"}, found[:2]), BROUGHT)
    with pytest.raises(DataError, match="19 metadata features"):
        source_of(rewritten(data, tmp_path, {}, found[:3]), BROUGHT)
    for rating in ("0", "6", "3.5", "", "good"):
        with pytest.raises(DataError, match="line 2"):
            source_of(rewritten(data, tmp_path, {"rating": rating}), BROUGHT)
    with pytest.raises(DataError, match="no column rating"):
        source_of(rewritten(data, tmp_path, {}, ["rating"]), BROUGHT)


def test_photos_with_ratings_alone_have_the_features_of_their_files(data: Path, tmp_path: Path) -> None:
    alone = rewritten(data, tmp_path, {}, [*source_of(data, BROUGHT)[1], "user"])
    source, features = source_of(alone, Listing())
    assert source.group is None
    assert features == FEATURES
    assert len(set(FEATURES)) == len(FEATURES) >= 30
    brought = source_of(data, BROUGHT)[1]
    assert "file_kb" in brought
    assert source_of(data, Listing())[1] == (*(name for name in FEATURES if name != "file_kb"), *brought)
    scaled = source_of(data, Listing(scale=(0.0, 10.0)))[0]
    assert scaled.scale == (0.0, 10.0) != AS_LEVELS


def camera_photo() -> bytes:
    """A JPEG as a camera writes it: upright by its EXIF alone, with time, place and exposure."""
    exif = Image.Exif()
    exif.update({0x010F: "Maker", 0x0110: "Model 7", 0x0112: 6})
    exif.get_ifd(0x8769).update({0x9003: "2018:06:26 18:30:05", 0x829A: 0.008, 0x829D: 2.8, 0x8827: 400, 0x9209: 16})
    exif.get_ifd(0x8825).update({1: "S", 2: (28.0, 30.0, 36.0), 3: "E", 4: (77.0, 12.0, 0.0)})
    stream = io.BytesIO()
    Image.new("RGB", (80, 40), "teal").save(stream, "JPEG", exif=exif, dpi=(72, 72))
    return stream.getvalue()


def test_metadata_are_taken_from_the_photos_own_file(tmp_path: Path) -> None:
    body = camera_photo()
    found = metadata_of(body)
    assert found.keys() <= set(FEATURES)
    assert len(found) >= 20
    assert found | {"file_kb": "", "file_quantisation": ""} == found | {
        "exif_taken_at": "2018-06-26T18:30:05", "exif_make": "Maker", "exif_camera": "Model 7",
        "exif_exposure_s": "0.008", "exif_aperture": "2.8", "exif_iso": "400", "exif_flash": "16",
        "exif_orientation": "6", "exif_latitude": "-28.51", "exif_longitude": "77.2",
        "file_format": "JPEG", "file_width_px": "40", "file_height_px": "80", "file_shape": "portrait",
        "file_has_exif": "yes", "file_dpi": "72", "file_kb": "", "file_quantisation": "",
    }  # fmt: skip
    (tmp_path / "a.jpg").write_bytes(body)
    listed = Photo(
        "a", str(tmp_path / "a.jpg"), "x", rating=3.0, metadata={"exif_camera": "the list's", "city": "Pune"}
    )
    gone = replace(listed, id="b", uri=str(tmp_path / "b.jpg"))
    one, other = with_metadata([listed, gone], 2)
    assert one.metadata["exif_camera"] == "the list's"
    assert one.metadata["exif_iso"] == "400"
    assert other.metadata == gone.metadata
    columns = columns_of(cells([one] * 20, ("exif_taken_at", "exif_iso")))
    assert columns.moments == ("exif_taken_at",)
    assert "exif_taken_at weekday" in columns.names


@pytest.mark.parametrize(
    "body", [b"", b"no photo", camera_photo()[:300], camera_photo().replace(b"2018:06:26", b"9" * 10)]
)
def test_what_a_broken_file_does_not_tell_is_missing(body: bytes) -> None:
    assert "exif_taken_at" not in metadata_of(body)


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
    models = classical.nine_models(0)
    assert [type(model).__name__ for model in models.values()] == list(models)
    assert len(set(models)) == 9
    found = classical.scores(manifest, features, 15, 0, as_published=False)
    assert len({(score.train, score.val, score.test.value, score.macro_recall) for score in found}) == 10
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
    assert "still" not in dict(found.with_rating)
    assert all(abs(value) < 0.6 for name, value in found.with_rating[1:])
    assert classical.correlation_table(found).rows[0][0] == "hint"
    assert Image.open(io.BytesIO(classical.correlation_plot(found))).format == "PNG"


def test_no_user_and_no_near_duplicate_crosses_the_splits(by_row: Manifest, data: Path, tmp_path: Path) -> None:
    manifest = photos_of(source_of(data, BROUGHT)[0], SHARES, 0, 2, QUIET, by_row=False)
    assert crossing(manifest.photos) == {"users_in_several_splits": 0, "files_in_several_splits": 0}
    assert all(photo.group for photo in manifest.photos)  # without users none could cross
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
    made = photos_of(source_of(tmp_path, BROUGHT)[0], SHARES, 0, 2, QUIET, by_row=False)
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
    assert _resolved(Settings()).tuned == networks
    assert _resolved(Settings()).shown == "inception_v3"
    with pytest.raises(RecipeError, match="must be of networks"):
        _resolved(Settings(tuned=("resnet18",)))
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
    optimisers: list[tuple[object, ...]] = []
    real = tuned.fit

    def noted(net: torch.nn.Module, pictures: dict[str, Pictures], plan: tuned.Plan, *rest):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
        starts.append({name: value.clone() for name, value in net.state_dict().items()})
        made = plan.optimiser(net.parameters())
        group = made.param_groups[0]
        optimisers.append((type(made).__name__, group["lr"], group.get("alpha"), group.get("betas")))
        fitted = real(net, pictures, plan, *rest)
        kept = empty("resnet10-w8", 2)
        kept.load_state_dict(torch.load(fitted.file, weights_only=True))
        assert all(torch.equal(kept.state_dict()[name], value) for name, value in net.state_dict().items())
        starts.append({name: value.clone() for name, value in net.state_dict().items()})
        return fitted

    monkeypatch.setattr(tuned, "fit", noted)
    options = Options(Path(), tmp_path, tmp_path / "cache")
    found = tuned.tune(manifest, tuned.Budget("resnet10-w8", 32, 16, 2, 1), options, tmp_path / "w", QUIET)
    first, second = found.first, found.second
    assert optimisers == [("Adam", 1e-3, None, (0.9, 0.999)), ("RMSprop", 1e-5, 0.99, None)]
    assert all(torch.equal(value, starts[2][name]) for name, value in starts[1].items())
    assert not all(torch.equal(value, starts[0][name]) for name, value in starts[1].items())
    assert first.fitted.best.accuracy[VAL] == max(epoch.accuracy[VAL] for epoch in first.fitted.epochs)
    assert len(first.fitted.table.rows) == len(second.fitted.table.rows) == 2
    lines = [dict(zip(tuned.HEADER, line, strict=True)) for line in tuned.lines(found)]
    assert [line["stage"] for line in lines] == ["Adam 1e-3", "then RMSprop 1e-5"]
    assert [line["macro recall"] for line in lines] == [f"{stage.macro_recall:.3f}" for stage in (first, second)]
    assert {line["weights"] for line in lines} == {"random, seed 0"}


@pytest.mark.parametrize("as_published", [False, True])
def test_the_whole_study_runs_and_keeps_its_heads(data: Path, tmp_path: Path, *, as_published: bool) -> None:
    options = Options(data, tmp_path / "out", tmp_path / "cache", quick=True, as_published=as_published, made=True)
    result = STUDY.run(options, QUIET)
    assert "by code" in result.data
    lines = result.tables["Frozen networks under a new last layer"].rows
    assert [line[3] for line in lines] == ["5 levels as they come", "5 levels, balanced", "poor and good, balanced"]
    assert [line[0] for line in result.tables["Fine-tuning all layers, poor and good"].rows] == ["resnet10-w8"] * 2
    natural = dict(zip(frozen.HEADER, lines[0], strict=True))
    beside = {row[0]: row for row in page.beside(STUDY, options, result)}
    assert beside["frozen network, 5 levels as they come, test accuracy"][2] == natural["test"]
    assert beside["frozen network, 5 levels as they come, macro recall"][2] == natural["macro recall"]
    told = beside["fine-tuned, Adam 1e-3, test accuracy"][5]
    assert told == "InceptionV3 there; resnet10-w8 (random, seed 0) at 32 pixels, 1 epochs, on drawings by code"
    assert len(result.claims) == 5
    assert (tmp_path / "out" / "grades-models.csv").is_file()
    assert result.figures["best tree on metadata, 5 levels, test accuracy"].value <= 1
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
