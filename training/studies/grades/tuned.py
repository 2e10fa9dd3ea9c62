"""Fine-tuning a whole network for poor against good: Adam at 1e-3, then RMSprop at 1e-5 from its best weights."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from training.data.decode import Geometry
from training.data.manifest import Manifest
from training.data.photos import SPLITS, TEST, TRAIN
from training.data.pixels import cached_stack
from training.evaluation.brand import never_predicted
from training.models.networks import build, natural_px
from training.models.served import normalise
from training.studies.fit import (
    Fitted,
    Pictures,
    Plan,
    cross_entropy,
    decided,
    device_here,
    fit,
    in_memory,
    logits_of,
    model_of,
    seeded,
)
from training.studies.grades.frozen import SIDES
from training.studies.rated import balanced, sides
from training.studies.study import Options

#: The study's two stages.
FIRST_RATE, SECOND_RATE = 1e-3, 1e-5


@dataclass(frozen=True, slots=True)
class Budget:
    """Network, input size (0: what it was designed for), batch, and epochs of each stage."""

    arch: str
    px: int
    batch: int
    epochs: int
    workers: int


def pictures_of(manifest: Manifest, px: int, seed: int, workers: int, cache: Path) -> dict[str, Pictures]:
    """Poor and good photos of every split as a network takes them; training is balanced, val and test are not."""
    made = {}
    for split in SPLITS:
        photos = manifest.of(split)
        which, values = sides(photos)
        if split == TRAIN:
            chosen = balanced(values.tolist(), seed)
            which, values = which[chosen], values[chosen]
        pixels = cached_stack([photos[index] for index in which], Geometry(px, px), workers, cache)
        made[split] = in_memory(pixels, values, normalise)
    return made


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage, and the classes that its best weights never predict for test photos: it collapsed."""

    fitted: Fitted
    never: tuple[str, ...]


def tune(manifest: Manifest, budget: Budget, options: Options, folder: Path, console: Console) -> tuple[Stage, Stage]:
    """Trains both stages; the second starts at the first's best weights.

    Raises:
        WeightsError: The weights do not fit or cannot be had.
        RecipeError: No such network.
    """
    net = seeded(options.seed, lambda: build(model_of(budget.arch, options), 2))
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
        predicted = decided(logits_of(net, pictures[TEST], plan.device)).numpy()
        return Stage(fitted, tuple(never_predicted(pictures[TEST].labels, predicted, SIDES)))

    return stage(first), stage(second)
