"""Frozen layers turn batches into features beside the training thread. Where a head alone is trained, steps reuse them.

A step of a head takes a millisecond, on photos a second.
"""

import math
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Final, Self

import torch
from rich.console import Console
from torch import Tensor, nn

from training.models.efficientnet_lite import EfficientNetLite
from training.models.head import Head
from training.models.networks import Renormalised, head_of, trunk
from training.models.served import deployable, normalised
from training.progress import task
from training.recipes.recipe import Recipe
from training.runs.feed import Batch, Feed, ValidationSet, ahead
from training.runs.sampling import shuffled

#: Features that would take more are computed anew in every step.
_MOST_BYTES: Final = 1 << 30
_AT_ONCE: Final = 128
#: Photos that go through the layers together; more of them do not fit into a CPU's cache, which halves the speed.
_IN_CACHE: Final = 16


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

    def features(self, images: Tensor) -> Tensor:
        """Features float32 [N, F] of photos as `normalised` takes them; of the layers as they will be served."""
        device = next(self._served.parameters()).device
        return _features(self._served, images, device, bf16=self._bf16)

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


class FrozenStages:
    """The first stages of an EfficientNet-Lite, on a CPU, where the threads that make batches can put photos through.

    Most networks on GPUs wait for photos, not for their first stages.
    """

    def __init__(self, net: Renormalised, *, bf16: bool) -> None:
        self._served, self._bf16 = deployable(net), bf16

    @classmethod
    def of(cls, net: nn.Module, *, bf16: bool) -> Self | None:
        """Those of a network; None if it has none, or is not on a CPU."""
        if isinstance(net, Renormalised) and isinstance(net.net, EfficientNetLite) and net.net.frozen:
            return cls(net, bf16=bf16) if next(net.parameters()).device.type == "cpu" else None
        return None

    def features(self, images: Tensor) -> Tensor:
        """Rows float32 [N, F] that the network takes in place of photos; of the layers as they will be served."""
        return _features(self._served.below, images, torch.device("cpu"), bf16=self._bf16)


@torch.no_grad()
def _features(layers: Callable[[Tensor], Tensor], images: Tensor, device: torch.device, *, bf16: bool) -> Tensor:
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return torch.cat([layers(normalised(part, device)).float() for part in torch.split(images, _IN_CACHE)])


class FeatureFeed:
    """Batches of features. Of a head, those of the first `train.views` rounds come again, in another order.

    In the same batches they would learn less: the norm before the head gives each batch statistics of its own.
    """

    def __init__(self, feed: Feed, frozen: Frozen | FrozenStages, recipe: Recipe) -> None:
        self._feed, self._frozen, self._makers = feed, frozen, recipe.data.makers
        stages = (recipe.train, *([recipe.train.second] if recipe.train.second else []))
        steps, own = sum(stage.steps for stage in stages), feed.steps_of_round
        batches = steps if own is None else min(steps, math.ceil(recipe.train.views * own))
        again = isinstance(frozen, Frozen) and batches * recipe.train.batch * frozen.width * 4 <= _MOST_BYTES
        self._distinct = batches if again else steps
        self._seed = (recipe.seed, feed.rank)
        #: The batches of the first rounds, where they are needed again.
        self._kept: dict[int, Batch] = {}
        self._locks = [Lock() for _ in range(self._distinct)] if self._distinct < steps else []

    def batch(self, step: int) -> Batch:
        """Features and targets of a step, counted from 0 over all stages."""
        if not self._locks:
            return self._made(step)
        if step < self._distinct:
            return self._first(step)
        turn, place = divmod(step, self._distinct)
        size = len(self._first(0)[0])  # of every batch
        order = shuffled(self._distinct * size, (*self._seed, turn))
        rows = [divmod(int(row), size) for row in order[place * size : (place + 1) * size]]
        found = [(self._first(at), row) for at, row in rows]
        return Batch(*(torch.stack([batch[part][row] for batch, row in found]) for part in range(len(Batch._fields))))

    def _first(self, place: int) -> Batch:
        with self._locks[place]:  # makers of later batches may need it while it is made
            if place not in self._kept:
                self._kept[place] = self._made(place)
            return self._kept[place]

    def _made(self, step: int) -> Batch:
        made = self._feed.batch(step)
        return made._replace(images=self._frozen.features(made.images))

    def ahead(self, first: int, last: int) -> Iterator[Batch]:
        """As `Feed.ahead`."""
        return ahead(self.batch, self._makers, first, last)
