"""Study 2, row by row, on small data in the layout of FlickrLogos-32."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from tests.slow_host import file_host
from training.cli.main import app
from training.data.brands import flickr_logos
from training.data.download import Limits
from training.data.photos import NO_LOGO, SPLITS, TEST, TRAIN, VAL, Photo
from training.errors import DataError, RecipeError, RunError, Unreadable
from training.models.networks import head_of
from training.models.served import normalise
from training.recipes.sources import FlickrLogosSource
from training.studies import page
from training.studies.fit import Pictures, logits_of, seeded
from training.studies.flickrlogos32 import STUDY
from training.studies.flickrlogos32.classify import classify_logo, read_classifier
from training.studies.flickrlogos32.data import FULL, arrange, make, read
from training.studies.flickrlogos32.examples import examples_of, figures_of
from training.studies.flickrlogos32.nets import DataNorm, LogoCNN
from training.studies.flickrlogos32.report import grid
from training.studies.flickrlogos32.variants import (
    VARIANTS,
    Settings,
    best_threshold,
    label_weights,
    network,
    plan_of,
    rejecting,
    score,
    train,
)
from training.studies.flickrlogos32.views import View, centred, cut, load, shaken, view_of
from training.studies.labelled import LabelledPhotos
from training.studies.study import Options, Result

QUIET = Console(quiet=True)
#: The true sizes: photos of each of 32 brands, and photos without logo, in each list file.
LISTS = {
    "trainset": (10, 0),
    "valset-logosonly": (30, 0),
    "valset-nologos": (0, 3000),
    "testset": (30, 3000),
}


def full_lists(folder: Path) -> FlickrLogosSource:
    for name, (of_brand, without) in LISTS.items():
        lines = [f"classes/jpg/brand{b}/{name}{n}.jpg" for b in range(32) for n in range(of_brand)]
        lines += [f"classes/jpg/no-logo/{name}{n}.jpg" for n in range(without)]
        (folder / f"{name}.relpaths.txt").write_text("\n".join(lines) + "\n")
    return FlickrLogosSource(kind="flickrlogos32", path=folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flickr")
    make(folder, 0)
    return folder


@pytest.fixture(scope="module")
def ran(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Options, Result]:
    folder = tmp_path_factory.mktemp("ran")
    options = Options(data, folder / "out", folder / "cache", quick=True, made=True, overrides={"epochs": 1})
    return options, STUDY.run(options, QUIET)


def training(folder: Path | None = None, **values: object) -> tuple[Settings, Options]:
    """Small settings; a training needs a folder of its own, since one that was there before would go on."""
    plain = Settings(px=72, epochs=2, rate=0.05, hidden=32, transfer="resnet10-w8")
    return replace(plain, **values), Options(
        Path(), Path(), folder.with_name(f"{folder.name}-cache") if folder else Path()
    )  # type: ignore[arg-type]


def squares(count: int, seed: int, no_logo: int = 2) -> Pictures:
    """Three labels that a network can tell apart; the last is no-logo."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % (no_logo + 1)
    made = torch.from_numpy(rng.normal(0, 0.3, (count, 3, 72, 72)).astype(np.float32))
    for index, label in enumerate(labels):
        made[index, label] += 1.5
    return Pictures(lambda _rng, indices: made[indices], labels)


def test_the_four_lists_of_the_full_set_hold_8240_photos_of_33_classes(tmp_path: Path) -> None:
    photos = list(flickr_logos(full_lists(tmp_path).model_copy(update={"no_logo_to_train": 0.0})))
    by_list = Counter(Path(photo.uri).name.rstrip("0123456789.jpg") for photo in photos)
    assert by_list == {"trainset": 320, "valset-logosonly": 960, "valset-nologos": 3000, "testset": 3960}
    assert len({photo.id for photo in photos}) == 8240
    assert len({photo.label for photo in photos}) == 33
    (tmp_path / "testset.relpaths.txt").unlink()
    with pytest.raises(DataError, match="testset"):
        list(flickr_logos(FlickrLogosSource(kind="flickrlogos32", path=tmp_path)))


def test_half_of_vals_photos_without_logo_train(tmp_path: Path) -> None:
    photos = list(flickr_logos(full_lists(tmp_path)))
    counts = Counter(photo.split for photo in photos)
    assert counts == FULL == {TRAIN: 1820, VAL: 2460, TEST: 3960}
    without = [photo for photo in photos if photo.label == NO_LOGO]
    assert Counter(photo.split for photo in without) == {TRAIN: 1500, VAL: 1500, TEST: 3000}
    first = [photo.split for photo in without if "valset" in photo.uri]
    assert first == [TRAIN] * 1500 + [VAL] * 1500


