"""The study's classifier on features: a variance threshold, then bagged linear classifiers, or one alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.ensemble import BaggingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline

from training.heads.features import Features
from training.statistics import Ints

VARIANCE: Final = 0.1
MEMBERS: Final = 10


def single(photos: int, seed: int) -> SGDClassifier:
    """One linear classifier with the study's values, for so many training photos."""
    return SGDClassifier(
        loss="log_loss",
        penalty="elasticnet",
        alpha=1 / photos,
        class_weight="balanced",
        fit_intercept=False,
        tol=1e-3,
        random_state=seed,
    )


def bagged(photos: int, seed: int, members: int = MEMBERS) -> BaggingClassifier:
    """A bag of them, each on half of the photos and a draw of half of the features."""
    return BaggingClassifier(
        estimator=single(photos, seed),
        n_estimators=members,
        max_samples=0.5,
        max_features=0.5,
        bootstrap_features=True,
        random_state=seed,
    )


def threshold_for(features: Features, wanted: float = VARIANCE) -> float:
    """The study's variance threshold, or less where it would leave under half of the features.

    Features of other weights may be of another size altogether.
    """
    return float(min(wanted, np.nextafter(np.median(np.var(features, axis=0, dtype=np.float64)), 0)))


def head(features: Features, classifier: Any) -> Pipeline:  # noqa: ANN401 - scikit-learn ships no types
    """The threshold and a classifier, not fitted yet; `features` are those of training alone."""
    return make_pipeline(VarianceThreshold(threshold_for(features)), classifier)


@dataclass(frozen=True, slots=True)
class Worth:
    """Log loss and accuracy on both sides."""

    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True, slots=True)
class Sides:
    """Features and classes of both sides; every class is trained on."""

    train: Features
    train_labels: Ints
    val: Features
    val_labels: Ints


def worth(fitted: Pipeline, sides: Sides) -> Worth:
    """What a fitted head is worth."""
    values: list[float] = []
    for features, labels in ((sides.train, sides.train_labels), (sides.val, sides.val_labels)):
        shares = fitted.predict_proba(features).astype(np.float64)
        shares /= shares.sum(1, keepdims=True)  # of float32 features the members' sums are only nearly 1
        values += [float(log_loss(labels, shares, labels=fitted.classes_)), float((shares.argmax(1) == labels).mean())]
    return Worth(*values)


def over_seeds(sides: Sides, seeds: Sequence[int], members: int, *, bag: bool) -> list[Worth]:
    """The worth of a head for each seed."""
    found = []
    for seed in seeds:
        count = len(sides.train_labels)
        classifier = bagged(count, seed, members) if bag else single(count, seed)
        found.append(worth(head(sides.train, classifier).fit(sides.train, sides.train_labels), sides))
    return found
