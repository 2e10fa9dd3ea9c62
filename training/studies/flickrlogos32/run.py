"""Runs the study: photos, every variant, the page's tables and plots."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from training.data.manifest import Manifest
from training.data.photos import TEST, TRAIN, VAL
from training.errors import RecipeError
from training.runs import checkpoint
from training.studies.fit import Pictures
from training.studies.flickrlogos32.classify import CNN, Classifier, write_classifier
from training.studies.flickrlogos32.data import arrange, read
from training.studies.flickrlogos32.report import Finding, report
from training.studies.flickrlogos32.variants import HEAD, TRANSFER, VARIANTS, Settings, Trained, Variant, train
from training.studies.flickrlogos32.views import View, centred, shaken, view_of
from training.studies.labelled import LabelledPhotos
from training.studies.study import Options, Result, settings_of

_QUICK: Final[dict[str, Any]] = {"px": 72, "resize_px": 80, "epochs": 2, "hidden": 32, "transfer": "resnet10-w8"}


def run(options: Options, console: Console) -> Result:
    """Runs the study.

    Raises:
        RecipeError: An unknown setting or variant.
        DataError: The photos cannot be used.
        WeightsError: The weights do not fit or cannot be had.
    """
    settings = settings_of(Settings(), _QUICK, options)
    unknown = sorted(set(settings.variants) - set(VARIANTS))
    if unknown:
        raise RecipeError(f"unknown variant {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    logos = read(options.data, options.seed, settings.workers, console, made=options.made)
    view = view_of(settings.px, settings.resize_px, settings.workers, as_published=options.as_published)
    shown = _pictures(logos, view)
    folder = options.cache / "flickrlogos32"
    _keep_manifest(logos, folder, settings, console)
    trained = {
        name: train(_variant(name, options), settings, options, shown, folder, console) for name in settings.variants
    }
    kept = _keep_best(trained, logos, view, settings, folder)
    return report(Finding(logos, trained, settings, options, view, kept), shown[TRAIN])


def _pictures(logos: LabelledPhotos, view: View) -> dict[str, Pictures]:
    shown = {split: centred(logos.of(split), logos.labels_of(split), view) for split in (VAL, TEST)}
    return {TRAIN: shaken(logos.of(TRAIN), logos.labels_of(TRAIN), view), **shown}


def _keep_manifest(logos: LabelledPhotos, folder: Path, settings: Settings, console: Console) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest("brand", logos.labels, logos.photos)
    checkpoint.write_text(folder / "data.json", json.dumps(manifest.as_json(), indent=1) + "\n")
    if settings.arrange:
        done = arrange(logos.photos, folder)
        console.print(f"photos by class in {folder}: {done['placed']} placed, {done['there']} were there")


def _variant(name: str, options: Options) -> Variant:
    """A variant; as published, the one described as training the last layer only trains all layers."""
    chosen = VARIANTS[name]
    return replace(chosen, trainable=VARIANTS[TRANSFER].trainable) if options.as_published and name == HEAD else chosen


def _keep_best(
    trained: dict[str, Trained], logos: LabelledPhotos, view: View, settings: Settings, folder: Path
) -> Path | None:
    """Writes the best variant on val that needs no threshold, for `classify-logo`."""
    whole = [entry for entry in trained.values() if not entry.variant.rejects]
    if not whole:
        return None
    best = max(whole, key=lambda entry: entry.scores[VAL].accuracy.value)
    path = folder / "classifier.pt"
    arch = CNN if best.variant.net == "cnn" else settings.transfer
    write_classifier(path, Classifier(best.net, logos.labels, view), arch, settings.hidden)
    return path