def test_arranging_twice_is_arranging_once(data: Path, tmp_path: Path) -> None:
    logos = read(data, 0, 2, QUIET)
    counts = {split: len(logos.of(split)) for split in SPLITS}
    assert counts == {TRAIN: 70, VAL: 70, TEST: 140}
    assert arrange(logos.photos, tmp_path) == {"placed": 280}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    assert arrange(logos.photos, tmp_path) == {"there": 280}
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    for split, count in counts.items():
        assert len(list((tmp_path / f"{split}_data").rglob("*.jpg"))) == count
    assert len(list((tmp_path / "test_data" / NO_LOGO).iterdir())) == 100


def test_a_listed_photo_that_is_missing_is_named(tmp_path: Path) -> None:
    make(tmp_path, 0)
    gone = next((tmp_path / "classes/jpg/adidas").iterdir())
    gone.unlink()
    with pytest.raises(DataError, match=gone.name):
        read(tmp_path, 0, 2, QUIET)


def test_as_published_a_crop_is_raw_and_by_default_it_is_resized_first(tmp_path: Path) -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[128:352, 208:432] = 200  # the centre 224 of the raw photo
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photos, labels = [Photo("a", str(tmp_path / "a.png"), "t")], np.zeros(1, np.int64)
    raw = view_of(224, 256, 1, as_published=True)
    assert (raw.resize_px, raw.normalised) == (None, False)
    seen = centred(photos, labels, raw).pick(np.random.default_rng(0), np.array([0]))
    assert seen.shape == (1, 3, 224, 224)
    assert torch.equal(seen, torch.full_like(seen, 200.0))
    fixed = view_of(224, 256, 1, as_published=False)
    seen = centred(photos, labels, fixed).pick(np.random.default_rng(0), np.array([0]))
    bright = (seen[0, 0] > 0).float().mean().item()
    assert bright == pytest.approx((224 * 256 / 480 / 224) ** 2, abs=0.01)  # the photo shrank before the cut
    assert load((tmp_path / "a.png").read_bytes(), fixed).size == (341, 256)


