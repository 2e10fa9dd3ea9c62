"""Study 3, row by row, on small data in the layout of the competition."""

import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from rich.console import Console
from sklearn.linear_model import SGDClassifier

from training.data.decode import Geometry
from training.data.photos import TRAIN, VAL, Photo
from training.errors import DataError, RecipeError
from training.evaluation.figures import ORANGE
from training.heads.features import Backbone, backbone, cache_file
from training.models.networks import build
from training.recipes.recipe import Model
from training.studies.affine import Affine
from training.studies.bottleneck import STUDY
from training.studies.bottleneck.data import (
    FULL_CLASSES,
    Way,
    divided,
    listed,
    make,
    read,
    sampled,
)
from training.studies.bottleneck.heads import (
    Reader,
    Sides,
    Worth,
    bagged,
    flag_limit,
    guesses,
    head,
    over_seeds,
    single,
    threshold_for,
    worth,
)
from training.studies.bottleneck.plots import spread
from training.studies.bottleneck.report import IMAGENET_BIAS, Finding, Network, _blind, _claims, bias_of
from training.studies.bottleneck.run import CHANGES, Settings, plan_of
from training.studies.fit import seeded
from training.studies.labelled import LabelledPhotos
from training.studies.study import Options, Result

QUIET = Console(quiet=True)
#: Of the full data set.
FULL_PHOTOS = 10_222


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dogs")
    make(folder, 0)
    return folder


@pytest.fixture(scope="module")
def ran(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Options, Result]:
    folder = tmp_path_factory.mktemp("ran")
    nets = [f"resnet10-w{width}" for width in (8, 16, 24, 32)]
    chosen = {"epochs": 1, "networks": nets[:3], "fine_tuned": nets, "batch": 32, "px": 32}
    options = Options(data, folder / "out", folder / "cache", quick=True, made=True, overrides=chosen)
    return options, STUDY.run(options, QUIET)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_the_top_alone_is_trained_and_unlocking_all_layers_is_the_option(
    data: Path, tmp_path: Path, trainable: str
) -> None:
    chosen = {"epochs": 1, "networks": ["resnet10-w8"], "fine_tuned": ["resnet10-w8"], "px": 32, "trainable": trainable}
    chosen = {name: value for name, value in chosen.items() if value != Settings().trainable}
    options = Options(data, tmp_path, tmp_path, quick=True, overrides=chosen)
    STUDY.run(options, QUIET)
    (path,) = (tmp_path / "bottleneck").glob("resnet10-w8-*.pt")
    after = torch.load(path, weights_only=True)
    start = seeded(0, lambda: build(Model(arch="resnet10-w8"), 6)).state_dict()
    moved = {name for name, value in start.items() if not torch.equal(value, after[name])}
    assert moved == ({"head.weight", "head.bias"} if trainable == "head" else set(start))


def test_samples_of_each_class_and_outside_pictures_with_their_guesses_are_shown(ran: tuple[Options, Result]) -> None:
    first, second = ran[1].photos
    assert first == "Sample photos of each class, from train"
    assert second == "Pictures from elsewhere, and the five most probable classes of each"
    sheet = Image.open(io.BytesIO(ran[1].photos[first]))
    assert sheet.size == (12 * 72, 2 * (72 + 13))  # six classes, three photos each
    shown = Image.open(io.BytesIO(ran[1].photos[second]))
    assert shown.height / shown.width > 0.7  # four pictures below each other


def test_the_spread_has_a_row_for_each_network_in_its_own_scale_and_nothing_is_cut_off() -> None:
    drawn = Image.open(io.BytesIO(spread({"near": ([0.1, 0.11], [0.104, 0.105]), "far": ([8.0, 9.5], [8.2, 8.3])})))
    pixels = np.asarray(drawn.convert("RGB"))
    assert all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    point = (0.7 * np.array(to_rgb(ORANGE)) + 0.3) * 255  # drawn at an opacity of 0.7
    for panel in np.array_split(pixels, 2):  # in one scale for both, the points of "near" would be one
        columns = np.flatnonzero((np.abs(panel.astype(int) - point).max(2) < 25).any(0))
        assert columns.max() - columns.min() > 0.5 * pixels.shape[1]


