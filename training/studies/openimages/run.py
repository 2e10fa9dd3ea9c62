"""Runs the study: crops, the network and its training, the report, the manifest."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from torch.nn import Parameter

from training.data.photos import SPLITS, TEST, TRAIN
from training.errors import RecipeError
from training.models.small_cnn import PX, SmallCNN
from training.runs import checkpoint
from training.studies.affine import Affine
from training.studies.fit import (
    Fitted,
    Pictures,
    Plan,
    binary_cross_entropy,
    decided,
    device_here,
    fit,
    in_memory,
    logits_of,
    seeded,
)
from training.studies.openimages import rebuild
from training.studies.openimages.crops import resized
from training.studies.openimages.data import Dishes, Wanted, read
from training.studies.openimages.placeholders import Rules
from training.studies.openimages.report import Finding, metrics_of, report
from training.studies.openimages.saved import RUN, Trained, write_run
from training.studies.study import Options, Result, settings_of

RATE: Final = 5e-4
#: Augmentation as of Keras' ImageDataGenerator.
CHANGES: Final = Affine(rotation_deg=40, shift=0.2, shear_deg=0.2, zoom=0.2, flip=True)


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    classes: tuple[str, ...] = ("Hamburger", "Sandwich")
    px: int = PX
    batch: int = 16
    epochs: int = 50
    patience: int = 4
    #: Keep photos of one channel, which the study took for placeholders.
    keep_grey: bool = False
    #: A manifest that this run must reproduce.
    manifest: str = ""
    workers: int = 2


_QUICK: Final[dict[str, Any]] = {"px": 40, "epochs": 2}


def run(options: Options, console: Console) -> Result:
    """Runs the study, on one thread where there is no GPU, so that equal data give equal numbers.

    Raises:
        RecipeError: An unknown setting, or not two classes.
        DataError: The data cannot be used, or the run does not reproduce the manifest given.
    """
    settings = settings_of(Settings(), _QUICK, options)
    if len(set(settings.classes)) != 2:
        raise RecipeError("classes are two: the network has one output")
    folder = options.cache / "openimages"
    dishes = read(options.data, _wanted(settings, options), folder, console)
    shown = pictures(dishes, settings.px, nearest=options.as_published)
    with rebuild.one_thread():
        net, fitted = _trained(shown, settings, options, console)
        predicted = decided(logits_of(net, shown[TEST], device_here())).numpy()
    metrics = metrics_of(dishes.classes, shown[TEST].labels, predicted)
    manifest = _manifest(dishes, settings, options, metrics)
    path = folder / "manifest.json"
    equal = rebuild.compare(manifest, Path(settings.manifest)) if settings.manifest else ""
    checkpoint.write_text(path, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    write_run(options.out / RUN, net, settings.px, dishes, Trained(options.seed, fitted, metrics))
    found = Finding(dishes, options.data, fitted, shown, predicted, metrics, options.as_published, options.made)
    return report(found, manifest, equal)


def _wanted(settings: Settings, options: Options) -> Wanted:
    rules = Rules(single_channel=not settings.keep_grey, hashes=not options.as_published)
    first, second = settings.classes
    return Wanted((first, second), rules, options.as_published, options.seed, settings.workers)


def _trained(
    shown: dict[str, Pictures], settings: Settings, options: Options, console: Console
) -> tuple[SmallCNN, Fitted]:
    net = seeded(options.seed, lambda: SmallCNN(settings.px))
    plan = Plan(
        settings.epochs,
        settings.batch,
        optimiser,
        binary_cross_entropy,
        monitor="loss",
        keep="last" if options.as_published else "best",
        patience=settings.patience,
        seed=options.seed,
        device=device_here(),
        name="small-cnn",
    )
    return net, fit(net, shown, plan, options.cache / "openimages", console)


def _manifest(dishes: Dishes, settings: Settings, options: Options, metrics: dict[str, float]) -> dict[str, Any]:
    kept = {name: value for name, value in asdict(settings).items() if name not in {"manifest", "workers"}}
    kept |= {"classes": list(settings.classes), "seed": options.seed, "as_published": options.as_published}
    return rebuild.manifest_of(dishes.crops, dishes.lists, kept, metrics)


def pictures(dishes: Dishes, px: int, *, nearest: bool) -> dict[str, Pictures]:
    """The crops of every split as the network takes them, 0..1; those of training are augmented.

    Without a split, as published, training's crops are val's and test's too.
    """
    made = {}
    for split in SPLITS:
        crops = dishes.of(split) or dishes.of(TRAIN)
        pixels = torch.from_numpy(np.stack([resized(Path(crop.uri), px, nearest=nearest) for crop in crops]))
        made[split] = in_memory(pixels, dishes.labels(crops), _scaled, CHANGES if split == TRAIN else None)
    return made


def _scaled(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2).float() / 255


def optimiser(weights: Iterable[Parameter]) -> torch.optim.Optimizer:
    """Keras' RMSprop at half of its default rate."""
    return torch.optim.RMSprop(weights, RATE, alpha=0.9, eps=1e-7)
