"""Runs the study: the photos, every variant, the page's tables and plots."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from training.data.photos import TEST, TRAIN, VAL
from training.errors import RecipeError
from training.runs import checkpoint
from training.studies.fit import Pictures, device_here
from training.studies.flickrlogos32.classify import CNN, Classifier, write_classifier
from training.studies.flickrlogos32.data import Logos, arrange, read
from training.studies.flickrlogos32.report import Finding, report
from training.studies.flickrlogos32.variants import HEAD, TRANSFER, VARIANTS, Trained, Training, Variant, train
from training.studies.flickrlogos32.views import View, centred, shaken, view_of
from training.studies.study import Options, Result, settings_of


@dataclass(frozen=True, slots=True)
class Settings:
    """The study's values."""

    px: int = 224
    resize_px: int = 256
    epochs: int = 20
    batch: int = 40
    rate: float = 0.01
    weight_decay: float = 1e-3
    hidden: int = 4096
    transfer: str = "timm/resnetv2_18"
    variants: tuple[str, ...] = tuple(VARIANTS)
    #: Also put the photos into {train,val,test}_data/<class>/ below the cache.
    arrange: bool = False
    workers: int = 2


_QUICK: Final[dict[str, Any]] = {"px": 72, "resize_px": 80, "epochs": 2, "hidden": 32, "transfer": "resnet10-w8"}


def run(options: Options, console: Console) -> Result:
    """Runs the study.

    Raises:
        RecipeError: A setting, or a variant, that does not exist.
        DataError: The photos cannot be used.
        WeightsError: The weights do not fit or cannot be had.
    """
    settings = settings_of(Settings(), _QUICK, options)
    unknown = sorted(set(settings.variants) - set(VARIANTS))
    if unknown:
        raise RecipeError(f"no variant {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    logos = read(options.data, options.seed, settings.workers, console, made=options.made)
    view = view_of(settings.px, settings.resize_px, settings.workers, as_published=options.as_published)
    shown = _pictures(logos, view)
    folder = options.cache / "flickrlogos32"
    _keep_manifest(logos, folder, settings, console)
    training = _training(settings, options)
    trained = {name: train(_variant(name, options), training, shown, folder, console) for name in settings.variants}
    kept = _keep_best(trained, logos, view, training, folder)
    return report(Finding(logos, trained, training, view, kept), shown[TRAIN])


def _training(settings: Settings, options: Options) -> Training:
    return Training(
        px=settings.px,
        epochs=settings.epochs,
        batch=settings.batch,
        rate=settings.rate,
        weight_decay=settings.weight_decay,
        hidden=settings.hidden,
        arch=settings.transfer,
        weights=options.weights.get(settings.transfer),
        pretrained=options.pretrained and settings.transfer not in options.weights,
        seed=options.seed,
        device=device_here(),
    )


def _pictures(logos: Logos, view: View) -> dict[str, Pictures]:
    shown = {split: centred(logos.of(split), logos.labels_of(split), view) for split in (VAL, TEST)}
    return {TRAIN: shaken(logos.of(TRAIN), logos.labels_of(TRAIN), view), **shown}


def _keep_manifest(logos: Logos, folder: Path, settings: Settings, console: Console) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text(folder / "data.json", json.dumps(logos.manifest.as_json(), indent=1) + "\n")
    if settings.arrange:
        done = arrange(logos.manifest.photos, folder)
        console.print(f"photos by class in {folder}: {done['placed']} placed, {done['there']} were there")


def _variant(name: str, options: Options) -> Variant:
    """A variant; as published, the one that is said to train the last layer only trains all."""
    chosen = VARIANTS[name]
    return replace(chosen, trainable=VARIANTS[TRANSFER].trainable) if options.as_published and name == HEAD else chosen


def _keep_best(trained: dict[str, Trained], logos: Logos, view: View, training: Training, folder: Path) -> Path | None:
    """Writes the best variant on val that needs no threshold, for `classify-logo`."""
    whole = [entry for entry in trained.values() if not entry.variant.rejects]
    if not whole:
        return None
    best = max(whole, key=lambda entry: entry.scores[VAL].accuracy.value)
    path = folder / "classifier.pt"
    arch = CNN if best.variant.net == "cnn" else training.arch
    write_classifier(path, Classifier(best.net, logos.manifest.labels, view), arch, training.hidden)
    return path
