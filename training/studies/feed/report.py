"""The study's tables, plots, montages, figures and findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.data.decode import Geometry
from training.data.manifest import Manifest
from training.data.photos import SPLITS, TEST, TRAIN, Photo
from training.data.pixels import photo_pixels
from training.studies.feed import heads
from training.studies.feed.heads import Head, Sweep
from training.studies.pictures import montage
from training.studies.rated import FrozenFeatures, crossing_note, described, sides
from training.studies.study import Claim, Figure, Options, Result, Table

#: Photos of a montage, and their size in px.
_SHOWN, _SHOWN_PX = 24, 96
_HEAD: Final = (
    "network", "weights", "head", "train accuracy", "test accuracy", "95 %", "area under ROC", "picked",
    "precision of picks", "95 % of it",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Network:
    """One network's heads."""

    seen: FrozenFeatures
    heads: tuple[Head, ...]
    sweep: Sweep
    majority: float
    cpu_minutes: float

    def head(self, name: str) -> Head:
        """The head of a name."""
        return next(head for head in self.heads if head.name == name)


def report(
    networks: Mapping[str, Network], manifest: Manifest, trial: Mapping[str, Figure], components: int, options: Options
) -> Result:
    """The result of a run; the figures are those of the first network."""
    first = next(iter(networks.values()))
    chosen_on = "test, as published" if options.as_published else "val"
    return Result(
        _data(manifest, options),
        {
            "Heads on frozen features": _table(networks),
            "Area under ROC of the one-class SVM": _sweep_table(first.sweep, chosen_on),
        },
        {
            "The one-class SVM's gamma": heads.sweep_plot(first.sweep, chosen_on.partition(",")[0]),
            "ROC curves on test photos": heads.roc_plot(first.heads, first.seen.sided(TEST)),
        },
        {**_figures(first, manifest), **trial},
        _notes(first, manifest, components, trial),
        _montages(first),
        _differs(first, options),
        _claims(first, trial),
    )


def _table(networks: Mapping[str, Network]) -> Table:
    lines: list[tuple[str, ...]] = []
    for arch, network in networks.items():
        lines += [(arch, network.seen.source.origin.partition(";")[0], *_cells(head)) for head in network.heads]
        lines.append((arch, "", "always the more frequent side", "", f"{network.majority:.3f}", *("",) * 5))
    return Table(_HEAD, tuple(lines))


def _cells(head: Head) -> tuple[str, ...]:
    accuracy, precision = head.accuracy, head.precision
    shares = (f"{accuracy.value:.3f}", accuracy.interval, f"{head.auc:.3f}", f"{head.picked:.1%}")
    return (head.name, f"{head.train_accuracy:.3f}", *shares, f"{precision.value:.3f}", precision.interval)


def _sweep_table(found: Sweep, chosen_on: str) -> Table:
    names = {found.gamma: " (chosen)", heads.GAMMA: " (the article's)"}
    rows = [
        (f"{gamma:g}{names.get(gamma, '')}", f"{one:.3f}", f"{other:.3f}")
        for gamma, one, other in zip(found.gammas, found.chosen_on, found.test, strict=True)
    ]
    return Table(("gamma", chosen_on, "test"), tuple(rows))


def _montages(first: Network) -> dict[str, bytes]:
    """Good and poor training photos, and the test photos that the new last layer is surest of."""
    train = first.seen.photos[TRAIN]
    which, values = sides(train)
    shown = {
        f"{name} photos of train": [train[int(index)] for index in which[values == side]]
        for side, name in ((1, "Good"), (0, "Poor"))
    }
    test, truth = first.seen.photos[TEST], sides(first.seen.photos[TEST])[0]
    layer = first.head(heads.LAYER)
    sure = layer.estimator.predict_proba(first.seen.sided(TEST)[0])[:, 1]
    best = [test[int(truth[place])] for place in np.argsort(-sure, kind="stable")]
    shown[f"Picked photos of test: those that the head {layer.name} is surest of"] = best
    return {title: _montage(photos[:_SHOWN]) for title, photos in shown.items()}


def _montage(photos: Sequence[Photo]) -> bytes:
    geometry = Geometry(_SHOWN_PX, _SHOWN_PX)
    return montage([photo_pixels(photo, geometry) for photo in photos])


