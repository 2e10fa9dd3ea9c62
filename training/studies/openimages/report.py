"""The study's tables, plots, figures and notes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
from training.studies.openimages.rebuild import commands, commands_with_package
from training.studies.openimages.tree import draw_branches, draw_whole, tree, whole_tree
from training.studies.study import Claim, Figure, Result, Table, proportion

_MONTAGE, _MONTAGE_PX = 24, 80
MICRO: Final = "micro avg"
#: Rows of the report below those of the classes.
_DISHES: Final = frozenset({"Hamburger", "Sandwich"})
AVERAGES: Final = (MICRO, "macro avg", "weighted avg")


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
    """Accuracy, and precision, recall, F1 and support of each class and of their averages."""
    found = classification_report(
        labels, predicted, labels=[0, 1], target_names=list(classes), output_dict=True, zero_division=0
    )
    accuracy = float((labels == predicted).mean())
    metrics = {"accuracy": accuracy}
    # with one answer a picture, the micro averages are all accuracy
    found[MICRO] = {**dict.fromkeys(("precision", "recall", "f1-score"), accuracy), "support": len(labels)}
    for name in (*classes, *AVERAGES):
        for key, value in found[name].items():
            metrics[f"{name}, {key}"] = float(value)
    return metrics


def report(found: Finding, manifest: Mapping[str, Any], equal: str) -> Result:
    """The page of a run; `equal` is a note that the run reproduced a manifest, or empty."""
    return Result(
        data=_description(found),
        tables=_tables(found, manifest),
        pictures=_plots(found),
        photos=_photos(found),
        figures=_figures(found),
        notes=_notes(found, manifest, equal),
        differs=_differs(found),
        claims=_claims(found),
    )


def _description(found: Finding) -> str:
    counts = Counter(str(crop.split) for crop in found.dishes.crops)
    size = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
    photos = f"{len(found.dishes.crops)} crops of {found.dishes.photos} photos ({size})"
    if found.made:
        return f"Data made by code in the layout of Open Images: {photos}. Their figures mean nothing."
    return f"Open Images: {photos}."


def _tables(found: Finding, manifest: Mapping[str, Any]) -> dict[str, Table]:
    where = "the crops of training, as published" if found.as_published else "held-out crops"
    lines = [
        (name, *(f"{found.metrics[f'{name}, {key}']:.2f}" for key in ("precision", "recall", "f1-score")),
         f"{found.metrics[f'{name}, support']:.0f}")
        for name in (*found.dishes.classes, *AVERAGES)
    ]  # fmt: skip
    split = Counter((str(crop.label), str(crop.split)) for crop in found.dishes.crops)
    crops = [(name, *(str(split[name, side]) for side in SPLITS)) for name in found.dishes.classes]
    ways = {
        "Rebuild in four commands": commands(manifest, "manifest.json"),
        "Rebuild from the package of crops, without the photo host": commands_with_package(manifest, "manifest.json"),
    }
    rebuilt = {
        title: Table(("", "command"), tuple((str(number), line) for number, line in enumerate(lines, 1)))
        for title, lines in ways.items()
    }
    return {
        f"Classification report on {where}": Table(("", "precision", "recall", "F1", "support"), tuple(lines)),
        "Crops": Table(("class", *SPLITS), tuple(crops)),
        "Epochs": found.fitted.table,
        **rebuilt,
    }


def _photos(found: Finding) -> dict[str, bytes]:
    """A montage of crops, and a photo with its boxes where the photos are at hand."""
    dishes = found.dishes
    chosen = [dishes.crops[int(index)] for index in np.linspace(0, len(dishes.crops) - 1, _MONTAGE)]
    photos = {"Crops": plots.montage([resized(Path(crop.uri), _MONTAGE_PX, nearest=False) for crop in chosen])}
    if dishes.boxes:
        photo = max(dishes.boxes, key=lambda name: len(dishes.boxes[name]))
        drawn = overlay(photo_file(found.data, photo), dishes.boxes[photo])
        photos[f"Boxes of photo {photo}"] = plots.photo_png(drawn)
    return photos


def _plots(found: Finding) -> dict[str, bytes]:
    dishes, wanted = found.dishes, frozenset(found.dishes.classes)
    pictures = {}
    if branches := tree(found.data, wanted):
        pictures["Where the classes stand in the tree of all classes"] = draw_branches(branches)
        every = whole_tree(found.data, wanted)
        pictures[f"The tree of all classes: {len(every)} nodes"] = draw_whole(every)
    pictures["Loss by epoch"] = _losses(found.fitted)
    pictures["Answers on the crops of the report"] = plots.confusion(
        confusion(found.shown[TEST].labels, found.predicted, 2), dishes.classes
    )
    return pictures


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
        figures[f"{name}, F1"] = Figure(found.metrics[f"{name}, f1-score"])
    for name in AVERAGES:
        for key, title in (("precision", "precision"), ("recall", "recall"), ("f1-score", "F1")):
            figures[f"{name}, {title}"] = Figure(found.metrics[f"{name}, {key}"])
    figures["epochs"] = Figure(float(len(found.fitted.epochs)))
    figures["train accuracy of the best epoch"] = Figure(found.fitted.best.accuracy[TRAIN])
    return figures


def _differs(found: Finding) -> dict[str, str]:
    photos = "drawings by code" if found.made else "other photos" if set(found.dishes.classes) != _DISHES else ""
    where = "on the crops that it was trained on, as published" if found.as_published else "on held-out crops"
    differs = {"": f"{photos}; {where}" if photos else where}
    counts = photos or "photos that are still there"
    return {**differs, "epochs": photos, **{f"crops of {name}": counts for name in _DISHES}}


def _claims(found: Finding) -> tuple[Claim, ...]:
    share, labels = found.metrics["accuracy"], found.shown[TEST].labels
    accuracy, most = proportion(share, len(labels)), float(max(np.bincount(labels)) / len(labels))
    said = f"{accuracy.value:.3f} ({accuracy.interval}); the more frequent class has {most:.3f}"
    learned = found.fitted.best.accuracy[TRAIN]
    return (
        Claim(
            "a small network without pretraining tells the two classes apart at 0.73", said, (accuracy.low or 0) > most
        ),
        Claim(
            "what it says of the photos that it was trained on is what it is worth",
            f"{learned:.3f} on train in its best epoch, {share:.3f} on held-out crops",
            None if found.as_published else (accuracy.low or 0) <= learned <= (accuracy.high or 1),
        ),
    )


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
    notes.append("`photo-trainer predict PHOTOS --run OUT/openimages-run` asks the network, saved beside this page.")
    if found.dishes.boxes:
        notes.append("The cropped data is a package in the cache (openimages/package), which --data takes.")
    notes.append(f"The manifest (manifest.json in the cache) has data of SHA-256 {manifest['data']['sha256']}.")
    return (*notes, equal) if equal else tuple(notes)
