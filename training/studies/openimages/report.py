"""The study's tables, plots, figures and notes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from sklearn.metrics import classification_report

from training.data.photos import SPLITS, TEST, TRAIN
from training.evaluation.brand import confusion, never_predicted
from training.statistics import Ints, wilson
from training.studies import pictures as plots
from training.studies.fit import Fitted, Pictures
from training.studies.openimages.crops import overlay, png, resized
from training.studies.openimages.data import Dishes
from training.studies.openimages.fetch import photo_file
from training.studies.openimages.hierarchy import drawn, tree
from training.studies.openimages.rebuild import commands
from training.studies.study import Figure, Result, Table

_MONTAGE, _MONTAGE_PX = 24, 80


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run of the study has to tell."""

    dishes: Dishes
    data: Path
    fitted: Fitted
    shown: Mapping[str, Pictures]
    #: What the network says of the crops that are reported on.
    said: Ints
    metrics: Mapping[str, float]
    as_published: bool
    made: bool


def metrics_of(classes: tuple[str, str], labels: Ints, said: Ints) -> dict[str, float]:
    """Accuracy, and precision, recall, F1 and count of each class."""
    found = classification_report(
        labels, said, labels=[0, 1], target_names=list(classes), output_dict=True, zero_division=0
    )
    metrics = {"accuracy": float((labels == said).mean())}
    for name in classes:
        for key, value in found[name].items():
            metrics[f"{name}, {key}"] = float(value)
    return metrics


def report(found: Finding, manifest: Mapping[str, Any], equal: str) -> Result:
    """The result of a run; `equal` says that it rebuilt a manifest, where it had to."""
    return Result(
        data=_said(found),
        tables=_tables(found, manifest),
        pictures=_plots(found),
        figures=_figures(found),
        notes=_notes(found, manifest, equal),
    )


def _said(found: Finding) -> str:
    counts = Counter(str(crop.split) for crop in found.dishes.crops)
    size = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
    photos = f"{len(found.dishes.crops)} crops of {len(found.dishes.boxes)} photos ({size})"
    if found.made:
        return f"Data made by code in the layout of Open Images: {photos}. Their figures mean nothing."
    return f"Open Images: {photos}."


def _tables(found: Finding, manifest: Mapping[str, Any]) -> dict[str, Table]:
    where = "the crops of training, as published" if found.as_published else "held-out crops"
    lines = [
        (name, *(f"{found.metrics[f'{name}, {key}']:.2f}" for key in ("precision", "recall", "f1-score")),
         f"{found.metrics[f'{name}, support']:.0f}")
        for name in found.dishes.classes
    ]  # fmt: skip
    split = Counter((str(crop.label), str(crop.split)) for crop in found.dishes.crops)
    crops = [(name, *(str(split[name, side]) for side in SPLITS)) for name in found.dishes.classes]
    steps = tuple((str(number), line) for number, line in enumerate(commands(manifest, "manifest.json"), 1))
    return {
        f"Classification report on {where}": Table(("class", "precision", "recall", "F1", "crops"), tuple(lines)),
        "Crops": Table(("class", *SPLITS), tuple(crops)),
        "Epochs": found.fitted.table,
        "Rebuild in four commands": Table(("", "command"), steps),
    }


def _plots(found: Finding) -> dict[str, bytes]:
    epochs = found.fitted.epochs

    def losses(canvas: Canvas) -> None:
        axes = canvas.subplots()
        numbers = [epoch.number for epoch in epochs]
        axes.plot(numbers, [epoch.loss for epoch in epochs], label="train")
        axes.plot(numbers, [epoch.val_loss for epoch in epochs], label="val")
        axes.axvline(found.fitted.best.number, color=plots.GREY, linestyle=":", label="best")
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.legend()

    dishes = found.dishes
    chosen = [dishes.crops[int(index)] for index in np.linspace(0, len(dishes.crops) - 1, _MONTAGE)]
    photo = max(dishes.boxes, key=lambda name: len(dishes.boxes[name]))
    pictures = {
        "Crops": plots.montage([resized(Path(crop.uri), _MONTAGE_PX, nearest=False) for crop in chosen]),
        f"Boxes of photo {photo}": png(overlay(photo_file(found.data, photo), dishes.boxes[photo])),
    }
    branches = tree(found.data, frozenset(dishes.classes))
    if branches:
        pictures["Where the classes stand in the tree of all classes"] = drawn(branches)
    pictures["Loss by epoch"] = plots.plot(losses)
    pictures["Answers on the crops of the report"] = plots.confusion(
        confusion(found.shown[TEST].labels, found.said, 2), dishes.classes
    )
    return pictures


def _figures(found: Finding) -> dict[str, Figure]:
    labels, said = found.shown[TEST].labels, found.said
    figures = {}
    for name in found.dishes.classes:
        figures[f"crops of {name}"] = Figure(float(sum(crop.label == name for crop in found.dishes.crops)))
    hits = wilson(int((labels == said).sum()), len(labels))
    figures["accuracy"] = Figure(found.metrics["accuracy"], hits.low, hits.high)
    figures["always the more frequent class, accuracy"] = Figure(float(max(np.bincount(labels)) / len(labels)))
    for index, name in enumerate(found.dishes.classes):
        for key, there in (("precision", said == index), ("recall", labels == index)):
            interval = wilson(int(((labels == said) & there).sum()), int(there.sum()))
            figures[f"{name}, {key}"] = Figure(found.metrics[f"{name}, {key}"], interval.low, interval.high)
    figures["epochs"] = Figure(float(len(found.fitted.epochs)))
    figures["train accuracy of the best epoch"] = Figure(found.fitted.best.accuracy[TRAIN])
    return figures


def _notes(found: Finding, manifest: Mapping[str, Any], equal: str) -> tuple[str, ...]:
    best, epochs = found.fitted.best.number, len(found.fitted.epochs)
    kept = "the last epoch's weights are kept, as published" if found.as_published else "its weights are restored"
    notes = [
        *found.dishes.notes,
        f"Training ended after {epochs} epochs; the best loss on val was in epoch {best}: {kept}.",
    ]
    if found.as_published:
        notes.append("As published, the report is on the crops that were trained on: it says nothing about new photos.")
    never = never_predicted(found.shown[TEST].labels, found.said, found.dishes.classes)
    if never:
        notes.append(f"The network never says {' or '.join(never)}: it collapsed.")
    notes.append(f"The manifest (manifest.json in the cache) has data of SHA-256 {manifest['data']['sha256']}.")
    return (*notes, equal) if equal else tuple(notes)
