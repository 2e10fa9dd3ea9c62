"""Metrics against scikit-learn, threshold rules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from training.data.sets import NO_LOGO_INDEX, Batch, Origin
from training.evaluate import (
    BrandTarget,
    area_under_roc,
    brand_metrics,
    brand_threshold,
    fit_temperature,
    good_threshold,
    quality_scores,
    rank_correlation,
    wilson_lower,
)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=4, max_size=60))
def test_auc_is_scikit_learns(pairs: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([float(score) for score, _ in pairs])
    positive = torch.tensor([flag for _, flag in pairs])
    if positive.all() or not positive.any():
        return
    assert area_under_roc(scores, positive) == pytest.approx(roc_auc_score(positive.numpy(), scores.numpy()))


def test_rank_correlation_sees_order_only() -> None:
    values = torch.tensor([1.0, 5.0, 2.0, 9.0])
    assert rank_correlation(values, values.exp()) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)


@given(total=st.integers(1, 500), data=st.data())
def test_wilsons_bound_lies_under_the_share_and_above_zero(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    assert -1e-9 <= wilson_lower(hits, total) <= hits / total + 1e-9


def test_temperature_undoes_overconfidence() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4000, 5)
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.1)


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_a_brand_threshold_holds_its_target_or_is_the_highest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = torch.from_numpy(rng.dirichlet(np.full(NO_LOGO_INDEX + 1, 0.2), 300)).float()
    origins = torch.from_numpy(rng.integers(0, 3, 300))
    labels = torch.where(origins == Origin.BRAND, probabilities[:, :NO_LOGO_INDEX].argmax(1), NO_LOGO_INDEX)
    target = BrandTarget(precision=0.6, clean_rate=0.05)
    threshold = brand_threshold(probabilities, labels, origins, target)
    metrics = brand_metrics(probabilities, Batch(torch.empty(300), labels, origins), threshold)
    held = metrics["tagged_fpr_clean"] <= target.clean_rate + 1e-4 and metrics["tagged_precision"] >= target.precision
    assert held or threshold == target.highest


def test_always_no_logo_is_reported_as_the_baseline_that_it_is() -> None:
    labels = torch.tensor([0, NO_LOGO_INDEX, NO_LOGO_INDEX, NO_LOGO_INDEX])
    never = torch.zeros(4, NO_LOGO_INDEX + 1)
    never[:, -1] = 1
    metrics = brand_metrics(never, Batch(torch.empty(4), labels, torch.tensor([0, 1, 2, 2])), 0.5)
    assert metrics["accuracy"] == metrics["accuracy_always_no_logo"] == 0.75
    assert metrics["macro_recall"] == 0


def test_scores_run_from_zero_to_one_and_the_good_threshold_splits_them() -> None:
    scores = quality_scores(torch.eye(5))
    assert scores.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert 0.25 < good_threshold(scores, torch.arange(1, 6)) <= 0.75
