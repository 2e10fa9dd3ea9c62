"""From nothing to two published versions: compose data, train, evaluate, export, publish."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from training import data, evaluate, train
from training.bundle import Bundle
from training.data.backgrounds import Split, background_bank
from training.data.marks import Marks, brand_marks, distractor_marks
from training.data.sets import INPUT_PX, Batch, composer, quality_set
from training.export import deployable, export
from training.model_config import BRAND, QUALITY
from training.models import ResNet10, ServedBrand, ServedQuality
from training.progress import task
from training.publish import Evidence, publish

#: Modules of `training.data` that decide what the training data is.
_DATA_MODULES = ("backgrounds.py", "compose.py", "degrade.py", "marks.py", "sets.py")
#: Photos that torch and ONNX Runtime are compared on.
_PARITY_PHOTOS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything; the defaults are what `make models` runs."""

    scenes: int = 1600
    held_out_scenes: int = 350
    held_out_photos: int = 2400
    quality_photos: int = 8000
    brand: train.Recipe = field(default_factory=lambda: train.Recipe(steps=1000, seed=1))
    quality: train.Recipe = field(default_factory=lambda: train.Recipe(steps=540, seed=2))
    #: OpenMP threads of an operation; data is made by other threads meanwhile.
    threads: int = 1


#: The whole path in seconds, for tests: the models that it makes are useless.
QUICK = Plan(
    scenes=48,
    held_out_scenes=24,
    held_out_photos=150,
    quality_photos=128,
    brand=train.Recipe(steps=6, batch=32),
    quality=train.Recipe(steps=6, batch=32),
)


@dataclass(frozen=True, slots=True)
class Scenes:
    """Canvases and look-alikes of one split."""

    bank: torch.Tensor
    distractors: Marks


@dataclass(frozen=True, slots=True)
class Published:
    """Where a version is, what it measured on the test set, and the values of its decision."""

    path: Path
    metrics: dict[str, Any]
    calibration: dict[str, float]