def test_training_views_are_cut_and_mirrored_at_random(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], (280, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    photos, labels = [Photo("a", str(tmp_path / "a.png"), "t")], np.zeros(1, np.int64)
    seen = shaken(photos, labels, View(224, None, normalised=False)).pick(
        np.random.default_rng(0), np.zeros(200, np.int64)
    )
    mirrored = seen[:, 0, 0, 0] > seen[:, 0, 0, -1]
    assert 0.35 < mirrored.float().mean() < 0.65
    lefts = seen[~mirrored][:, 0, 0, 0]
    assert lefts.min() < 0.05 * 255
    assert lefts.max() > 0.2 * 255
    assert Image.open(
        io.BytesIO(grid(shaken(photos * 40, np.zeros(40, np.int64), View(64, None, normalised=False))))
    ).size == (8 * 96, 4 * 96)


def test_a_photo_smaller_than_the_cut_is_enlarged() -> None:
    assert cut(Image.new("RGB", (100, 60)), 224).shape == (224, 224, 3)


def test_the_studys_network_has_its_shapes_its_parameters_and_its_first_weights() -> None:
    whole = LogoCNN(33)
    assert sum(parameter.numel() for parameter in whole.parameters()) == 79_278_433
    shapes, seen = [], torch.zeros(1, 3, 224, 224)
    for layer in whole:
        seen = layer(seen).detach()
        if not isinstance(layer, nn.ReLU):
            shapes.append(tuple(seen.shape[1:]))
    assert shapes == [(96, 54, 54), (96, 26, 26), (192, 22, 22), (192, 10, 10), (19200,), (4096,), (33,)]
    small = LogoCNN(5, 72, 16)
    first = small[0]
    assert isinstance(first, nn.Conv2d)
    bound = (2.24 / ((3 * 121 + 96 * 121) / 2)) ** 0.5
    assert 0.98 * bound < float(first.weight.detach().abs().max()) <= bound
    assert first.bias is not None
    assert not first.bias.any()
    with pytest.raises(ValueError, match="too few"):
        LogoCNN(5, 66)
    published = Settings()
    assert (published.px, published.epochs, published.batch, published.hidden) == (224, 20, 40, 4096)
    plan = plan_of(published, 0, "net")
    optimiser = plan.optimiser(small.parameters())
    assert isinstance(optimiser, torch.optim.SGD)
    expected = {"lr": 0.01, "weight_decay": 1e-3, "momentum": 0, "nesterov": False}
    assert expected.items() <= optimiser.param_groups[0].items()
    assert (plan.epochs, plan.batch, plan.train_after) == (20, 40, True)


def test_raw_pixels_make_the_first_loss_of_the_studys_network_large_and_normalised_ones_do_not(data: Path) -> None:
    logos = read(data, 0, 2, QUIET)
    net = seeded(0, lambda: LogoCNN(33, 72, 64))
    losses = {}
    for as_published in (True, False):
        view = view_of(72, 80, 2, as_published=as_published)
        seen = centred(logos.of(VAL), logos.labels_of(VAL), view)
        with torch.no_grad():
            logits = net(seen.pick(np.random.default_rng(0), np.arange(len(seen))))
        losses[as_published] = float(nn.functional.cross_entropy(logits, torch.from_numpy(seen.labels)))
    assert losses[True] > 10  # at 224 pixels near 50, as the article prints
    assert losses[False] == pytest.approx(np.log(33), abs=0.5)


def test_as_published_transfer_begins_with_a_batch_norm_of_the_pixels() -> None:
    options = replace(training()[1], as_published=True)
    net = network(VARIANTS["transfer"], training()[0], options, 3)
    assert isinstance(net, DataNorm)
    assert not list(net.norm.parameters())
    raw = torch.randint(0, 256, (4, 3, 72, 72)).float()
    assert torch.allclose(net.eval()(raw), net.net(normalise(raw)), atol=1e-3)
    before = net.norm.running_mean.clone()  # type: ignore[union-attr]
    net.train()(raw)
    assert not torch.equal(before, net.norm.running_mean)  # type: ignore[arg-type]
    assert not isinstance(network(VARIANTS["transfer"], *training(), 3), DataNorm)


def test_the_new_output_layer_begins_with_the_studys_xavier_weights() -> None:
    for as_published in (True, False):
        options = replace(training()[1], as_published=as_published)
        net = network(VARIANTS["transfer"], training()[0], options, 33)
        _, layer = head_of(net)
        assert isinstance(layer, nn.Linear)
        bound = (2.24 / ((layer.in_features + 33) / 2)) ** 0.5
        assert 0.98 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert not layer.bias.detach().any()


def test_accuracy_on_train_is_evaluated_after_the_epoch(tmp_path: Path) -> None:
    sets = {TRAIN: squares(40, 1), VAL: squares(21, 2), TEST: squares(21, 3)}
    trained = train(VARIANTS["baseline"], *training(tmp_path, epochs=1), sets, tmp_path, QUIET)
    right = float((logits_of(trained.net, sets[TRAIN]).argmax(1).numpy() == sets[TRAIN].labels).mean())
    assert trained.fitted.epochs[0].accuracy[TRAIN] == pytest.approx(right)


def test_epochs_of_both_networks_and_single_photos_before_and_after_transfer_are_on_the_page(
    ran: tuple[Options, Result],
) -> None:
    tables = ran[1].tables
    for title in ("Baseline CNN, by epoch", "Transfer, all parameters, by epoch"):
        assert tables[title].header == ("epoch", "loss", "train", "val", "test", "seconds")
        assert len(tables[title].rows) == 1
    (title,) = [title for title in tables if title.startswith("Single photos")]
    assert [row[0] for row in tables[title].rows] == ["adidas", "aldi", "apple", "becks"]
    for row in tables[title].rows:
        for answer, own in (row[1:3], row[3:5]):
            said, _, label = answer.removeprefix("With prob=").partition(", ")
            assert 0 <= float(own) <= float(said) <= 1
            assert (float(own) == float(said)) == (label == row[0])
    assert sum("as the networks see them" in caption for caption in ran[1].photos) == 1


def test_the_articles_two_brands_are_taken_where_the_data_have_them() -> None:
    names = ("adidas", "bmw", "fosters", NO_LOGO)
    photos = tuple(Photo(f"{name}{n}", name, "t", label=name, split=TEST) for name in names for n in (0, 1))
    shares = {"baseline": np.full((8, 4), 0.25), "transfer": np.tile([0.1, 0.6, 0.2, 0.1], (8, 1))}
    trained: Any = {name: SimpleNamespace(probabilities=values) for name, values in shares.items()}
    found = examples_of(LabelledPhotos(photos, names, "", ()), trained)
    assert [example.photo.id for example in found] == ["bmw0", "fosters0"]
    figures = {name: figure.value for name, figure in figures_of(found).items()}
    assert figures == {
        "BMW photo, probability before transfer": 0.25,
        "BMW photo, probability after transfer": 0.6,
        "Foster's photo, probability before transfer": 0.25,
        "Foster's photo, probability after transfer": pytest.approx(0.2),
    }
    published = {figure.figure: figure.value for figure in STUDY.published}
    assert set(figures) < set(published)
    assert published["BMW photo, probability after transfer"] == 0.983
    assert published["Foster's photo, probability after transfer"] == 0.498


def test_each_epoch_prints_loss_accuracies_and_time(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    sets = {TRAIN: squares(40, 1), VAL: squares(21, 2), TEST: squares(21, 3)}
    train(VARIANTS["baseline"], *training(tmp_path), sets, tmp_path, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 2
    for word in ("baseline: epoch 1: loss ", "train ", "val ", "test ", " s"):
        assert word in lines[0]


def test_only_the_best_checkpoint_is_kept_and_it_loads(tmp_path: Path) -> None:
    sets = {TRAIN: squares(40, 1), VAL: squares(21, 2), TEST: squares(21, 3)}
    trained = train(VARIANTS["baseline"], *training(tmp_path, epochs=4, rate=0.004), sets, tmp_path, QUIET)
    assert trained.fitted.best.number > 1
    assert [path.name for path in tmp_path.iterdir()] == [f"baseline-{trained.fitted.best.number}.pt"]
    again = network(VARIANTS["baseline"], *training(), 3)
    again.load_state_dict(torch.load(trained.fitted.file, weights_only=True))
    assert trained.scores[VAL].accuracy.value == pytest.approx(trained.fitted.best.accuracy[VAL])
    first = [epoch.accuracy[VAL] for epoch in trained.fitted.epochs]
    assert trained.fitted.best.number == 1 + first.index(max(first))


def test_head_only_trains_the_last_layer_and_the_other_variant_all(tmp_path: Path) -> None:
    sets = {TRAIN: squares(24, 1), VAL: squares(9, 2), TEST: squares(9, 3)}
    moved = {}
    for name in ("head", "transfer"):
        start = network(VARIANTS[name], *training(), 3).state_dict()
        trained = train(VARIANTS[name], *training(tmp_path, epochs=1), sets, tmp_path, QUIET)
        moved[name] = {
            key for key, value in trained.net.state_dict().items() if not torch.equal(value.cpu(), start[key])
        }
    assert moved["head"] == {"head.weight", "head.bias"}
    assert moved["transfer"] == set(start)
    assert network(VARIANTS["head"], *training(transfer="timm/resnetv2_18"), 33)(torch.zeros(1, 3, 64, 64)).shape == (
        1,
        33,
    )


def test_classify_logo_names_the_brand_of_a_file_and_of_a_url_that_is_opted_in(
    ran: tuple[Options, Result], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ran[0].cache / "flickrlogos32" / "classifier.pt"
    classifier = read_classifier(model)
    photo = next((data / "classes/jpg/adidas").iterdir())
    answer = classify_logo(str(photo), classifier)
    with torch.no_grad():
        planes = torch.from_numpy(cut(load(photo.read_bytes(), classifier.view), classifier.view.px).copy())
        seen = classifier.view.tensor(planes.permute(2, 0, 1)[None])
        assert answer.probability == pytest.approx(float(torch.softmax(classifier.net(seen), 1).max()))
    assert answer.label in classifier.labels
    assert answer.line == f"With prob={answer.probability:.4f}, {answer.label}"
    with file_host(photo=photo.read_bytes(), text=b"no photo") as host:
        with pytest.raises(DataError, match="--allow-url"):
            classify_logo(host.url("/photo"), classifier)
        assert host.requests == []
        assert classify_logo(host.url("/photo"), classifier, Limits()) == answer
        with pytest.raises(Unreadable, match="more than"):
            classify_logo(host.url("/photo"), classifier, Limits(most_bytes=100))
        host.trouble("/photo", "hang")
        with pytest.raises(Unreadable, match="timed out"):
            classify_logo(host.url("/photo"), classifier, Limits(timeout_s=0.2))
        with pytest.raises(Unreadable):
            classify_logo(host.url("/text"), classifier, Limits())
    with pytest.raises(SystemExit) as ended:
        app(["classify-logo", str(model), str(photo)])
    assert ended.value.code == 0
    assert f'"brand": "{answer.label}"' in capsys.readouterr().out


def test_a_file_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "x.pt")
    with pytest.raises(RunError, match="not a classifier"):
        read_classifier(tmp_path / "x.pt")


def test_both_remedies_stand_in_the_table_of_all_variants(ran: tuple[Options, Result]) -> None:
    table = ran[1].tables["All variants (95 % intervals)"]
    titles = [row[0] for row in table.rows]
    assert titles[:5] == [
        "always no-logo",
        "baseline CNN",
        "transfer, last layer only",
        "transfer, all parameters",
        "transfer, weighted loss",
    ]
    assert titles[5].startswith("transfer, trained without no-logo, low scores rejected below ")


def test_weights_make_every_label_count_alike() -> None:
    weights = label_weights(np.array([0, 1, 1, 1, 2, 2]), 4)
    assert weights.tolist() == pytest.approx([2, 2 / 3, 1, 0])


def test_a_low_score_among_the_brands_is_no_logo() -> None:
    shares = np.array([[0.4, 0.1, 0.5], [0.2, 0.25, 0.55], [0.05, 0.0, 0.95]])
    assert rejecting(shares, 0.6).tolist() == [0, 2, 0]
    assert best_threshold(shares, np.array([0, 2, 0])) == pytest.approx(0.56)
    assert rejecting(shares, 1.01).tolist() == [2, 2, 2]


def test_without_no_logo_training_never_sees_one(tmp_path: Path) -> None:
    seen: list[int] = []
    plain = squares(40, 1)

    def pick(rng: np.random.Generator, indices: np.ndarray) -> torch.Tensor:
        seen.extend(plain.labels[indices].tolist())
        return plain.pick(rng, indices)

    sets = {TRAIN: Pictures(pick, plain.labels), VAL: squares(21, 2), TEST: squares(21, 3)}
    trained = train(VARIANTS["without"], *training(tmp_path, epochs=3), sets, tmp_path, QUIET)
    assert set(seen) == {0, 1}
    assert trained.threshold is not None


def test_a_score_counts_what_most_photos_hide() -> None:
    labels = np.array([2] * 6 + [0, 1])
    blind = score(np.full(8, 2), labels, 2)
    assert (blind.accuracy.value, blind.logo_recall.value, blind.false_positives.value) == (0.75, 0.0, 0.0)
    guessing = score(np.array([0, 2, 2, 2, 2, 2, 0, 0]), labels, 2)
    assert guessing.logo_recall.value == 0.5
    assert guessing.false_positives.value == pytest.approx(1 / 6)


def test_the_page_shows_published_figures_beside_the_baseline_and_logo_recall(ran: tuple[Options, Result]) -> None:
    options, result = ran
    rows = {row[0]: row for row in page.beside(STUDY, options, result)}
    assert [rows[f"{name}, {split} accuracy"][1] for name in ("baseline CNN", "transfer") for split in (VAL, TEST)] == [
        "0.610", "0.760", "0.750", "0.840",
    ]  # fmt: skip
    assert rows["always no-logo, test accuracy"][1] == "0.758"
    assert rows["always no-logo, test accuracy"][2] == f"{100 / 140:.3f}"
    header = result.tables["All variants (95 % intervals)"].header
    assert header[2:5] == ("test accuracy", "logo recall", "false positives")
    text = page.markdown(STUDY, options, result)
    assert "made by code" in text
    assert "mean nothing" in text
    assert sum(len(body) for body in (*result.pictures.values(), *result.photos.values())) < 300_000
    assert [claim.said for claim in result.claims if claim.said.startswith("transfer learning is more accurate")]


def test_as_published_every_parameter_is_trained_and_photos_are_not_resized(data: Path, tmp_path: Path) -> None:
    chosen = {"epochs": 1, "variants": ["head"]}
    options = Options(data, tmp_path / "out", tmp_path, as_published=True, quick=True, overrides=chosen)
    result = STUDY.run(options, QUIET)
    cells = result.tables["All variants (95 % intervals)"].rows[1]
    whole = sum(p.numel() for p in network(VARIANTS["transfer"], *training(), 5).parameters())
    assert cells[5] == f"{whole:,}"
    assert any("raw photo, of 0 to 255" in note for note in result.notes)
    classifier = read_classifier(tmp_path / "flickrlogos32" / "classifier.pt")
    assert isinstance(classifier.net, DataNorm)
    assert classify_logo(str(next((data / "classes/jpg/adidas").iterdir())), classifier).label in classifier.labels
    with pytest.raises(RecipeError, match="unknown variant nothing"):
        STUDY.run(replace(options, overrides={"variants": ["nothing"]}), QUIET)
