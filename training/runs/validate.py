"""The validation metrics that select weights during training; `evaluation` makes the full report."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.statistics import rank_correlation


@dataclass(frozen=True, slots=True)
class Score:
    """Metrics on val; weights are selected by the highest `selected`."""

    selected: float
    values: dict[str, float]


def scores(task: str, logits: Tensor, targets: Tensor) -> Score:
    """Metrics of float32 logits and targets [N, outputs] on the CPU."""
    return _brand(logits, targets) if task == "brand" else _quality(logits, targets)


def _brand(logits: Tensor, targets: Tensor) -> Score:
    """Selects by the mean of accuracy and brand recall: accuracy alone would favour the most frequent label."""
    predicted, labels, no_logo = logits.argmax(1), targets.argmax(1), targets.shape[1] - 1
    recalls = [
        float((predicted == brand)[labels == brand].float().mean())
        for brand in sorted(set(labels.tolist()))
        if brand < no_logo
    ]
    accuracy = float((predicted == labels).float().mean())
    recall = sum(recalls) / max(1, len(recalls))
    clean = labels == no_logo
    wrong = float((predicted != no_logo)[clean].float().mean()) if bool(clean.any()) else 0.0
    values = {"accuracy": accuracy, "macro_recall": recall, "false_positives": wrong}
    return Score((accuracy + recall) / 2, _rounded(values))


def _quality(logits: Tensor, targets: Tensor) -> Score:
    steps = torch.linspace(0, 1, targets.shape[1])
    score, truth = torch.softmax(logits, 1) @ steps, targets @ steps
    rank = rank_correlation(score.double().numpy(), truth.double().numpy())
    exact = float((logits.argmax(1) == targets.argmax(1)).float().mean())
    miss = float((score - truth).abs().mean() * (targets.shape[1] - 1))
    selected = 0.0 if math.isnan(rank) else rank
    return Score(selected, _rounded({"srcc": selected, "accuracy": exact, "mean_miss": miss}))


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
