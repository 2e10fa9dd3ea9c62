"""The study's tables, plots, figures and notes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import classification_report

from training.data.photos import SPLITS, TEST, TRAIN
from training.evaluation.brand import confusion, never_predicted
from training.evaluation.figures import GREY, subplots
from training.statistics import Ints
from training.studies import pictures as plots
from training.studies.fit import Fitted, Pictures
from training.studies.openimages.crops import overlay, resized
from training.studies.openimages.data import Dishes
from training.studies.openimages.fetch import photo_file
from training.studies.openimages.lists import tree
from training.studies.openimages.rebuild import commands
from training.studies.study import Figure, Result, Table, proportion

_MONTAGE, _MONTAGE_PX = 24, 80


@dataclass(frozen=True, slots=True)
class Finding:
    """The results of a run."""

    dishes: Dishes
    data: Path
    fitted: Fitted
    shown: Mapping[str, Pictures]
    #: Predicted labels of the crops that are reported on.
    predicted: Ints
    metrics: Mapping[str, float]
    as_published: bool
    made: bool


def metrics_of(classes: tuple[str, str], labels: Ints, predicted: Ints) -> dict[str, float]:
    """Accuracy, and precision, recall, F1 and count of each class."""
    found = classification_report(
        labels, predicted, labels=[0, 1], target_names=list(classes), output_dict=True, zero_division=0
    )
    metrics = {"accuracy": float((labels == predicted).mean())}
    for name in classes:
        for key, value in found[name].items():
            metrics[f"{name}, {key}"] = float(value)
    return metrics


def report(found: Finding, manifest: Mapping[str, Any], equal: str) -> Result:
    """The page of a run; `equal` is a note that the run reproduced a manifest, or empty."""
    return Result(
        data=_description(found),
        tables=_tables(found, manifest),
        pictures=_plots(found),
        figures=_figures(found),
        notes=_notes(found, manifest, equal),
    )


def _description(found: Finding) -> str:
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
    dishes = found.dishes
    chosen = [dishes.crops[int(index)] for index in np.linspace(0, len(dishes.crops) - 1, _MONTAGE)]
    photo = max(dishes.boxes, key=lambda name: len(dishes.boxes[name]))
    pictures = {
        "Crops": plots.montage([resized(Path(crop.uri), _MONTAGE_PX, nearest=False) for crop in chosen]),
        f"Boxes of photo {photo}": plots.photo_png(overlay(photo_file(found.data, photo), dishes.boxes[photo])),
    }
    branches = tree(found.data, frozenset(dishes.classes))
    if branches:
        pictures["Where the classes stand in the tree of all classes"] = _drawn(branches)
    pictures["Loss by epoch"] = _losses(found.fitted)
    pictures["Answers on the crops of the report"] = plots.confusion(
        confusion(found.shown[TEST].labels, found.predicted, 2), dishes.classes
    )
    return pictures


@plots.styled
def _drawn(lines: list[tuple[int, str]]) -> bytes:
    """The branches of the hierarchy as a picture."""
    axes = subplots(6.0, 0.25 * len(lines) + 0.4)
    axes.set_axis_off()
    for row, (depth, text) in enumerate(lines):
        axes.text(depth, -row, text, va="center")
        if depth:
            above = next(index for index in range(row - 1, -1, -1) if lines[index][0] == depth - 1)
            corner = depth - 0.75
            axes.plot([corner, corner, depth - 0.1], [-above - 0.4, -row, -row], color=GREY, linewidth=1)
    axes.set_xlim(-0.2, max(depth for depth, _ in lines) + 2)
    axes.set_ylim(-len(lines) + 0.5, 0.5)
    return plots.png(axes)


@plots.styled
def _losses(fitted: Fitted) -> bytes:
    axes, numbers = subplots(6.0, 3.4), [epoch.number for epoch in fitted.epochs]
    axes.plot(numbers, [epoch.loss for epoch in fitted.epochs], label="train")
    axes.plot(numbers, [epoch.val_loss for epoch in fitted.epochs], label="val")
    axes.axvline(fitted.best.number, color=GREY, linestyle=":", label="best")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.legend()
    return plots.png(axes)


def _figures(found: Finding) -> dict[str, Figure]:
    labels, predicted = found.shown[TEST].labels, found.predicted
    figures = {}
    for name in found.dishes.classes:
        figures[f"crops of {name}"] = Figure(float(sum(crop.label == name for crop in found.dishes.crops)))
    figures["accuracy"] = proportion(found.metrics["accuracy"], len(labels))
    figures["always the more frequent class, accuracy"] = Figure(float(max(np.bincount(labels)) / len(labels)))
    for index, name in enumerate(found.dishes.classes):
        for key, there in (("precision", predicted == index), ("recall", labels == index)):
            figures[f"{name}, {key}"] = proportion(found.metrics[f"{name}, {key}"], int(there.sum()))
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
    never = never_predicted(found.shown[TEST].labels, found.predicted, found.dishes.classes)
    if never:
        notes.append(f"The network never says {' or '.join(never)}: it collapsed.")
    notes.append(f"The manifest (manifest.json in the cache) has data of SHA-256 {manifest['data']['sha256']}.")
    return (*notes, equal) if equal else tuple(notes)
