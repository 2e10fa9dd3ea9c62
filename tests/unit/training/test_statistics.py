"""Statistics agree with scikit-learn and SciPy, and intervals cover what they claim."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from training import statistics as own

RNG = np.random.default_rng


def scores_and_flags(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(seed)
    scores = np.round(rng.random(count), 2)
    return scores, rng.random(count) < 0.2 + 0.6 * scores


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rank_figures_equal_the_references_with_ties(seed: int) -> None:
    scores, positive = scores_and_flags(seed)
    other = np.round(scores + RNG(seed + 1).normal(size=len(scores)), 1)
    assert own.area_under_roc(scores, positive) == pytest.approx(oracle.roc_auc_score(positive, scores))
    assert own.average_precision(scores, positive) == pytest.approx(oracle.average_precision_score(positive, scores))
    assert own.rank_correlation(scores, other) == pytest.approx(stats.spearmanr(scores, other).statistic)
    assert own.linear_correlation(scores, other) == pytest.approx(stats.pearsonr(scores, other).statistic)


def test_precision_and_recall_equal_the_reference() -> None:
    scores, positive = scores_and_flags(3)
    precision, recall, thresholds = own.precision_recall(scores, positive)
    expected = oracle.precision_recall_curve(positive, scores)
    assert np.allclose(precision, expected[0][:-1][::-1])
    assert np.allclose(recall, expected[1][:-1][::-1])
    assert np.allclose(thresholds, expected[2][::-1])


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 5000), part=st.floats(0, 1))
def test_wilson_equals_scipys(total: int, part: float) -> None:
    hits = round(total * part)
    expected = stats.binomtest(hits, total).proportion_ci(0.95, method="wilson")
    found = own.wilson(hits, total)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_nothing_seen_means_nothing_known() -> None:
    assert own.wilson(0, 0) == own.Interval(0.0, 1.0)
    assert math.isnan(own.area_under_roc(np.array([0.5]), np.array([True])))
    assert math.isnan(own.rank_correlation(np.ones(5), np.arange(5.0)))
    assert math.isnan(own.average_precision(np.array([0.5]), np.array([False])))


def test_losses_equal_the_references() -> None:
    rng = RNG(0)
    logits, labels = rng.normal(size=(300, 4)), rng.integers(4, size=300)
    probabilities = own.softmax(logits)
    assert own.log_loss(logits, labels) == pytest.approx(oracle.log_loss(labels, probabilities))
    binary = np.stack((1 - probabilities[:, 0], probabilities[:, 0]), 1)
    positive = (labels == 0).astype(np.int64)
    # scikit-learn's is of the positive class alone: half of the sum over both
    assert own.brier(binary, positive) / 2 == pytest.approx(oracle.brier_score_loss(positive, binary[:, 1]))


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_is_the_one_that_made_the_labels(true: float) -> None:
    rng = RNG(1)
    logits = rng.normal(size=(20_000, 5)) * 2
    shares = own.softmax(logits, true)
    labels = (shares.cumsum(1) > rng.random((len(logits), 1))).argmax(1)
    assert own.fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize(("photos", "sure"), [(100, 0.99), (1000, 0.999)])
def test_photos_without_an_error_make_nobody_surer_than_their_number_allows(photos: int, sure: float) -> None:
    labels = np.arange(photos) % 4
    found = own.fit_temperature(np.eye(4)[labels] * 3, labels)
    assert own.softmax(np.array([[3.0, 0, 0, 0]]), found)[0, 0] == pytest.approx(sure, abs=(1 - sure) / 2)


def test_calibration_error_is_the_gap_between_promise_and_truth() -> None:
    rng = RNG(2)
    confidence = rng.uniform(0.5, 1, 50_000)
    honest = rng.random(50_000) < confidence
    boastful = rng.random(50_000) < confidence - 0.2
    assert own.reliability(confidence, honest).error < 0.01
    assert own.reliability(confidence, boastful).error == pytest.approx(0.2, abs=0.01)
    diagram = own.reliability(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]))
    assert diagram.counts.sum() == 3
    assert diagram.counts[-1] == 2
    assert diagram.accuracy[-1] == 0.5


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(120):
        sample = RNG(seed).normal(size=60)
        found = own.bootstrap(
            lambda which, sample=sample: {"mean": float(sample[which].mean())}, np.full(60, ""), 200, seed
        )["mean"]
        covered += found.low <= 0 <= found.high
    assert 0.87 <= covered / 120 <= 1


def test_photos_of_one_group_are_drawn_together() -> None:
    groups = np.array(["a", "a", "a", "b", "", ""])
    for drawn in own.draws(groups, 50):
        counts = np.bincount(drawn, minlength=6)
        assert counts[0] == counts[1] == counts[2]
    widths = []
    values = np.repeat(RNG(0).normal(size=40), 10)
    for names in (np.repeat(np.arange(40).astype(str), 10), np.full(400, "")):
        found = own.bootstrap(lambda which: {"mean": float(values[which].mean())}, names, 300)["mean"]
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1]


def test_a_value_that_a_sample_cannot_have_is_left_out_of_its_interval() -> None:
    values = np.array([1.0, 1.0, np.nan])
    found = own.bootstrap(lambda which: {"first": float(values[which[0]])}, np.full(3, ""), 100)["first"]
    assert found == own.Interval(1.0, 1.0)