def test_a_page_says_when_a_bag_is_worse_than_one_classifier(ran: tuple[Options, Result]) -> None:
    assert len(ran[1].claims) == 2
    source = Backbone("net", torch.nn.Identity(), Geometry(8, 8), 4, "", "random, seed 0")
    steady, shaky = [[Worth(1, 0.5, loss, 0.5) for loss in losses] for losses in ((1.0, 1.1), (0.1, 0.9))]
    for bags, singles, agrees in ((steady, shaky, [True, False]), (shaky, steady, [False, True])):
        some = Network(source, tuple(bags), tuple(singles))
        finding = Finding(LabelledPhotos((), ("a",), "", ()), (some,), some, {}, (), 0.0)
        assert [claim.agrees for claim in _claims(finding)] == agrees


def clusters(
    count: int, seed: int, apart: float = 0.8, scale: float = 1.0, width: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Features of six classes whose centres are `apart`."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(0, apart, (6, width))
    labels = np.arange(count) % 6
    return (scale * np.maximum(0, centres[labels] + rng.normal(0, 1, (count, width)))).astype(np.float32), labels


def sides() -> Sides:
    return Sides(*clusters(240, 1), *clusters(120, 2))


def test_the_full_set_is_split_into_9200_and_1022_by_class_and_seed(tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "breed"))
        writer.writerows((f"{index:032x}", f"breed{index % FULL_CLASSES:03d}") for index in range(FULL_PHOTOS))
    photos = listed(tmp_path)
    assert photos[0].uri == str(tmp_path / "train" / f"{0:032x}.jpg")
    assert len({photo.label for photo in photos}) == 120
    split = divided(photos, 0)
    assert Counter(photo.split for photo in split) == {TRAIN: 9200, VAL: 1022}
    by_class = Counter(photo.label for photo in split if photo.split == VAL)
    assert set(by_class.values()) == {8, 9}
    assert split == divided(photos, 0) != divided(photos, 1)
    assert round(len(photos) / 120) == 85


def test_the_histogram_and_the_mean_of_each_class_are_on_the_page(ran: tuple[Options, Result]) -> None:
    assert any(caption.startswith("Photos of each class; the mean is 20.0") for caption in ran[1].pictures)
    assert ran[1].figures["photos of a class"].value == 20


def test_folders_named_by_class_are_read_too(data: Path, tmp_path: Path) -> None:
    for index, path in enumerate(sorted((data / "train").iterdir())[:40]):
        place = tmp_path / "group" / f"class{index % 2}" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.jpg").hardlink_to(path)
    found = read(tmp_path, Way(0, 2), QUIET)
    assert found.labels == ("class0", "class1")
    assert found.description.startswith("Not dog breeds")
    with pytest.raises(DataError, match="neither"):
        listed(tmp_path / "group" / "class0")


def test_a_nearly_equal_training_photo_is_left_out_unless_as_published(tmp_path: Path) -> None:
    make(tmp_path, 0)
    labels = (tmp_path / "labels.csv").read_text().splitlines()
    for line in labels[1:7]:
        name, breed = line.split(",")
        for copy in range(9):
            (tmp_path / "train" / f"{name}{copy}.jpg").write_bytes((tmp_path / "train" / f"{name}.jpg").read_bytes())
            labels.append(f"{name}{copy},{breed}")
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    clean = read(tmp_path, Way(0, 2), QUIET)
    hashes = {photo.sha256 for photo in clean.of(VAL)}
    assert not hashes & {photo.sha256 for photo in clean.of(TRAIN)}
    published = read(tmp_path, Way(0, 2, as_published=True), QUIET)
    assert hashes & {photo.sha256 for photo in published.of(TRAIN)}
    assert len(published.photos) == 120 + 54 > len(clean.photos)


def test_a_sample_keeps_every_class_by_its_share() -> None:
    photos = [Photo(str(index), "", "", label="ab"[index % 4 == 0]) for index in range(400)]
    assert Counter(photo.label for photo in sampled(photos, 100)) == {"a": 75, "b": 25}
    assert sampled(photos, 0) == photos


def test_each_network_has_a_cache_of_its_own(ran: tuple[Options, Result]) -> None:
    cache = ran[0].cache
    files = sorted(cache.glob("features-*.npy"))
    assert len(files) == 3
    assert {np.load(path, mmap_mode="r").shape[0] for path in files} == {120}
    before = {path: path.stat().st_mtime_ns for path in files}
    STUDY.run(replace(ran[0], overrides={**ran[0].overrides, "fine_tuned": []}), QUIET)
    assert before == {path: path.stat().st_mtime_ns for path in cache.glob("features-*.npy")}
    assert [net.arch for net in STUDY.models[:3]] == list(Settings().networks)