class Timer:
    """Seconds that each stage of a run took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of its block under `name`."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def data_manifest(plan: Plan) -> str:
    """SHA-256 of what decides the composed data, and stands for it: the code that makes it, its sources, the plan."""
    digest = hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode())
    for name in _DATA_MODULES:
        digest.update(Path(data.__file__).with_name(name).read_bytes())
    for package in ("simpleicons", "scikit-image", "scikit-learn"):
        digest.update(f"{package}=={installed(package)}".encode())
    return digest.hexdigest()


def make_scenes(plan: Plan, console: Console) -> dict[Split, Scenes]:
    """Backgrounds and look-alikes of every split."""
    counts = {Split.TRAIN: plan.scenes, Split.VAL: plan.held_out_scenes, Split.TEST: plan.held_out_scenes}
    with task(console, "backgrounds", sum(counts.values())) as done:
        return {
            split: Scenes(background_bank(seed, split, counts[split], on_done=done), distractor_marks(split))
            for seed, split in enumerate(Split)
        }


def _shuffled(made: Batch, seed: int, batch: int) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    """Endless random batches of a fixed set; half of them mirrored, which damages nothing."""
    rng = np.random.default_rng(seed)
    order: Iterator[torch.Tensor] = iter(())

    def next_batch(_step: int) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal order
        chosen = next(order, None)
        if chosen is None or len(chosen) < batch:
            order = iter(torch.split(torch.from_numpy(rng.permutation(len(made.labels))), batch))
            chosen = next(order)
        images = made.images[chosen]
        return (images.flip(3) if rng.random() < 0.5 else images), made.labels[chosen]

    return next_batch


def _nhwc(made: Batch) -> np.ndarray:
    return made.images[:_PARITY_PHOTOS].permute(0, 2, 3, 1).contiguous().numpy()


def make_brand(plan: Plan, scenes: dict[Split, Scenes], repository: Path, console: Console) -> Published:
    """Trains, evaluates and publishes the brand model."""
    timer, brands = Timer(), brand_marks()
    makers = {split: composer(split, part.bank, brands, part.distractors) for split, part in scenes.items()}
    rng = np.random.default_rng(plan.brand.seed)

    def next_batch(_step: int) -> tuple[torch.Tensor, torch.Tensor]:
        made = makers[Split.TRAIN].batch(rng, plan.brand.batch)
        return made.images, made.labels

    torch.manual_seed(plan.brand.seed)
    net = ResNet10(len(BRAND.labels))
    with timer.stage("train"), task(console, "brand model", plan.brand.steps * plan.brand.batch) as done:
        net = deployable(train.fit(net, next_batch, train.brand_loss, plan.brand, done))
    val, test = (
        makers[split].fixed(100 + seed, plan.held_out_photos) for seed, split in enumerate((Split.VAL, Split.TEST))
    )
    val_logits = evaluate.predict(net, val.images)
    temperature = evaluate.fit_temperature(val_logits, val.labels)
    threshold = evaluate.brand_threshold(
        torch.softmax(val_logits / temperature, 1), val.labels, val.origins, evaluate.BrandTarget()
    )
    calibration = {"threshold": threshold, "temperature": temperature}
    metrics = evaluate.brand_metrics(
        torch.softmax(evaluate.predict(net, test.images) / temperature, 1), test, threshold
    )
    exported = export(ServedBrand(net, temperature), ("brand_probs",), _nhwc(test))
    evidence = _evidence(plan, plan.brand, metrics, calibration, timer, exported.parity)
    return Published(publish(BRAND, repository, Bundle(exported), evidence), metrics, calibration)


def make_quality(plan: Plan, scenes: dict[Split, Scenes], repository: Path, console: Console) -> Published:
    """Damages photos, then trains, evaluates and publishes the quality model."""
    timer = Timer()
    counts = {
        Split.TRAIN: plan.quality_photos,
        Split.VAL: plan.held_out_photos // 2,
        Split.TEST: plan.held_out_photos // 2,
    }
    with timer.stage("data"), task(console, "damaged photos", sum(counts.values())) as done:
        sets = {
            split: quality_set(200 + seed, scenes[split].bank, scenes[split].distractors, counts[split], done)
            for seed, split in enumerate(Split)
        }
    torch.manual_seed(plan.quality.seed)
    net, next_batch = ResNet10(len(QUALITY.labels)), _shuffled(sets[Split.TRAIN], plan.quality.seed, plan.quality.batch)
    with timer.stage("train"), task(console, "quality model", plan.quality.steps * plan.quality.batch) as done:
        net = deployable(train.fit(net, next_batch, train.quality_loss, plan.quality, done))
    val, test = sets[Split.VAL], sets[Split.TEST]
    val_logits = evaluate.predict(net, val.images)
    temperature = evaluate.fit_temperature(val_logits, val.labels)
    scores = evaluate.quality_scores(torch.softmax(val_logits / temperature, 1))
    threshold = evaluate.good_threshold(scores, val.labels + 1)
    calibration = {"good_threshold": threshold, "temperature": temperature}
    metrics = evaluate.quality_metrics(
        torch.softmax(evaluate.predict(net, test.images) / temperature, 1), test, threshold
    )
    exported = export(ServedQuality(net, temperature), tuple(name for name, _ in QUALITY.outputs), _nhwc(test))
    evidence = _evidence(plan, plan.quality, metrics, calibration, timer, exported.parity)
    return Published(publish(QUALITY, repository, Bundle(exported), evidence), metrics, calibration)


def _evidence(  # noqa: PLR0917 - each is one part of what a manifest records
    plan: Plan,
    recipe: train.Recipe,
    metrics: dict[str, Any],
    calibration: dict[str, float],
    timer: Timer,
    parity: float,
) -> Evidence:
    training = {
        "network": "ResNet10",
        "input_px": INPUT_PX,
        **asdict(recipe),
        "bf16": train.fast_bf16(),
        "threads": torch.get_num_threads(),
        "seconds": timer.seconds,
    }
    recorded = {"test": metrics, "parity_max_abs_difference": parity, "labels": "synthetic, made by code"}
    return Evidence(data_manifest(plan), recorded, calibration, training)


def make_models(plan: Plan, repository: Path, console: Console) -> tuple[Published, Published]:
    """Both models of the demo, brand first; see the module's line for the steps."""
    torch.set_num_threads(plan.threads)
    scenes = make_scenes(plan, console)
    return make_brand(plan, scenes, repository, console), make_quality(plan, scenes, repository, console)
