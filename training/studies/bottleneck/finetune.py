"""Fine-tuning with the study's values: a new last layer, SGD with much momentum, Keras' random changes."""

from pathlib import Path
from typing import Final

import torch
from torch import nn

from training.data.decode import Geometry
from training.data.photos import TRAIN, VAL
from training.data.pixels import cached_stack
from training.models.networks import build
from training.models.served import normalise
from training.recipes.recipe import Model
from training.statistics import Ints
from training.studies.affine import Affine, changed
from training.studies.bottleneck.data import Breeds
from training.studies.fit import Pictures, Plan, cross_entropy

CHANGES: Final = Affine(rotation_deg=30, shift=0.2, zoom=0.2, flip=True)
RATE, MOMENTUM = 1e-3, 0.99


def pictures(breeds: Breeds, px: int, cache: Path, workers: int) -> dict[str, Pictures]:
    """Both sides, decoded once; training photos are changed at random each time."""
    train, val = (cached_stack(breeds.of(split), Geometry(px, px), workers, cache) for split in (TRAIN, VAL))
    return {TRAIN: _changing(train, breeds.labels_of(TRAIN)), VAL: _still(val, breeds.labels_of(VAL))}


def _changing(stored: torch.Tensor, labels: Ints) -> Pictures:
    return Pictures(lambda rng, indices: changed(rng, normalise(stored[torch.from_numpy(indices)]), CHANGES), labels)


def _still(stored: torch.Tensor, labels: Ints) -> Pictures:
    return Pictures(lambda _rng, indices: normalise(stored[torch.from_numpy(indices)]), labels)


def plan_of(epochs: int, batch: int, seed: int, name: str) -> Plan:
    """The study's plan."""
    return Plan(
        epochs,
        batch,
        lambda weights: torch.optim.SGD(weights, RATE, momentum=MOMENTUM, nesterov=True),
        cross_entropy(),
        seed=seed,
        name=name,
    )


def network(model: Model, outputs: int, seed: int) -> nn.Module:
    """A network with a new last layer; `model.trainable` says whether the rest moves too.

    Raises:
        RecipeError: No such network.
        WeightsError: The weights do not fit or cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(model, outputs)