def test_a_cache_is_named_by_network_weights_and_photos(tmp_path: Path) -> None:
    photos = [Photo(str(number), f"{number}.jpg", "t", sha256=f"{number:064x}") for number in range(3)]
    plain = Backbone("net", torch.nn.Identity(), Geometry(8, 8), 4, "a1", "")
    sources = [plain, replace(plain, arch="other"), replace(plain, weights_sha256="b2")]
    names = [cache_file(source, photos, tmp_path).name for source in sources]
    assert len({*names, cache_file(plain, photos[:2], tmp_path).name}) == 4
    assert cache_file(plain, photos, tmp_path).name == names[0]


def test_guesses_are_the_five_most_probable_classes_best_first(tmp_path: Path) -> None:
    shares = np.array([[0.05, 0.3, 0.1, 0.22, 0.15, 0.18]])
    fitted = SimpleNamespace(predict_proba=lambda _features: shares, classes_=np.arange(6))
    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "a.png")
    source = backbone(Model(arch="resnet10-w8"), px=32)
    (found,) = guesses(Reader(source, fitted, "abcdef", 0.31), tmp_path)
    assert found.classes == (("b", 0.3), ("d", 0.22), ("f", 0.18), ("e", 0.15), ("c", 0.1))
    assert found.flagged
    assert found.seen.shape == (32, 32, 3)
    assert (found.seen == (200, 10, 10)).all()
    (found,) = guesses(Reader(source, fitted, "abcdef", 0.29), tmp_path)
    assert not found.flagged


def test_the_head_has_the_studys_values_and_its_threshold_sees_train_alone() -> None:
    chosen = bagged(9200, 0)
    expected = {"max_samples": 0.5, "max_features": 0.5, "bootstrap_features": True, "n_estimators": 10}
    assert expected.items() <= chosen.get_params().items()
    member = chosen.estimator
    assert isinstance(member, SGDClassifier)
    values = {"loss": "log_loss", "penalty": "elasticnet", "alpha": 1 / 9200, "class_weight": "balanced", "tol": 1e-3}
    assert {**values, "fit_intercept": False}.items() <= member.get_params().items()
    train, labels = clusters(120, 1)
    train[:, 3] = 1.0  # varies in val alone
    fitted = head(train, single(120, 0)).fit(train, labels)
    kept = fitted.steps[0][1].get_support()
    assert fitted.steps[0][1].threshold == 0.1
    assert not kept[3]
    assert kept.sum() == (train.var(0) > 0.1).sum()


def test_small_features_keep_half_of_them() -> None:
    small = clusters(120, 1)[0] * 1e-3
    assert threshold_for(small) < 0.1
    assert (small.var(0, dtype=np.float64) > threshold_for(small)).mean() >= 0.5


def test_bagging_spreads_less_over_seeds_than_a_single_classifier() -> None:
    hard = Sides(*clusters(240, 1, 0.3, 5), *clusters(300, 2, 0.3, 5))  # classes that overlap, features that are large
    bags = over_seeds(hard, range(6), 10, bag=True)
    singles = over_seeds(hard, range(6), 10, bag=False)
    assert np.std([w.val_loss for w in bags]) < 0.5 * np.std([w.val_loss for w in singles])
    assert np.mean([w.val_loss for w in bags]) < np.mean([w.val_loss for w in singles])
    assert all(w.train_loss > 0 and 0.3 < w.val_accuracy <= 1 for w in bags)


def test_worth_is_log_loss_and_accuracy_of_both_sides() -> None:
    found = sides()
    fitted = head(found.train, bagged(240, 0)).fit(found.train, found.train_labels)
    shares = fitted.predict_proba(found.val)
    mine = -np.log(shares[np.arange(120), found.val_labels]).mean()
    said = worth(fitted, found)
    assert said.val_loss == pytest.approx(mine)
    assert said.val_accuracy == fitted.score(found.val, found.val_labels)
    assert said.train_accuracy == fitted.score(found.train, found.train_labels)


def test_heads_are_on_the_page_for_every_network(ran: tuple[Options, Result]) -> None:
    (title,) = [title for title in ran[1].tables if title.startswith("Heads on bottleneck features")]
    assert "5 seeds" in title
    table = ran[1].tables[title]
    assert table.header[3:] == ("train log loss", "train accuracy", "val log loss", "val accuracy")
    assert [row[2] for row in table.rows] == ["single SGD", "bagged SGD"] * 3


