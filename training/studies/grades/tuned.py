"""Fine-tuning a whole network for poor against good: Adam at 1e-3, then RMSprop at 1e-5 from its best weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from training.data.decode import Geometry
from training.data.manifest import Manifest
from training.data.photos import SPLITS, TEST, TRAIN, VAL
from training.data.pixels import cached_stack
from training.evaluation.brand import never_predicted
from training.heads.features import origin_of
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
from training.studies.study import Figure, Options, proportion

#: The study's two stages.
FIRST_RATE, SECOND_RATE = 1e-3, 1e-5
FIRST, SECOND = "Adam 1e-3", "then RMSprop 1e-5"
HEADER: Final = (
    "network", "px", "weights", "stage", "best epoch", "train", "val", "test", "95 %", "macro recall", "never said",
)  # fmt: skip


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
    """A finished stage, and what its best weights predict for test photos."""

    fitted: Fitted
    test: Figure
    macro_recall: float
    #: Classes that are never predicted: it collapsed.
    never: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A fine-tuned network, its input size, and where its first weights came from."""

    arch: str
    px: int
    origin: str
    first: Stage
    second: Stage

    @property
    def stages(self) -> dict[str, Stage]:
        """By name, in order."""
        return {FIRST: self.first, SECOND: self.second}


def tune(manifest: Manifest, budget: Budget, options: Options, folder: Path, console: Console) -> Tuned:
    """Trains both stages; the second starts at the first's best weights.

    Raises:
        WeightsError: The weights do not fit or cannot be had.
        RecipeError: No such network.
    """
    model = model_of(budget.arch, options)
    net = seeded(options.seed, lambda: build(model, 2))
    px = budget.px or natural_px(budget.arch)
    pictures = pictures_of(manifest, px, options.seed, budget.workers, options.cache)
    first = Plan(
        epochs=budget.epochs,
        batch=budget.batch,
        optimiser=lambda parameters: torch.optim.Adam(parameters, FIRST_RATE),
        loss=cross_entropy(),
        seed=options.seed,
        device=device_here(),
        name=f"{budget.arch.replace('/', '-')}-adam",
        unfinished=options.unfinished("grades"),
    )
    second = replace(
        first,
        optimiser=lambda parameters: torch.optim.RMSprop(parameters, SECOND_RATE),
        name=f"{budget.arch.replace('/', '-')}-rmsprop",
    )
    stages = [_stage(net, pictures, plan, folder, console) for plan in (first, second)]
    return Tuned(budget.arch, px, origin_of(model, options.seed), *stages)


def _stage(net: nn.Module, pictures: Mapping[str, Pictures], plan: Plan, folder: Path, console: Console) -> Stage:
    fitted = fit(net, pictures, plan, folder, console)
    truth = pictures[TEST].labels
    predicted = decided(logits_of(net, pictures[TEST], plan.device)).numpy()
    never = tuple(never_predicted(truth, predicted, SIDES))
    if never:
        console.print(f"alarm: {plan.name} never says {', '.join(never)}: it collapsed", style="yellow")
    accuracy = proportion(float((predicted == truth).mean()), len(truth))
    return Stage(fitted, accuracy, float(balanced_accuracy_score(truth, predicted)), never)


def lines(tuned: Tuned) -> list[tuple[str, ...]]:
    """The rows of a network in the table of fine-tuning."""
    start = (tuned.arch, str(tuned.px), tuned.origin.partition(";")[0])
    return [
        (
            *start,
            name,
            f"{stage.fitted.best.number} of {len(stage.fitted.epochs)}",
            *(f"{stage.fitted.best.accuracy[split]:.3f}" for split in (TRAIN, VAL)),
            f"{stage.test.value:.3f}",
            stage.test.interval,
            f"{stage.macro_recall:.3f}",
            ", ".join(stage.never) or "none",
        )
        for name, stage in tuned.stages.items()
    ]
