"""From nothing to two published versions: train the demo's recipes, evaluate, export, publish."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console

from training import evaluate
from training.data.sets import Batch, Origin
from training.export import deployable, export
from training.models import ResNet10, ServedBrand, ServedQuality
from training.publish import Evidence, publish
from training.recipe_files import read
from training.runs import Run, Split, load_model, load_split
from training.start import new_run, train, unused_name

RECIPES: Final = ("demo-brand", "demo-quality")
#: The whole path in seconds, for tests: the models that it makes are useless.
_QUICK: Final = {
    "demo-brand": {"scenes": 48, "held_out_scenes": 24, "held_out": 150},
    "demo-quality": {"scenes": 48, "train": 128, "held_out": 75},
}
_QUICK_STEPS: Final = 6
#: Photos that torch and ONNX Runtime are compared on.
_PARITY_PHOTOS: Final = 64
_ORIGINS: Final = {"brand": Origin.BRAND, "look-alike": Origin.DISTRACTOR, "clean": Origin.CLEAN}


@dataclass(frozen=True, slots=True)
class Published:
    """Where a version is, what it measured on the test set, and the values of its decision."""

    path: Path
    metrics: dict[str, Any]
    calibration: dict[str, float]


def make_models(
    repository: Path, console: Console, runs: Path, steps: int | None = None, *, quick: bool = False
) -> tuple[Published, ...]:
    """Both models of the demo, brand first; `steps` replaces the recipes' budgets, `quick` makes all of it tiny."""
    return tuple(_make(name, repository, console, runs, steps, quick=quick) for name in RECIPES)


def _make(name: str, repository: Path, console: Console, runs: Path, steps: int | None, *, quick: bool) -> Published:
    overrides = [f"data.sources.0.{key}={value}" for key, value in _QUICK[name].items()] if quick else []
    budget = steps or (_QUICK_STEPS if quick else None)
    overrides += [f"train.steps={budget}"] if budget else []
    run = new_run(read(name, overrides), unused_name(name, runs), runs)
    result = train(run, console)
    net, spec = load_model(run)
    assert isinstance(net, ResNet10)  # noqa: S101 - the demo's recipes say so
    net = deployable(net)
    val, test = (_batch(load_split(run, split)) for split in ("val", "test"))
    val_logits = evaluate.predict(net, val.images)
    temperature = evaluate.fit_temperature(val_logits, val.labels)
    val_shares = torch.softmax(val_logits / temperature, 1)
    test_shares = torch.softmax(evaluate.predict(net, test.images) / temperature, 1)
    served: ServedBrand | ServedQuality
    if name == "demo-brand":
        threshold = evaluate.brand_threshold(val_shares, val.labels, val.origins, evaluate.BrandTarget())
        calibration = {"threshold": threshold, "temperature": temperature}
        metrics = evaluate.brand_metrics(test_shares, test, threshold)
        served = ServedBrand(net, temperature)
    else:
        threshold = evaluate.good_threshold(evaluate.quality_scores(val_shares), val.labels + 1)
        calibration = {"good_threshold": threshold, "temperature": temperature}
        metrics = evaluate.quality_metrics(test_shares, test, threshold)
        served = ServedQuality(net, temperature)
    exported = export(served, tuple(output for output, _ in spec.outputs), _nhwc(test))
    evidence = _evidence(run, result, metrics, calibration, exported.parity)
    return Published(publish(spec, repository, exported, evidence), metrics, calibration)


def _batch(split: Split) -> Batch:
    """A split in memory; quality ratings become level indices."""
    items = list(split)
    shift = 0 if split.photos[0].rating is None else 1
    return Batch(
        torch.stack([item.pixels for item in items]).permute(0, 3, 1, 2).contiguous(),
        torch.tensor([round(item.target) - shift for item in items]),
        torch.tensor([_ORIGINS.get(item.slices.get("origin", ""), 0) for item in items]),
    )


def _nhwc(made: Batch) -> np.ndarray:
    return made.images[:_PARITY_PHOTOS].permute(0, 2, 3, 1).contiguous().numpy()


def _evidence(
    run: Run, result: dict[str, Any], metrics: dict[str, Any], calibration: dict[str, float], parity: float
) -> Evidence:
    recipe = run.recipe()
    training = {
        "network": recipe.model.arch,
        "input_px": recipe.model.input_px,
        **recipe.train.model_dump(mode="json"),
        "seed": recipe.seed,
        "seconds": result["seconds"],
        "cpu_seconds": result["cpu_seconds"],
    }
    recorded = {"test": metrics, "parity_max_abs_difference": parity, "labels": "synthetic, made by code"}
    return Evidence(run.data().sha256, recorded, calibration, training)
