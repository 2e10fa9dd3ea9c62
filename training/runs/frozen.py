"""Training of a head alone: the frozen layers below it turn every batch into features once, and later steps reuse them.

A step on features takes a millisecond, on photos a second.
"""

import math
from collections.abc import Iterator
from typing import Final, Self

import torch
from rich.console import Console
from torch import Tensor, nn

from training.models.efficientnet_lite import Head
from training.models.networks import head_of, trunk
from training.models.served import deployable, normalised
from training.progress import task
from training.recipes.recipe import Recipe
from training.runs.feed import Batch, Feed, ValidationSet, ahead

#: Features that would take more are computed anew in every step.
_MOST_BYTES: Final = 1 << 30
_AT_ONCE: Final = 128


class Frozen:
    """A network in two: the layers that stay as they are, and the head that is trained on their features."""

    def __init__(self, name: str, head: nn.Linear, below: nn.Module, *, bf16: bool) -> None:
        self.name, self.head, self.below = name, head, below
        self._served, self._bf16 = deployable(below), bf16
        #: Width of the features.
        self.width = head.inputs if isinstance(head, Head) else head.in_features

    @classmethod
    def of(cls, net: nn.Module, *, bf16: bool) -> Self | None:
        """Takes a network apart, in place; None if its last layer is a convolution, which takes no features."""
        name, head = head_of(net)
        if not isinstance(head, nn.Linear):
            return None
        return cls(name, head, trunk(net).eval().requires_grad_(requires_grad=False), bf16=bf16)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features float32 [N, F] of photos as `normalised` takes them; of the layers as they will be served."""
        device = next(self._served.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            made: Tensor = self._served(normalised(images, device))
        return made.float()

    def state(self, head: nn.Module) -> dict[str, Tensor]:
        """The state of the whole network with another head."""
        return {**self.below.state_dict(), **{f"{self.name}.{key}": v for key, v in head.state_dict().items()}}

    def validation(self, photos: ValidationSet, console: Console) -> ValidationSet:
        """A validation set as features."""
        with task(console, "features of validation photos", len(photos.images)) as done:
            parts = []
            for part in torch.split(photos.images, _AT_ONCE):
                parts.append(self.features(part))
                done(len(part))
        return ValidationSet(torch.cat(parts), photos.targets)


class FeatureFeed:
    """Batches of features; a step sees the photos that an earlier one saw, `train.views` rounds before."""

    def __init__(self, feed: Feed, frozen: Frozen, recipe: Recipe) -> None:
        self._feed, self._frozen, self._makers = feed, frozen, recipe.data.makers
        stages = (recipe.train, *([recipe.train.second] if recipe.train.second else []))
        steps, own = sum(stage.steps for stage in stages), feed.steps_of_round
        batches = steps if own is None else min(steps, math.ceil(recipe.train.views * own))
        fits = batches * recipe.train.batch * frozen.width * 4 <= _MOST_BYTES
        self._distinct = batches if fits else steps
        self._kept: dict[int, Batch] | None = {} if self._distinct < steps else None

    def batch(self, step: int) -> Batch:
        """Features [N, F] and targets of a step, counted from 0 over all stages."""
        place = step % self._distinct
        if self._kept is not None and place in self._kept:
            return self._kept[place]
        images, targets = self._feed.batch(place)
        made = self._frozen.features(images), targets
        if self._kept is not None:
            self._kept[place] = made
        return made

    def ahead(self, first: int, last: int) -> Iterator[Batch]:
        """As `Feed.ahead`."""
        return ahead(self.batch, self._makers, first, last)
