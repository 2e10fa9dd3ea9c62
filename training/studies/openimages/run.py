"""Runs the study: crops, the network, the report, the manifest."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console

from training.data.photos import TEST
from training.errors import RecipeError
from training.runs import checkpoint
from training.studies.fit import Fitted, Pictures, Plan, binary_cross_entropy, decided, device_here, fit, logits_of
from training.studies.openimages import rebuild
from training.studies.openimages.data import Dishes, Wanted, pictures, read
from training.studies.openimages.lists import BOXES, CLASSES, PHOTOS
from training.studies.openimages.network import BATCH, EPOCHS, PATIENCE, PX, SmallCNN, optimiser
from training.studies.openimages.placeholders import Rules
from training.studies.openimages.report import Finding, metrics_of, report
from training.studies.study import Options, Result, settings_of


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    classes: tuple[str, ...] = ("Hamburger", "Sandwich")
    px: int = PX
    batch: int = BATCH
    epochs: int = EPOCHS
    patience: int = PATIENCE
    #: Keep photos of one channel, which the study took for placeholders.
    keep_grey: bool = False
    #: A manifest that this run must rebuild.
    manifest: str = ""
    workers: int = 2


_QUICK: Final[dict[str, Any]] = {"px": 40, "epochs": 2}


def run(options: Options, console: Console) -> Result:
    """Runs the study, on one thread where there is no GPU, so that equal data give equal numbers.

    Raises:
        RecipeError: A setting that does not exist, or not two classes.
        DataError: The data cannot be used, or the run does not rebuild the manifest that it must.
    """
    settings = settings_of(Settings(), _QUICK, options)
    if len(set(settings.classes)) != 2:
        raise RecipeError("classes are two: the network has one output")
    folder = options.cache / "openimages"
    dishes = read(options.data, _wanted(settings, options), folder, console)
    shown = pictures(dishes, settings.px, nearest=options.as_published)
    with rebuild.one_thread():
        net, fitted = _trained(shown, settings, options, console)
        said = decided(logits_of(net, shown[TEST], device_here())).numpy()
    metrics = metrics_of(dishes.classes, shown[TEST].labels, said)
    manifest = _manifest(dishes, settings, options, metrics)
    path = folder / "manifest.json"
    equal = rebuild.compare(manifest, Path(settings.manifest)) if settings.manifest else ""
    checkpoint.write_text(path, rebuild.text_of(manifest))
    found = Finding(dishes, options.data, fitted, shown, said, metrics, options.as_published, options.made)
    return report(found, manifest, equal)


def _wanted(settings: Settings, options: Options) -> Wanted:
    rules = Rules(single_channel=not settings.keep_grey, hashes=not options.as_published)
    first, second = settings.classes
    return Wanted((first, second), rules, options.as_published, options.seed, settings.workers)


def _trained(
    shown: dict[str, Pictures], settings: Settings, options: Options, console: Console
) -> tuple[torch.nn.Module, Fitted]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        net = SmallCNN(settings.px)
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
    lists = {name: options.data / name for name in (CLASSES, BOXES, PHOTOS)}
    return rebuild.manifest_of(dishes.crops, lists, kept, metrics)
