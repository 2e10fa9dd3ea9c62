"""The training loop: AdamW, warm-up and cosine by step, exponential moving average, clipping, bf16 where it helps.

Budgets are steps, never seconds, so that the same seed gives the same model on a slow machine and on a fast one.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models import normalise

#: Called with a step's index; returns uint8 images [N, 3, H, W] and int64 labels [N].
NextBatch = Callable[[int], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides a training run besides its data."""

    steps: int
    batch: int = 64
    peak_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1
    clip: float = 5.0
    average: float = 0.995
    seed: int = 0


def brand_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with a little smoothing, which keeps probabilities usable for a threshold."""
    return functional.cross_entropy(logits, labels, label_smoothing=0.05)


def quality_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared earth mover's distance between level distributions, and a small cross-entropy.

    The distance makes a miss by two levels cost more than a miss by one; the cross-entropy keeps the peak sharp.
    """
    steps = torch.softmax(logits, 1).cumsum(1) - functional.one_hot(labels, logits.shape[1]).cumsum(1)
    return steps.square().sum(1).mean() + 0.2 * functional.cross_entropy(logits, labels)


def learning_rate(step: int, recipe: Recipe) -> float:
    """The rate of a step, from 0: linear to the peak over `warm_up` of the steps, then a half cosine to 0."""
    warm = max(1, round(recipe.steps * recipe.warm_up))
    if step < warm:
        return recipe.peak_rate * (step + 1) / warm
    done = (step - warm) / max(1, recipe.steps - warm)
    return recipe.peak_rate * 0.5 * (1 + math.cos(math.pi * done))


def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively; elsewhere autocast would only slow it down."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _parameter_groups(net: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weights decay; norms and biases do not."""
    weights = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Moves the average's weights and norm statistics towards the net's."""
    for kept, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)


def _ahead(next_batch: NextBatch, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of all steps, each made by another thread while the step before it trains.

    One thread composes and one trains: on two shared cores that is faster than both in turn with two OpenMP threads.

    Yields:
        Images and labels of each step, in order.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next_batch, 0)
        for step in range(steps):
            batch = coming.result()
            if step + 1 < steps:
                coming = pool.submit(next_batch, step + 1)
            yield batch


def fit(
    net: Net, next_batch: NextBatch, loss: Loss, recipe: Recipe, on_step: Callable[[int], None] = lambda _n: None
) -> Net:
    """Trains `net` in place and returns the moving average of it, in evaluation mode.

    Args:
        net: Takes normalised float images, returns logits.
        next_batch: The data; all its randomness must come from its own seed.
        loss: Of logits and labels.
        recipe: Steps, rates and seed.
        on_step: Called after each step with the number of images seen in it.
    """
    torch.manual_seed(recipe.seed)
    net.train().to(memory_format=torch.channels_last)
    average = deepcopy(net)
    optimiser = torch.optim.AdamW(_parameter_groups(net, recipe.weight_decay), lr=recipe.peak_rate)
    bf16 = fast_bf16()
    for step, (images, labels) in enumerate(_ahead(next_batch, recipe.steps)):
        pixels = normalise(images).to(memory_format=torch.channels_last)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, recipe)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = net(pixels)
        objective = loss(logits.float(), labels)
        optimiser.zero_grad(set_to_none=True)
        objective.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        optimiser.step()
        _follow(average, net, min(recipe.average, (1 + step) / (10 + step)))
        on_step(len(labels))
    return average.eval()
