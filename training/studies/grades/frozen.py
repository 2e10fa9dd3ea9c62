"""Frozen backbones under a new last layer: one results table, the confusion, and the alarm for a collapsed model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.photos import SPLITS, TEST, TRAIN, VAL
from training.evaluation import brand
from training.heads.evaluation import LABELS
from training.heads.features import Features, weights_sha256
from training.statistics import Ints, wilson
from training.studies.frozen_features import FrozenFeatures
from training.studies.rated import balanced, levels
from training.studies.study import Figure

SIDES = ("poor", "good")


@dataclass(frozen=True, slots=True)
class Layer:
    """A new last layer on a frozen network, and what it does."""

    estimator: Any
    #: By split.
    accuracy: Mapping[str, float]
    test: Figure
    macro_recall: float
    #: [true, said] on test photos.
    confusion: Ints
    names: tuple[str, ...]
    #: Names of classes that test photos show and the layer never says: it collapsed.
    never: tuple[str, ...]
    #: Of the network, before and after.
    weights_before: str
    weights_after: str


def five(seen: FrozenFeatures, seed: int, *, balance: bool) -> Layer:
    """A layer of five levels, trained on photos as they come, or on as many of each level; val and test stay whole."""
    truth = {split: levels(photos) for split, photos in seen.photos.items()}
    chosen = balanced(truth[TRAIN].tolist(), seed) if balance else np.arange(len(truth[TRAIN]))
    data = {split: (np.asarray(seen.features[split]), truth[split]) for split in SPLITS}
    return _layer(seen, data, chosen, LABELS)


def two(seen: FrozenFeatures, seed: int) -> Layer:
    """A layer of poor and good; level 3 is dropped, and training is balanced."""
    data = {split: seen.sided(split) for split in SPLITS}
    return _layer(seen, data, balanced(data[TRAIN][1].tolist(), seed), SIDES)


def _layer(
    seen: FrozenFeatures, data: Mapping[str, tuple[Features, Ints]], chosen: Ints, names: tuple[str, ...]
) -> Layer:
    before = weights_sha256(seen.source.net)
    features, truth = data[TRAIN]
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    estimator.fit(features[chosen], truth[chosen])
    said = {split: estimator.predict(values) for split, (values, _) in data.items()}
    accuracy = {split: float((said[split] == data[split][1]).mean()) for split in (VAL, TEST)}
    accuracy[TRAIN] = float((said[TRAIN][chosen] == truth[chosen]).mean())
    test = data[TEST][1]
    interval = wilson(round(accuracy[TEST] * len(test)), len(test))
    return Layer(
        estimator,
        accuracy,
        Figure(accuracy[TEST], interval.low, interval.high),
        float(balanced_accuracy_score(test, said[TEST])),
        brand.confusion(test, said[TEST], len(names)),
        names,
        collapsed(test, said[TEST], names),
        before,
        weights_sha256(seen.source.net),
    )


def collapsed(truth: Ints, said: Ints, names: tuple[str, ...]) -> tuple[str, ...]:
    """The classes that a model never says though photos show them."""
    return tuple(brand.never_predicted(truth, said, names))


def cells(name: str, seen: FrozenFeatures, layer: Layer, what: str) -> tuple[str, ...]:
    """A line of the results table."""
    same = "unchanged" if layer.weights_before == layer.weights_after else "CHANGED"
    return (
        name,
        str(seen.source.geometry.input_size),
        seen.source.origin,
        what,
        *(f"{layer.accuracy[split]:.3f}" for split in SPLITS),
        f"{layer.test.low:.3f} to {layer.test.high:.3f}",
        f"{layer.macro_recall:.3f}",
        ", ".join(layer.never) or "none",
        same,
    )


HEADER = (
    "network", "px", "weights", "trained on", "train", "val", "test", "95 %", "macro recall", "never said", "backbone",
)  # fmt: skip