def _figures(first: Network, manifest: Manifest) -> dict[str, Figure]:
    counts = {split: len(manifest.of(split)) / len(manifest.photos) for split in SPLITS}
    layer, machine = first.head(heads.LAYER), first.head(heads.SVM)
    one, published = first.head(heads.ONE_CLASS), first.head(heads.AS_PUBLISHED)
    spent = {} if first.seen.cached else {"frozen network, CPU minutes": Figure(first.cpu_minutes)}
    return {
        "frozen network, new last layer, test accuracy": layer.accuracy,
        **spent,
        "share of photos to train on": Figure(1 - counts[TEST]),
        "share of photos to test on": Figure(counts[TEST]),
        "PCA components": Figure(float(machine.estimator[0].n_components_)),
        "one-class SVM, gamma": Figure(first.sweep.gamma),
        "one-class SVM, nu": Figure(heads.NU),
        "always the more frequent side, test accuracy": Figure(first.majority),
        "PCA and SVM, test accuracy": machine.accuracy,
        "PCA and SVM, precision of picks on test": machine.precision,
        "one-class SVM, area under ROC": Figure(one.auc),
        f"one-class SVM with gamma {heads.GAMMA:g}, area under ROC": Figure(published.auc),
    }


def _differs(first: Network, options: Options) -> dict[str, str]:
    source = first.seen.source
    photos = "drawings by code" if options.made else "other photos"
    ours = f"{source.arch} ({source.origin.partition(';')[0]}) on {photos}"
    val = "" if options.as_published else "val is a part of it"
    trial = "a live trial of other photos" if not options.made else ""
    same = {"one-class SVM, nu": "the same value", "share of photos to test on": "the same division"}
    trials = ("picked by the model in the live trial", "usable share of the picks", "share of the picks in context")
    return {"": ours, "share of photos to train on": val, **same, **dict.fromkeys(trials, trial)}


def _claims(first: Network, trial: Mapping[str, Figure]) -> tuple[Claim, ...]:
    layer, machine = first.head(heads.LAYER), first.head(heads.SVM)
    one, published = first.head(heads.ONE_CLASS), first.head(heads.AS_PUBLISHED)
    usable = trial.get("usable share of the picks")
    return (
        Claim(
            "a frozen network under a new last layer tells good photos from poor ones at 0.82",
            f"{layer.accuracy.value:.3f} ({layer.accuracy.interval}); the more frequent side has {first.majority:.3f}",
            (layer.accuracy.low or 0) > first.majority and (layer.accuracy.high or 1) >= 0.82,
        ),
        Claim(
            "PCA and an SVM take the place of the new last layer, as the better head",
            f"{machine.accuracy.value:.3f} against {layer.accuracy.value:.3f} of the layer",
            None if machine.accuracy == layer.accuracy else machine.accuracy.value > layer.accuracy.value,
        ),
        Claim(
            f"gamma {heads.GAMMA:g} is best by the ROC of the one-class SVM",
            f"{first.sweep.gamma:g} is best; test area {one.auc:.3f} against {published.auc:.3f} at {heads.GAMMA:g}",
            first.sweep.gamma == heads.GAMMA,
        ),
        Claim(
            "about half of what the model picks from live photos is usable",
            "no live trial" if usable is None else f"{usable.value:.3f} ({usable.interval})",
            None if usable is None else (usable.low or 0) <= 0.5 <= (usable.high or 1),
        ),
    )


def _data(manifest: Manifest, options: Options) -> str:
    counts = described(manifest)
    if options.made:
        return (
            f"{counts}, drawn and damaged by code: no camera, no people. What is measured shows that every step runs; "
            "it says nothing of the published figures."
        )
    return f"{counts}. They are not the study's photos, so the figures are not comparable one to one."


def _notes(first: Network, manifest: Manifest, components: int, trial: Mapping[str, Figure]) -> tuple[str, ...]:
    source = first.seen.source
    kept = ", ".join(f"OUT/feed-{name}" for name in (heads.LAYER, heads.SVM, heads.ONE_CLASS))
    random = " Features of random weights tell little." if source.origin.startswith("random") else ""
    alone = () if trial else ("No live trial stands here: photo-trainer trial, then --set trial=report.json.",)
    return (
        f"The figures are those of {source.arch} with {source.origin}.{random}",
        crossing_note(manifest.photos),
        "The one-class SVM learns from good photos alone; poor ones only scale its probability and choose gamma.",
        f"Heads that can be published (photo-trainer head publish): {kept}.",
        f"PCA keeps {components} components, or as many as there are photos and features.",
        *alone,
    )
