"""Frozen backbones with a new last layer: metrics, confusion, and the classes that a collapsed model never predicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from training.data.photos import SPLITS, TEST, TRAIN, VAL
from training.evaluation import brand
from training.heads.evaluation import LABELS
from training.heads.features import Features, weights_sha256
from training.statistics import Ints
from training.studies.rated import FrozenFeatures, balanced, last_layer, levels
from training.studies.study import Figure, proportion

SIDES = ("poor", "good")
#: What a layer was trained on.
NATURAL, EVEN, SIDED = "5 levels as they come", "5 levels, balanced", "poor and good, balanced"


@dataclass(frozen=True, slots=True)
class Layer:
    """A new last layer on a frozen network, and its metrics."""

    estimator: Any
    #: By split.
    accuracy: Mapping[str, float]
    test: Figure
    macro_recall: float
    #: [true, predicted] on test photos.
    confusion: Ints
    names: tuple[str, ...]
    #: Classes of test photos that the layer never predicts: it collapsed.
    never: tuple[str, ...]
    #: Of the network, before and after.
    weights_before: str
    weights_after: str


def five(seen: FrozenFeatures, seed: int, *, balance: bool) -> Layer:
    """A layer of five levels, trained on all photos or on equally many of each level; val and test stay unbalanced."""
    truth = {split: levels(photos) for split, photos in seen.photos.items()}
    chosen = balanced(truth[TRAIN].tolist(), seed) if balance else np.arange(len(truth[TRAIN]))
    data = {split: (np.asarray(seen.features[split]), truth[split]) for split in SPLITS}
    return _layer(seen, data, chosen, LABELS)


def two(seen: FrozenFeatures, seed: int) -> Layer:
    """A binary layer of poor and good; level 3 is dropped, and training is balanced."""
    data = {split: seen.sided(split) for split in SPLITS}
    return _layer(seen, data, balanced(data[TRAIN][1].tolist(), seed), SIDES)


def layers(seen: FrozenFeatures, seed: int) -> dict[str, Layer]:
    """All layers on a network, by what they were trained on."""
    return {
        NATURAL: five(seen, seed, balance=False),
        EVEN: five(seen, seed, balance=True),
        SIDED: two(seen, seed),
    }


def figure_of(what: str, measure: str = "test accuracy") -> str:
    """The name of a layer's figure."""
    return f"frozen network, {what}, {measure}"


def figures(found: Mapping[str, Layer]) -> dict[str, Figure]:
    """The figures of a network's layers by name."""
    named = {}
    for what, layer in found.items():
        named[figure_of(what)] = layer.test
        named[figure_of(what, "macro recall")] = Figure(layer.macro_recall)
    return named


def _layer(
    seen: FrozenFeatures, data: Mapping[str, tuple[Features, Ints]], chosen: Ints, names: tuple[str, ...]
) -> Layer:
    before = weights_sha256(seen.source.net)
    features, truth = data[TRAIN]
    estimator = last_layer().fit(features[chosen], truth[chosen])
    predicted = {split: estimator.predict(values) for split, (values, _) in data.items()}
    accuracy = {split: float((predicted[split] == data[split][1]).mean()) for split in (VAL, TEST)}
    accuracy[TRAIN] = float((predicted[TRAIN][chosen] == truth[chosen]).mean())
    test = data[TEST][1]
    return Layer(
        estimator,
        accuracy,
        proportion(accuracy[TEST], len(test)),
        float(balanced_accuracy_score(test, predicted[TEST])),
        brand.confusion(test, predicted[TEST], len(names)),
        names,
        tuple(brand.never_predicted(test, predicted[TEST], names)),
        before,
        weights_sha256(seen.source.net),
    )


def cells(name: str, seen: FrozenFeatures, layer: Layer, what: str) -> tuple[str, ...]:
    """A row of the results table."""
    same = "unchanged" if layer.weights_before == layer.weights_after else "CHANGED"
    return (
        name,
        str(seen.source.geometry.input_size),
        seen.source.origin.partition(";")[0],
        what,
        *(f"{layer.accuracy[split]:.3f}" for split in SPLITS),
        layer.test.interval,
        f"{layer.macro_recall:.3f}",
        ", ".join(layer.never) or "none",
        same,
    )


HEADER = (
    "network", "px", "weights", "trained on", "train", "val", "test", "95 %", "macro recall", "never said", "backbone",
)  # fmt: skip
