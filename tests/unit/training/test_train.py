"""The loop and its numbers: schedule, losses, repeatability, metrics against scikit-learn, threshold rules."""

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
    predict,
    quality_scores,
    rank_correlation,
    wilson_lower,
)
from training.models import ResNet10
from training.train import Recipe, fit, learning_rate, quality_loss


def toy_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Dark or bright noise, labelled so."""
    rng = torch.Generator().manual_seed(step)
    labels = torch.arange(16) % 2
    images = torch.randint(0, 100, (16, 3, 32, 32), generator=rng, dtype=torch.uint8)
    return images + (labels * 150).to(torch.uint8).view(-1, 1, 1, 1), labels


def toy_fit() -> torch.nn.Module:
    torch.manual_seed(0)
    loss = torch.nn.functional.cross_entropy
    return fit(ResNet10(2, (8, 8, 16, 16)), toy_batch, loss, Recipe(steps=25, peak_rate=1e-2, average=0.8))


def test_the_loop_learns_and_two_runs_agree() -> None:
    first, second = toy_fit(), toy_fit()
    weights = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(left, right) for left, right in weights)
    images, labels = toy_batch(1000)
    assert (predict(first, images).argmax(1) == labels).float().mean() > 0.9
    assert not first.training


def test_the_rate_warms_up_to_its_peak_and_ends_near_zero() -> None:
    recipe = Recipe(steps=100, peak_rate=1.0)
    rates = [learning_rate(step, recipe) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01


def test_a_miss_by_two_levels_costs_more_than_a_miss_by_one() -> None:
    labels = torch.tensor([4])
    costs = [
        float(quality_loss(torch.nn.functional.one_hot(torch.tensor([level]), 5) * 8.0, labels)) for level in range(5)
    ]
    assert costs == sorted(costs, reverse=True)


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


def test_a_net_too_narrow_for_the_processors_convolutions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        ResNet10(2, (4, 8, 8, 8))
