"""Objectives over soft targets [N, outputs]: cross-entropy with its corrections, and the earth mover's distance."""

import torch
from torch import Tensor
from torch.nn import functional

from training.data.photos import LEVELS
from training.recipes.recipe import Loss


class BrandObjective:
    """Cross-entropy with label smoothing, label weights and logit adjustment by label frequency."""

    def __init__(self, loss: Loss, counts: Tensor) -> None:
        """Of a recipe's loss and the number of training photos of each label."""
        self._smoothing = loss.label_smoothing
        share = counts.clamp(min=1).float() / counts.clamp(min=1).sum()
        self._offset = loss.logit_adjustment * share.log()
        balanced = loss.class_weights == "balanced"
        self._weights = (1 / share / (1 / share).mean()) if balanced else torch.ones(len(counts))

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch; float32 logits and targets [N, labels]."""
        smooth = targets * (1 - self._smoothing) + self._smoothing / targets.shape[1]
        weighted = smooth * self._weights.to(logits.device)
        losses = -(weighted * functional.log_softmax(logits + self._offset.to(logits.device), 1)).sum(1)
        return losses.sum() / weighted.sum().clamp(min=1e-6)


class QualityObjective:
    """Squared earth mover's distance between level distributions, and a small cross-entropy.

    The distance makes a miss by two levels cost more than a miss by one; the cross-entropy keeps the peak sharp.
    """

    def __init__(self, loss: Loss) -> None:
        self._share = loss.cross_entropy

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch; float32 logits and targets [N, levels]."""
        steps = torch.softmax(logits, 1).cumsum(1) - targets.cumsum(1)
        entropy = -(targets * functional.log_softmax(logits, 1)).sum(1).mean()
        return steps.square().sum(1).mean() + self._share * entropy


def level_distribution(rating: float, votes: tuple[float, ...] | None) -> list[float]:
    """Shares of levels 1..5: the votes, or a rating laid between its two neighbours so that its mean is kept."""
    if votes is not None:
        return list(votes)
    shares = [0.0] * len(LEVELS)
    low = min(int(rating), LEVELS[-1] - 1)
    shares[low - 1], shares[low] = 1 - (rating - low), rating - low
    return shares
