"""Losses over target distributions [N, outputs]: cross-entropy for brands, the earth mover's distance for quality."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from training.data.photos import LEVELS
from training.recipes.recipe import Loss


def objective(task: str, loss: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a task: float32 logits and targets [N, outputs] to the mean over the batch."""
    if task == "brand":
        return partial(functional.cross_entropy, label_smoothing=loss.label_smoothing)
    return partial(quality_loss, cross_entropy=loss.cross_entropy)


def quality_loss(logits: Tensor, targets: Tensor, cross_entropy: float) -> Tensor:
    """Squared earth mover's distance between level distributions, plus cross-entropy with a small weight.

    The distance makes an error of two levels cost more than an error of one; the cross-entropy keeps the peak sharp.
    """
    steps = torch.softmax(logits, 1).cumsum(1) - targets.cumsum(1)
    return steps.square().sum(1).mean() + cross_entropy * functional.cross_entropy(logits, targets)


def level_distribution(rating: float, votes: tuple[float, ...] | None) -> list[float]:
    """Shares of levels 1..5: the votes, or the rating's two neighbours, weighted so that the mean is the rating."""
    if votes is not None:
        return list(votes)
    shares = [0.0] * len(LEVELS)
    low = min(int(rating), LEVELS[-1] - 1)
    shares[low - 1], shares[low] = 1 - (rating - low), rating - low
    return shares