def test_fine_tuning_fills_a_table_of_four_rows_with_the_studys_values(ran: tuple[Options, Result]) -> None:
    assert len(ran[1].tables["Fine-tuning"].rows) == 4
    settings = Settings()
    assert settings.trainable == "head"
    assert any("a new top moves alone" in note for note in ran[1].notes)
    assert settings.fine_tuned == ("inception_v3", "timm/inception_resnet_v2", "timm/legacy_xception", "resnet50")
    assert (settings.epochs, settings.batch) == (100, 128)
    assert Affine(rotation_deg=30, shift=0.2, zoom=0.2, flip=True) == CHANGES
    optimiser = plan_of(1, 1, 0, "net").optimiser([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimiser, torch.optim.SGD)
    expected = {"lr": 1e-3, "momentum": 0.99, "nesterov": True}
    assert expected.items() <= optimiser.param_groups[0].items()
    net = build(Model(arch="resnet10-w8", trainable="head"), 120)
    assert [tuple(p.shape) for p in net.parameters() if p.requires_grad] == [(120, 64), (120,)]


def test_outside_pictures_get_five_guesses_and_a_low_best_one_is_flagged(ran: tuple[Options, Result]) -> None:
    (title,) = [title for title in ran[1].tables if title.startswith("Pictures from elsewhere")]
    rows = ran[1].tables[title].rows
    limit = float(title.rpartition(" ")[2])
    assert [row[0] for row in rows] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    for _, text, flag in rows:
        guesses = [part.rpartition(" ") for part in text.split(", ")]
        shares = [float(share) for _, _, share in guesses]
        assert len(guesses) == 5
        assert shares == sorted(shares, reverse=True)
        if abs(shares[0] - limit) > 0.011:
            assert (flag == "flagged") == (shares[0] < limit)


def test_a_flag_is_for_what_almost_no_photo_of_val_gets() -> None:
    shares = np.stack((np.linspace(0.5, 1, 101), np.linspace(0.5, 0, 101)), 1)
    assert flag_limit(shares) == pytest.approx(0.525)


def test_the_card_says_that_the_classes_are_imagenets(ran: tuple[Options, Result]) -> None:
    card = (ran[0].cache / "bottleneck" / "card.md").read_text()
    assert "## Known biases" in card
    assert "Random weights" in card
    assert any(note.startswith("Known bias: ") for note in ran[1].notes)
    assert any("ImageNet" in mistake.what for mistake in STUDY.mistakes)

    class Source:
        origin = "pretrained"

    assert bias_of(Source()) == IMAGENET_BIAS  # type: ignore[arg-type]


def test_the_heads_graph_says_what_scikit_learn_says(ran: tuple[Options, Result]) -> None:
    graph = onnxruntime.InferenceSession(ran[0].cache / "bottleneck" / "head.onnx", providers=["CPUExecutionProvider"])
    width = graph.get_inputs()[0].shape[1]
    shares = graph.run(None, {"features": np.random.default_rng(0).random((5, width), np.float32)})[0]
    assert shares.shape == (5, 6)
    assert shares.sum(1) == pytest.approx(1, abs=1e-5)


def test_settings_that_make_no_sense_are_refused(data: Path, tmp_path: Path) -> None:
    for values in ({"trainable": "some"}, {"networks": []}, {"seeds": 1}):
        with pytest.raises(RecipeError):
            STUDY.run(Options(data, tmp_path, tmp_path, quick=True, overrides=values), QUIET)


def test_a_network_whose_features_tell_nothing_is_named() -> None:
    guess = Worth(1.79, 0.2, 1.79, 0.2)
    good = Worth(0.1, 1.0, 0.4, 0.9)

    def finding(worths: Worth) -> Finding:
        source = Backbone("net", torch.nn.Identity(), Geometry(8, 8), 4, "", "random, seed 0")
        some = Network(source, (worths,) * 5, (worths,) * 5)
        breeds = LabelledPhotos((), tuple("abcdef"), "", ())
        return Finding(breeds, (some,), some, {}, (), 0.0)

    assert _blind(finding(guess)) == ("Features of net tell nothing: the log loss on val is that of guessing, 1.792.",)
    assert _blind(finding(good)) == ()
