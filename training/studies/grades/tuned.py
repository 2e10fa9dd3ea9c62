"""Fine-tuning all of a network for poor against good: Adam at 1e-3, then RMSprop at 1e-5 from its best weights."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from training.data.decode import Geometry
from training.data.manifest import Manifest
from training.data.photos import SPLITS, TEST, TRAIN
from training.data.pixels import cached_stack
from training.models.networks import build, natural_px
from training.models.served import normalise
from training.recipes.recipe import Model
from training.statistics import Ints
from training.studies.fit import Fitted, Pick, Pictures, Plan, cross_entropy, decided, device_here, fit, logits_of
from training.studies.grades.frozen import SIDES, collapsed
from training.studies.rated import balanced, sides
from training.studies.study import Options

#: The study's two stages.
FIRST_RATE, SECOND_RATE = 1e-3, 1e-5


@dataclass(frozen=True, slots=True)
class Budget:
    """How long, and on what."""

    arch: str
    px: int
    batch: int
    #: Of each stage.
    epochs: int
    workers: int


def pictures_of(manifest: Manifest, px: int, seed: int, workers: int, cache: Path) -> dict[str, Pictures]:
    """Poor and good photos of every split as a network takes them; training is balanced, the rest stays whole."""
    made = {}
    for split in SPLITS:
        photos = manifest.of(split)
        which, values = sides(photos)
        if split == TRAIN:
            chosen = balanced(values.tolist(), seed)
            which, values = which[chosen], values[chosen]
        pixels = cached_stack([photos[index] for index in which], Geometry(px, px), workers, cache)
        made[split] = Pictures(_picker(pixels), values)
    return made


def _picker(pixels: Tensor) -> Pick:
    def pick(_rng: np.random.Generator, indices: Ints) -> Tensor:
        return normalise(pixels[torch.from_numpy(indices)])

    return pick


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage, and the sides that its best weights never say of test photos: it collapsed."""

    fitted: Fitted
    never: tuple[str, ...]


def tune(manifest: Manifest, budget: Budget, options: Options, folder: Path, console: Console) -> tuple[Stage, Stage]:
    """Trains both stages; the second starts at the first's best weights.

    Raises:
        WeightsError: The weights do not fit or cannot be had.
        RecipeError: No such network.
    """
    model = Model(
        arch=budget.arch,
        weights=options.weights.get(budget.arch),
        pretrained=options.pretrained and budget.arch not in options.weights,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        net = build(model, 2)
    px = budget.px or natural_px(budget.arch)
    pictures = pictures_of(manifest, px, options.seed, budget.workers, options.cache)
    first = Plan(
        epochs=budget.epochs,
        batch=budget.batch,
        optimiser=lambda parameters: torch.optim.Adam(parameters, FIRST_RATE),
        loss=cross_entropy(),
        seed=options.seed,
        device=device_here(),
        name="adam",
    )
    second = replace(first, optimiser=lambda parameters: torch.optim.RMSprop(parameters, SECOND_RATE), name="rmsprop")

    def stage(plan: Plan) -> Stage:
        fitted = fit(net, pictures, plan, folder, console)
        said = decided(logits_of(net, pictures[TEST], plan.device)).numpy()
        return Stage(fitted, collapsed(pictures[TEST].labels, said, SIDES))

    return stage(first), stage(second)
