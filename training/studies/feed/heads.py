"""The study's heads on frozen features: a new last layer, PCA and SVM, a one-class SVM with its sweep of gamma."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.metrics import roc_curve
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC, OneClassSVM

from training.data.photos import TEST, TRAIN, VAL
from training.errors import DataError
from training.evaluation.figures import BLUE, GREEN, GREY, ORANGE, RED, subplots
from training.heads.features import Features
from training.statistics import Ints, area_under_roc, share
from training.studies.pictures import png, styled
from training.studies.rated import FrozenFeatures
from training.studies.study import Figure, proportion

LAYER, SVM, ONE_CLASS = "layer", "svm", "one-class"
AS_PUBLISHED: Final = "one-class, the article's gamma"
#: The study's values.
COMPONENTS, C, GAMMA, NU = 512, 0.4, 0.011, 0.08
_GAMMAS: Final = (*(float(f"{value:.4g}") for value in np.geomspace(1e-4, 1.0, 17)), GAMMA)
Sided = tuple[Features, Ints]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Area under ROC for each gamma, on the photos that gamma is chosen on and on test photos; the chosen gamma."""

    gammas: tuple[float, ...]
    chosen_on: tuple[float, ...]
    test: tuple[float, ...]
    gamma: float


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head and its metrics on test photos."""

    name: str
    estimator: Any
    accuracy: Figure
    #: Of the photos that it predicts as good, and their share of all.
    precision: Figure
    auc: float
    picked: float
    train_accuracy: float


def svm(train: Sided, wanted: int, seed: int, everything: Features | None = None) -> Pipeline:
    """PCA, whitened, then an SVM with calibrated probabilities.

    Args:
        train: What it is fitted on.
        wanted: Components; fewer where there are fewer photos or features.
        seed: Of PCA's solver.
        everything: As published: PCA is fitted on these features, the test's included.
    """
    features, sides = train
    pca = PCA(min(wanted, *features.shape), whiten=True, random_state=seed)
    machine = CalibratedClassifierCV(SVC(C=C, kernel="rbf"), ensemble=False)
    if everything is None:
        return make_pipeline(pca, machine).fit(features, sides)
    pca.set_params(n_components=min(wanted, *everything.shape)).fit(everything)
    return Pipeline([("pca", pca), ("machine", machine.fit(pca.transform(features), sides))])


def one_class(train: Sided, gamma: float, wanted: int, seed: int, everything: Features | None = None) -> Pipeline:
    """PCA and a one-class SVM, both fitted on good photos alone; as published, PCA on everything.

    Raises:
        DataError: There are none.
    """
    good = train[0][train[1] == 1]
    if len(good) < 2:
        raise DataError("a one-class SVM needs good photos to train on")
    shown = good if everything is None else everything
    pca = PCA(min(wanted, *shown.shape), whiten=True, random_state=seed).fit(shown)
    machine = OneClassSVM(gamma=gamma, nu=NU).fit(pca.transform(good))
    return Pipeline([("pca", pca), ("machine", machine)])


def sweep(  # noqa: PLR0917 - as `one_class`, and the photos to choose and to report on
    train: Sided, chosen_on: Sided, test: Sided, wanted: int, seed: int, everything: Features | None = None
) -> Sweep:
    """Chooses gamma by the area under ROC; of equal ones the nearest to the study's."""
    gammas = tuple(sorted(set(_GAMMAS)))
    rows = []
    for gamma in gammas:
        machine = one_class(train, gamma, wanted, seed, everything)
        rows.append([area_under_roc(machine.decision_function(some), sides == 1) for some, sides in (chosen_on, test)])
    areas = np.array(rows)
    distance = np.abs(np.log(np.array(gammas) / GAMMA))
    best = int(np.lexsort((distance, -areas[:, 0]))[0])
    return Sweep(gammas, tuple(areas[:, 0]), tuple(areas[:, 1]), gammas[best])


def head_of(name: str, estimator: Any, train: Sided, test: Sided) -> Head:  # noqa: ANN401 - scikit-learn ships no types
    """Measures a fitted head."""
    good = estimator.predict_proba(test[0])[:, 1]
    predicted, truth = estimator.predict(test[0]), test[1]
    right, picked = predicted == truth, predicted == 1
    return Head(
        name,
        estimator,
        proportion(float(right.mean()), len(truth)),
        proportion(share(right[picked]), int(picked.sum())),
        area_under_roc(np.asarray(good, np.float64), truth == 1),
        float(picked.mean()),
        float((estimator.predict(train[0]) == train[1]).mean()),
    )


@styled
def roc_plot(found: Sequence[Head], test: Sided) -> bytes:
    """The ROC curves of heads on test photos."""
    axes = subplots(4.6, 4.2)
    for head, colour in zip(found, (BLUE, ORANGE, GREEN, RED), strict=False):
        missed, hit, _ = roc_curve(test[1], head.estimator.predict_proba(test[0])[:, 1])
        axes.plot(missed, hit, color=colour, label=f"{head.name}: {head.auc:.3f}")
    axes.plot((0, 1), (0, 1), color=GREY, lw=1, ls=":")
    axes.set_xlabel("share of poor photos that are picked")
    axes.set_ylabel("share of good photos that are picked")
    axes.legend(fontsize=8, loc="lower right", title="area under ROC")
    return png(axes)


@styled
def sweep_plot(found: Sweep, chosen_on: str) -> bytes:
    """Area under ROC over gamma."""
    axes = subplots(6.0, 3.4)
    axes.semilogx(found.gammas, found.chosen_on, color=BLUE, marker="o", ms=3, label=f"{chosen_on}, chosen on")
    axes.semilogx(found.gammas, found.test, color=ORANGE, marker="o", ms=3, label="test")
    axes.axvline(found.gamma, color=GREY, lw=1, label=f"chosen: {found.gamma:g}")
    axes.axvline(GAMMA, color=GREY, lw=1, ls=":", label=f"the article's: {GAMMA:g}")
    axes.set_xlabel("gamma")
    axes.set_ylabel("area under ROC")
    axes.legend(fontsize=8)
    return png(axes)


def sided(seen: FrozenFeatures) -> dict[str, Sided]:
    """Features and binary labels of every split; as published there is no val.

    Raises:
        DataError: A split lacks good or poor photos.
    """
    found = {split: seen.sided(split) for split in (TRAIN, VAL, TEST) if split != VAL or seen.photos[VAL]}
    for split, (_, sides) in found.items():
        if len(set(sides.tolist())) < 2:
            raise DataError(f"{split} needs photos of both sides, poor and good")
    return found


def majority(test: Sided) -> float:
    """The accuracy of predicting the more frequent label for every photo."""
    good = float(test[1].mean())
    return max(good, 1 - good)
