"""The study's classifier on features: a variance threshold, then one linear classifier or a bag of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.ensemble import BaggingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline

from training.data.inspect import inspect_all
from training.data.photos import Photo
from training.data.pixels import stack
from training.data.walk import photo_files
from training.errors import DataError
from training.heads.features import Backbone, Features, features_of
from training.statistics import Floats, Ints

VARIANCE: Final = 0.1
MEMBERS: Final = 10
_TOP: Final = 5
#: Share of val photos whose highest probability is below the limit.
_FLAGGED_SHARE: Final = 0.05


def single(photos: int, seed: int) -> SGDClassifier:
    """One linear classifier with the study's values, for a number of training photos."""
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
    """A bag of them, each on half of the photos and on half of the features, drawn with replacement."""
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

    Features of other weights may have another scale.
    """
    return float(min(wanted, np.nextafter(np.median(np.var(features, axis=0, dtype=np.float64)), 0)))


def head(features: Features, classifier: Any) -> Pipeline:  # noqa: ANN401 - scikit-learn ships no types
    """The variance threshold and a classifier, not fitted yet; `features` are those of training alone."""
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
    """Log loss and accuracy of a fitted head."""
    values: list[float] = []
    for features, labels in ((sides.train, sides.train_labels), (sides.val, sides.val_labels)):
        shares = fitted.predict_proba(features).astype(np.float64)
        shares /= shares.sum(1, keepdims=True)  # with float32 features the members' sums are only nearly 1
        values += [float(log_loss(labels, shares, labels=fitted.classes_)), float((shares.argmax(1) == labels).mean())]
    return Worth(*values)


def over_seeds(sides: Sides, seeds: Sequence[int], members: int, *, bag: bool) -> list[Worth]:
    """The metrics of a head for each seed."""
    count = len(sides.train_labels)
    made = (bagged(count, seed, members) if bag else single(count, seed) for seed in seeds)
    return [worth(head(sides.train, one).fit(sides.train, sides.train_labels), sides) for one in made]


@dataclass(frozen=True, slots=True)
class Guess:
    """The most probable classes of a picture, best first, and whether the best is below the limit."""

    picture: str
    classes: tuple[tuple[str, float], ...]
    flagged: bool
    #: The picture as the network sees it: uint8 [S, S, 3].
    seen: np.ndarray

    @property
    def text(self) -> str:
        """For a table."""
        return ", ".join(f"{name} {share:.2f}" for name, share in self.classes)


def flag_limit(shares: Floats) -> float:
    """The highest probability that 95 % of val photos reach; below it, a picture is probably out of distribution."""
    return float(np.quantile(shares.max(1), _FLAGGED_SHARE))


@dataclass(frozen=True, slots=True)
class Reader:
    """A head on its backbone, with the limit of out-of-distribution pictures."""

    source: Backbone
    #: A fitted classifier.
    fitted: Any
    labels: Sequence[str]
    limit: float


def guesses(reader: Reader, folder: Path) -> list[Guess]:
    """The five most probable classes of every readable picture in a folder, in order of their names.

    Raises:
        DataError: No readable picture there.
    """
    files = photo_files(folder)
    found, _ = inspect_all([Photo(path.name, str(path), "outside") for path in files], 1)
    if not found:
        raise DataError(f"no readable pictures in {folder}")
    made = []
    for item in found:
        pixels = stack([item], reader.source.geometry, 1)
        features = features_of(reader.source, pixels)
        shares = reader.fitted.predict_proba(features)[0]
        best = np.argsort(-shares, kind="stable")[:_TOP]
        named = tuple((reader.labels[int(reader.fitted.classes_[index])], float(shares[index])) for index in best)
        seen = pixels[0].permute(1, 2, 0).numpy()
        made.append(Guess(item.id, named, named[0][1] < reader.limit, seen))
    return made
