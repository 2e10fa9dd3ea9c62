"""Losses over target distributions [N, outputs]: cross-entropy for brands, the earth mover's distance for quality."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from training.data.photos import LEVELS
from training.models.head import lowered
from training.recipes.recipe import Loss

#: Of what a network made [N, outputs] or more, the targets [N, outputs], and which photos are damaged copies [N].
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


def objective(task: str, loss: Loss) -> Objective:
    """The loss of a task, in float32: the mean over the batch."""

    def of(made: Tensor, targets: Tensor, copies: Tensor) -> Tensor:
        if task == "brand":
            return functional.cross_entropy(made, targets, label_smoothing=loss.label_smoothing)
        if made.shape[1] > targets.shape[1]:
            return _loss_of_parts(made, targets, copies, loss)
        return quality_loss(made, targets, loss.cross_entropy)

    return of


def _loss_of_parts(made: Tensor, targets: Tensor, copies: Tensor, loss: Loss) -> Tensor:
    """Of a head in two parts (`Head`): opinions [N, outputs], and by how much damage lowers them, the last column.

    Undamaged photos teach the opinion, and that nothing lowers it. Copies teach what lowers it, and with a share of
    their gradient the opinion: the rating of a copy is none that people gave. Both kinds count alike, however many
    there are of each.
    """
    opinion, lowers = made[:, :-1], made[:, -1:]
    total, whole = made.new_zeros(()), ~copies
    if bool(whole.any()):
        total = total + quality_loss(opinion[whole], targets[whole], loss.cross_entropy)
        total = total + loss.undamaged * lowers[whole].square().mean()
    if bool(copies.any()):
        taught = torch.lerp(opinion.detach(), opinion, loss.copies)
        total = total + quality_loss(lowered(taught, lowers)[copies], targets[copies], loss.cross_entropy)
    return total


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
