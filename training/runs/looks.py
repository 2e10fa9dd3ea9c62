"""How alike photos look to a network that was trained on ImageNet, which tells whether they show one scene."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from rich.console import Console

from training.data.decode import Geometry
from training.data.photos import Photo
from training.data.pixels import cached_stack
from training.data.scenes import Features
from training.models.networks import build, trunk
from training.models.served import normalised
from training.progress import task
from training.recipes.recipe import Model, Recipe

_NETWORK: Final = Model(arch="efficientnet_lite0-blocks11", pretrained="package", input_px=96)
_AT_ONCE: Final = 16


def looks(recipe: Recipe, console: Console) -> Features | None:
    """Features of photos for `data.split.scenes: look`; None where the recipe does not compare looks."""
    return (lambda photos: _features(photos, recipe, console)) if "look" in recipe.data.split.scenes else None


@torch.no_grad()
def _features(photos: Sequence[Photo], recipe: Recipe, console: Console) -> np.ndarray:
    torch.set_num_threads(recipe.train.threads)
    net, px, data = trunk(build(_NETWORK, 1)).eval(), _NETWORK.input_px, recipe.data
    with task(console, "photos decoded", len(photos)) as done:
        images = cached_stack(photos, Geometry(px, px), data.workers, data.cache, done)
    with task(console, "photos compared", len(photos)) as done:
        parts = []
        for part in torch.split(images, _AT_ONCE):
            parts.append(net(normalised(part, torch.device("cpu"))).numpy())
            done(len(part))
    return np.concatenate(parts)
